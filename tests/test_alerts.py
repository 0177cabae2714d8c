"""The life of an alert: it opens, updates, escalates and resolves, under one identity, without flapping, and by the clock."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

import pytest
from builders import NOW, T0, event, folded, rule, ruleset, scored
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.alerts import UPDATE_EVERY_MS, alert_id, due, follow, judge, reload, resolve_all
from streams.conversation import Conversation, advance
from streams.episodes import EPISODES, HITS, Episode, Watches, kept, next_number, open_episode, with_hits
from streams.quotes import QUOTE
from streams.records import SEVERITIES, Alert, RuleRef, Scored, Source
from streams.rules import RuleSet, load
from streams.wire import decode_state, encode

DEFAULTS = load(None)
LAST = "{measure: score.last, lte: -0.5}"
"""Holds while the last turn of the customer is negative."""


class Judged:
    """A call as it goes on: the alerts so far, and the state after them, which has been stored and loaded each time."""

    def __init__(self, rules: RuleSet) -> None:
        self.rules, self.alerts = rules, list[Alert]()
        self.call: Conversation | None = None

    def hear(self, *turns: Scored) -> "Judged":
        for turn in turns:
            self.lapse(turn.source.timestamp)
            judgement = follow(self.call, advance(self.call, turn), turn, self.rules)
            self.call = decode_state(encode(judgement.call))
            assert self.call == judgement.call
            self.alerts += judgement.alerts
        return self

    def lapse(self, clock: int) -> "Judged":
        """Lets what is due happen, as a lane's clock does."""
        while self.call is not None and self.call.rules_due is not None and self.call.rules_due <= clock:
            at, judgement = self.call.rules_due, due(self.call, self.rules)
            assert judgement.call.rules_due is None or judgement.call.rules_due > at
            self.call = judgement.call
            self.alerts += judgement.alerts
        return self

    def after(self, seconds: float) -> "Judged":
        return self.lapse(T0 + int(seconds * 1000))

    def closed(self) -> "Judged":
        assert self.call is not None
        judgement = resolve_all(self.call, self.call.at_ms)
        self.call = judgement.call
        self.alerts += judgement.alerts
        return self

    def story(self, name: str = "r") -> list[tuple[float, str, str]]:
        """The events of one rule: when (seconds of the call), what, how grave."""
        return [(a.at_ms / 1000, a.event, a.severity) for a in self.alerts if a.rule.name == name]


def said(*scores: float, first: int = 0) -> list[Scored]:
    """The customer's turns, which end 4, 14, 24, … s into the call and arrive then."""
    return [scored(n, score, timestamp=T0 + n * 10_000 + 4_000) for n, score in enumerate(scores, start=first)]


def judged(turns: Sequence[Scored], rules: RuleSet = DEFAULTS) -> Judged:
    return Judged(rules).hear(*turns)


def test_an_episode_opens_once_and_resolves_when_it_has_passed() -> None:
    assert judged(said(0, -1, -1, 0, 0), rule(LAST)).story() == [(14, "open", "warning"), (34, "resolve", "warning")]


def test_between_entry_and_exit_it_neither_opens_nor_resolves() -> None:
    found = rule(LAST, until="{measure: score.last, gte: 0.5}")
    assert judged(said(0, -1, 0, 0.4, 0), found).story() == [(14, "open", "warning")]
    assert judged(said(0, -1, 0, 0.5, 0), found).story() == [(14, "open", "warning"), (34, "resolve", "warning")]
    assert judged(said(0, 0.4, 0, 0.5), found).story() == []


def test_a_minimum_duration_is_waited_for_and_fires_though_nothing_arrives() -> None:
    found = rule(LAST, lasting="15s")
    assert judged(said(-1, 0, -1, 0), found).story() == []
    call = judged(said(0, -1), found)
    assert call.story() == []
    assert call.after(28.9).story() == []
    assert call.after(29).story() == [(29, "open", "warning")]
    assert judged(said(0, -1, -1, -1), found).story() == [(29, "open", "warning")], "the same, whatever makes the clock go on"


def test_a_minimum_duration_begins_anew_after_an_interruption() -> None:
    assert judged(said(-1, 0, -1, -1), rule(LAST, lasting="15s")).after(38).story() == []
    assert judged(said(-1, 0, -1, -1), rule(LAST, lasting="15s")).after(39).story() == [(39, "open", "warning")]


def test_what_comes_back_within_the_cooldown_is_one_episode() -> None:
    flapping = said(*[-1, 0] * 6)
    assert judged(flapping, rule(LAST, cooldown="30s")).after(143.9).story()[1:] == [
        (44, "update", "warning"), (84, "update", "warning")
    ]  # fmt: skip
    many = judged(flapping, rule(LAST)).story()
    assert [event for _, event, _ in many] == ["open", "resolve"] * 6
    assert judged(flapping, rule(LAST, cooldown="30s")).after(144).story()[-1] == (144, "resolve", "warning")


def test_a_cooldown_ends_though_nothing_arrives_and_begins_anew_when_it_comes_back() -> None:
    call = judged(said(-1, 0), rule(LAST, cooldown="30s"))
    assert call.after(43.9).story() == [(4, "open", "warning")]
    assert call.after(44).story()[-1] == (44, "resolve", "warning")
    again = judged(said(-1, 0, -1, 0), rule(LAST, cooldown="25s"))
    assert again.after(58.9).story() == [(4, "open", "warning")]
    assert again.after(59).story()[-1] == (59, "resolve", "warning")


def test_it_escalates_by_a_condition_at_once_and_never_falls_again() -> None:
    found = rule("{measure: score.last, lte: -0.1}", escalate="{to: critical, when: {measure: score.last, lte: -0.9}}")
    assert judged(said(-0.2, -0.2, -1, -0.2, -1), found).story() == [
        (4, "open", "warning"), (24, "escalate", "critical")
    ]  # fmt: skip
    assert judged(said(-1, -0.2), found).story() == [(4, "open", "critical")], "as grave as it is when it opens"


def test_it_escalates_by_the_lapse_of_time_step_by_step_while_it_lasts() -> None:
    steps = "[{to: warning, after: 12s}, {to: critical, after: 20s, when: {measure: score.last, lte: -0.5}}]"
    found = rule("{measure: score.last, lte: -0.1}", severity="info", escalate=steps)
    assert judged(said(-1), found).after(60).story() == [
        (4, "open", "info"), (16, "escalate", "warning"), (24, "escalate", "critical")
    ]  # fmt: skip
    assert judged(said(-1, 0), found).after(60).story() == [(4, "open", "info"), (14, "resolve", "info")]
    assert judged(said(-0.2, -0.2, -0.2), found).after(60).story()[:2] == [(4, "open", "info"), (16, "escalate", "warning")]
    assert judged(said(-0.2, -0.2, -0.2, -1), found).story()[-1] == (34, "escalate", "critical")


def test_it_is_updated_at_the_speakers_turns_when_thirty_seconds_have_passed() -> None:
    assert UPDATE_EVERY_MS == 30_000
    agent = [replace(turn, speaker="agent", segment_id=f"a{i}") for i, turn in enumerate(said(*[0] * 4, first=8))]
    call = judged([*said(*[-1] * 8), *agent], rule(LAST))
    assert call.story() == [(4, "open", "warning"), (34, "update", "warning"), (64, "update", "warning")]


def test_silence_is_alerted_when_nobody_speaks_and_resolved_when_somebody_does() -> None:
    found = rule("{silence: 30s}")
    call = judged(said(0.0), found)
    assert call.after(33.9).story() == []
    assert call.after(34).story() == [(34, "open", "warning")]
    assert call.alerts[0].values == {"silence_s": 30}
    assert call.hear(*said(0.0, first=6)).story()[1:] == [(64, "resolve", "warning")]
    assert call.after(93).story()[2:] == []
    assert call.after(94).story()[2:] == [(94, "open", "warning")]


def test_a_partial_ends_a_silence_and_an_event_does_not() -> None:
    found = rule("{silence: 30s}")
    partial = replace(scored(3), final=False)
    assert judged([*said(0.0), partial], found).after(59.9).story() == []
    assert judged([*said(0.0), partial], found).after(60).story() == [(60, "open", "warning")], "30 s after the partial"
    note = event(3, "update", attributes={"queue": "x"})
    assert judged([*said(0.0), note], found).after(34).story() == [(34, "open", "warning")]


def test_before_the_first_word_and_after_the_hang_up_there_is_no_silence() -> None:
    found = rule("{silence: 30s}")
    assert judged([event(0, "start")], found).after(3_600).story() == []
    assert judged([*said(0.0), event(1, "end")], found).after(3_600).story() == []


def test_attributes_that_come_later_bring_a_call_into_scope_and_out_of_it() -> None:
    found = rule(LAST, scope="{attributes: {queue: vip*}}")
    arrives = event(2, "update", attributes={"queue": "vip-1"})
    call = judged([*said(-1, -1), arrives], found)
    assert call.story() == [(20, "open", "warning")]
    assert call.alerts[0].attributes == {"queue": "vip-1"}
    call.hear(event(3, "update", attributes={"queue": "sales"}))
    assert call.alerts[1].reason == "The call is no longer one that the rule is for."
    assert [alert.event for alert in call.alerts] == ["open", "resolve"]


def test_what_had_begun_to_hold_is_forgotten_out_of_scope() -> None:
    found = rule(LAST, lasting="15s", scope="{attributes: {queue: vip}}")
    turns = [scored(0, -1, attributes={"queue": "vip"}), event(1, "update", attributes={"queue": "x"})]
    call = judged([*turns, event(2, "update", attributes={"queue": "vip"})], found)
    assert call.after(33.9).story() == []


def test_the_end_of_the_call_resolves_what_is_open() -> None:
    call = judged(said(-1, -1), rule(LAST)).closed()
    assert call.story() == [(4, "open", "warning"), (14, "resolve", "warning")]
    assert (call.alerts[-1].reason, call.alerts[-1].status) == ("The call is over.", "resolved")
    assert call.closed().story()[2:] == []


def test_an_alert_never_goes_back_in_time() -> None:
    call = judged(said(0.0), rule("{silence: 30s}")).after(34)
    late = scored(9, 0.0, start_ms=5_000, end_ms=9_000, timestamp=T0 + 36_000)
    assert call.hear(late).story() == [(34, "open", "warning"), (34, "resolve", "warning")]


def test_a_second_episode_is_another_alert_with_the_next_number() -> None:
    call = judged(said(-1, 0, -1, 0, -1), rule(LAST))
    ids = list(dict.fromkeys(alert.alert_id for alert in call.alerts))
    assert [alert_id("call-1", RuleRef("r", 1), n, f"s{2 * (n - 1)}") for n in (1, 2, 3)] == ids
    assert call.call is not None
    assert [(e.number, e.resolved) for e in call.call.episodes] == [(1, True), (2, True), (3, False)]
    assert alert_id("call-1", RuleRef("r", 9), 1, "s0") == hashlib.sha256(b"call-1\x1fr\x1f1\x1fs0").hexdigest()[:32]


def test_an_identity_depends_on_call_rule_number_and_what_opened_it() -> None:
    ids = {
        alert_id(call, RuleRef(name, 1), number, opened_by)
        for call in ("a", "b") for name in ("x", "y") for number in (1, 2) for opened_by in ("s1", "@1000")
    }  # fmt: skip
    assert len(ids) == 16
    found = rule("{silence: 30s}")
    shifted = [replace(turn, source=replace(turn.source, timestamp=turn.source.timestamp + 777)) for turn in said(0.0)]
    one, other = (judged(turns, found).after(100).alerts[0] for turns in (said(0.0), shifted))
    assert (one.alert_id, one.at_ms) == (other.alert_id, other.at_ms), "a replay's timestamps are shifted"


def test_evidence_is_at_most_five_turns_with_bounded_text() -> None:
    turns = [replace(turn, text="말" * 10_000) for turn in said(*[-1.0, 0.0] * 6)]
    (alert, *_) = judged(turns, rule("{measure: turns.scored, gte: 12}")).alerts
    assert [e.segment_id for e in alert.evidence] == ["s7", "s8", "s9", "s10", "s11"]
    assert {(len(e.text), e.text[-1]) for e in alert.evidence} == {(QUOTE, "…")}
    (alert, *_) = judged(turns, rule("{measure: turns.scored, gte: 12}", evidence="{label: negative, turns: 1}")).alerts
    assert [e.segment_id for e in alert.evidence] == ["s10"]
    (alert, *_) = judged(turns, rule("{measure: turns.scored, gte: 12}", evidence="{turns: 0}")).alerts
    assert alert.evidence == ()


def test_an_alert_says_when_where_and_why() -> None:
    start = event(0, "start", started_at=NOW, attributes={"queue": "sales"})
    (alert,) = judged([start, *said(-1, -1, -1, first=1)]).alerts
    assert (alert.at_ms, alert.at, alert.at_source) == (34_000, NOW + timedelta(seconds=34), "call")
    assert (alert.call_id, alert.attributes) == ("call-1", {"queue": "sales"})
    assert (alert.rule, alert.severity) == (RuleRef("sustained_negative", 3), "info")
    assert alert.reason == "The customer stays negative: 3 of the last 3 turns."
    assert alert.values == {"negative.count": 3, "negative.of": 3, "score.ewma": -0.657, "turns.negative": 3}


def test_a_value_that_is_not_there_is_a_dash_in_the_reason() -> None:
    found = rule("{any: [{silence: 5s}, {label: negative, turns: 1}]}", reason='"{negative.count} {silence_s}"')
    assert judged([scored(0)], found).after(9).alerts[0].reason == "– 5"


def test_an_acknowledged_episode_stays_open_and_says_so() -> None:
    call = judged(said(-1), rule(LAST))
    assert call.call is not None
    (episode,) = call.call.episodes
    call.call = replace(call.call, episodes=(replace(episode, acknowledged=True),))
    call.hear(*said(-1, first=4), *said(0, first=5))
    assert [(a.event, a.status) for a in call.alerts[1:]] == [("update", "acknowledged"), ("resolve", "resolved")]


@pytest.mark.parametrize(
    "quiet",
    [
        scored(4, -1, speaker="agent"),
        scored(4, speaker="customer"),
        scored(4, -1, final=False),
        scored(4, -1, segment_id="s3"),
        event(4, "update", attributes={"queue": "x"}),
        event(4, "end"),
    ],
)
def test_what_says_nothing_new_of_the_customer_causes_no_alert(quiet: Scored) -> None:
    before = judged(said(*[-1.0] * 4)).call
    assert before is not None
    assert judge(before, advance(before, scored(9, -1)), scored(9, -1), DEFAULTS) != []
    assert judge(before, advance(before, quiet), quiet, DEFAULTS) == []


def test_a_repeat_changes_nothing_of_what_rules_remember() -> None:
    call = judged(said(-1, -1, -1), rule("{words: turn, count: 5}")).call
    assert call is not None
    repeat = replace(said(-1)[0], source=replace(said(-1)[0].source, offset=7, timestamp=T0 + 99_000))
    after = follow(call, advance(call, repeat), repeat, rule("{words: turn, count: 5}")).call
    assert (after.watches, after.episodes, after.rules_due) == (call.watches, call.episodes, call.rules_due)


def test_rules_that_have_changed_let_go_of_what_they_opened() -> None:
    old, text = rule(LAST), "rules:\n  - {name: other, severity: info, reason: r, when: {silence: 99s}}\n"
    call = judged(said(-1), old)
    assert call.call is not None
    for new, reason in ((rule(LAST, severity="critical"), "The rule was changed."), (ruleset(text), "The rule was removed.")):
        (alert,) = reload(call.call, new).alerts
        assert (alert.event, alert.reason, alert.sequence) == ("resolve", reason, 2)
        assert open_episode(reload(call.call, new).call.episodes, "r") is None
    assert reload(call.call, old).alerts == ()
    assert reload(call.call, old).call == call.call


def test_a_call_that_is_met_with_other_rules_lets_go_by_itself_and_the_new_rule_judges_afresh() -> None:
    call = judged(said(-1), rule(LAST))
    call.rules = rule(LAST, severity="critical")
    call.hear(*said(-1, first=1))
    assert [(a.event, a.severity, a.reason) for a in call.alerts[1:]] == [
        ("resolve", "warning", "The rule was changed."), ("open", "critical", "It holds.")
    ]  # fmt: skip


def test_a_reload_forgets_what_was_heard_for_others_and_what_had_begun() -> None:
    found = rule(f"{{all: [{{words: turn}}, {LAST}]}}", lasting="60s")
    call = judged(said(-1), found).call
    assert call is not None
    assert len(call.watches.since) == len(call.watches.hits) == 1
    after = reload(call, rule("{words: turn, count: 2}")).call
    assert (after.watches.since, after.watches.hits) == ({}, {})


def test_the_state_keeps_the_newest_episodes_every_open_one_and_the_numbers() -> None:
    def episode(n: int, name: str, resolved: bool) -> Episode:
        return Episode(f"{n:032x}", name, 1, "warning", 1, n, n, resolved, number=n)

    many = [episode(0, "open", False), episode(1, "once", True), *(episode(n, "often", True) for n in range(2, EPISODES + 5))]
    left = kept(many)
    assert len(left) == EPISODES
    assert [e.number for e in left] == [0, 1, *range(7, EPISODES + 5)]
    assert (next_number(left, "often"), next_number(left, "once"), next_number(left, "new")) == (EPISODES + 5, 2, 1)
    assert len(kept([episode(n, f"r{n}", False) for n in range(40)])) == 40


def test_what_is_remembered_moves_with_a_call_that_began_earlier_than_was_guessed() -> None:
    guessed = scored(0, -1, text="refund", start_ms=None, end_ms=None, start_at=NOW, end_at=NOW + timedelta(seconds=4))
    earlier = replace(
        guessed, segment_id="x", text="hello", start_at=NOW - timedelta(seconds=20), end_at=NOW - timedelta(seconds=18)
    )
    found = ruleset("""
        rules:
          - {name: r, severity: info, reason: r, when: {words: refund, within: 10s}, cooldown: 0s}
          - {name: s, severity: info, reason: r, when: {measure: turns.scored, gte: 1}, for: 9s}
    """)
    call = judged([guessed], found)
    assert (call.story(), call.call and call.call.watches.since) == ([(4, "open", "info")], {found.rules[1].digest: 4_000})
    call.hear(replace(earlier, source=replace(earlier.source, offset=1)))
    assert call.call is not None
    assert call.call.at_ms == 24_000
    assert (call.call.watches.hits, call.call.watches.since) == (
        {found.listeners[0].key: (24_000,)}, {found.rules[1].digest: 24_000}
    )  # fmt: skip
    (episode,) = call.call.episodes
    assert (episode.opened_ms, episode.resolved) == (24_000, False)
    assert Episode("", "r", 1, "info", 1, 1, 2, clear_ms=3).moved(10) == Episode("", "r", 1, "info", 1, 11, 12, clear_ms=13)


def test_hits_are_bounded_a_key_and_in_all() -> None:
    hits = with_hits({"a": (5, 9)}, {"a": 7, "b": 1}, {"a": 2, "b": 5})
    assert hits == {"a": (7, 9), "b": (1,)}
    full: dict[str, tuple[int, ...]] = {}
    for n in range(100):
        full = with_hits(full, {f"k{n}": n}, {f"k{n}": 1})
    assert list(full.values()) == [(n,) for n in range(100 - HITS, 100)]


def test_a_state_with_twenty_open_episodes_and_fifty_rules_is_small() -> None:
    """What the rules remember, at most: an episode of each of 20 rules with long names, hits and minimum durations of 50."""
    open_ones = tuple(
        Episode(f"{n:032x}", f"{n:02}{'n' * 38}", 999, "critical", 9999, 10**9, 10**9, False, 99, "deadbe", 10**9, True)
        for n in range(20)
    )
    hits = {f"{n:06x}": (10**9,) for n in range(HITS)}
    watches = Watches(T0, "ko-KR", {f"{n:06x}": 10**9 for n in range(50)}, hits)
    bare = folded(said(0))
    more = len(encode(replace(bare, episodes=open_ones, watches=watches))) - len(encode(bare))
    assert more < 5_100


customers = st.tuples(st.just("customer"), st.sampled_from((-1.0, -0.6, -0.3, 0.0, 0.4, 1.0)))
others = st.tuples(st.sampled_from(("agent", "bot", "system")), st.sampled_from((-1.0, 1.0)))
steps = st.tuples(customers | others, st.integers(1, 70))
conversations = st.lists(steps, min_size=1, max_size=40)
RULES = ruleset("""
    rules:
      - {name: plain, severity: info, reason: r, when: {measure: score.last, lte: -0.5}, cooldown: 0s}
      - name: slow
        severity: info
        reason: r
        when: {measure: score.ewma, lte: -0.3}
        until: {measure: score.ewma, gte: 0}
        for: 12s
        cooldown: 40s
        escalate: [{to: warning, after: 30s}, {to: critical, when: {measure: score.ewma, lte: -0.8}}]
      - {name: quiet, severity: info, reason: r, when: {silence: 33s}, escalate: {to: critical, after: 20s}}
      - {name: words, severity: info, reason: r, when: {words: turn, speaker: any, within: 1m, count: 2}}
""")


def turns_of(conversation: list[tuple[tuple[str, float], int]]) -> list[Scored]:
    """Turns with pauses of these many seconds before them; each arrives when it ends."""
    turns, now = list[Scored](), 0
    for n, ((who, score), gap) in enumerate(conversation):
        start, now = now + gap * 1000, now + gap * 1000 + 3_000
        turns.append(scored(n, score, speaker=who, start_ms=start, end_ms=now, timestamp=T0 + now))
    return turns


def check_episode(events: list[Alert]) -> None:
    """One episode from its opening on: open, (update | escalate)*, resolve; gapless, and consistent in its status."""
    assert [alert.sequence for alert in events] == list(range(1, len(events) + 1))
    names = [alert.event for alert in events]
    assert (names[0], names[-1]) == ("open", "resolve")
    assert set(names[1:-1]) <= {"update", "escalate"}
    assert [alert.status for alert in events] == ["open"] * (len(events) - 1) + ["resolved"]
    for before, after in pairwise(events):
        change = SEVERITIES.index(after.severity) - SEVERITIES.index(before.severity)
        assert change >= 0
        assert (after.event == "escalate") == (change > 0)
        assert after.at_ms >= before.at_ms
        assert after.event != "update" or after.at_ms - before.at_ms >= UPDATE_EVERY_MS


@given(conversations, st.integers(0, 300))
def test_every_alert_lives_from_open_to_resolve_and_a_rule_has_one_at_a_time(
    conversation: list[tuple[tuple[str, float], int]], silence_s: int
) -> None:
    turns = turns_of(conversation)
    call = judged(turns, RULES).lapse(turns[-1].source.timestamp + silence_s * 1000).closed()
    lives, open_of = defaultdict(list), dict[str, str]()
    for alert in call.alerts:
        lives[alert.alert_id].append(alert)
        assert open_of.setdefault(alert.rule.name, alert.alert_id) == alert.alert_id
        if alert.status == "resolved":
            del open_of[alert.rule.name]
    for events in lives.values():
        check_episode(events)
    assert open_of == {}
    assert call.call is not None
    assert all(episode.resolved for episode in call.call.episodes)


@given(conversations)
def test_what_falls_due_does_so_at_its_time_however_often_one_looks(conversation: list[tuple[tuple[str, float], int]]) -> None:
    """Looking every second, as a worker's clock does, or only when something arrives, as a backtest does: the same alerts."""
    turns = turns_of(conversation)
    once, often = judged(turns, RULES), Judged(RULES)
    for turn in turns:
        if often.call is not None:
            for clock in range(often.call.clock, turn.source.timestamp, 1_000):
                often.lapse(clock)
        often.hear(turn)
    assert once.alerts == often.alerts
    assert once.call == often.call


@given(conversations)
def test_the_rules_look_again_only_while_the_call_lives(conversation: list[tuple[tuple[str, float], int]]) -> None:
    turns = turns_of(conversation)
    end = event(len(turns), "end", timestamp=turns[-1].source.timestamp)
    call = judged([*turns, end], RULES).call
    assert call is not None
    assert call.rules_due is None


def partials(first: int, last: int) -> list[Scored]:
    """One a second, in these seconds of the call, of a turn that has not ended."""
    return [
        replace(scored(2), segment_id="p", final=False, source=Source("topic", 0, s, T0 + s * 1000)) for s in range(first, last)
    ]


def test_time_goes_on_while_only_partials_come() -> None:
    found = rule(LAST, lasting="20s", escalate="{to: critical, after: 15s}")
    assert judged([*said(-1.0), *partials(5, 60)], found).story() == [(24, "open", "warning"), (39, "escalate", "critical")]
    calm = judged([*said(-1.0, 0.0), *partials(15, 60)], rule(LAST, cooldown="20s"))
    assert calm.story() == [(4, "open", "warning"), (34, "resolve", "warning")]
    silent = judged([*said(0.0), *partials(5, 60)], rule("{silence: 10s}", lasting="5s"))
    assert silent.story() == [], "somebody is heard"


def test_a_state_that_knows_no_last_final_counts_from_when_somebody_was_heard() -> None:
    old = judged(said(-1.0), rule(LAST, lasting="20s"))
    assert old.call is not None
    old.call = replace(old.call, watches=replace(old.call.watches, final_clock=0))
    old.hear(*partials(5, 8))
    assert old.call.watches.final_clock == T0 + 4_000
    assert old.after(60).story() == [(24, "open", "warning")]
