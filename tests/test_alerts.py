"""The life of an alert: it opens, updates, escalates and resolves, under one identity, without flapping."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from builders import NOW, event, folded, scored
from hypothesis import given
from hypothesis import strategies as st

from streams.alerts import EPISODES, EVIDENCE, UPDATE_EVERY_MS, alert_id, judge, noted, resolve_all
from streams.conversation import Conversation, Episode, advance
from streams.quotes import QUOTE
from streams.records import SEVERITIES, Alert, RuleRef, Scored
from streams.rules import DROP, SUSTAINED, Rule, Sight


def judged(turns: Sequence[Scored]) -> tuple[list[Alert], Conversation]:
    """The alerts of these turns, and the call after them."""
    call, alerts = None, []
    for turn in turns:
        after = advance(call, turn)
        news = judge(call, after, turn)
        call = noted(after, news)
        alerts += news
    assert call is not None
    return alerts, call


def said(*scores: float, first: int = 0) -> list[Scored]:
    return [scored(n, score) for n, score in enumerate(scores, start=first)]


def story(turns: Sequence[Scored], rule: RuleRef = SUSTAINED) -> list[tuple[str, str, str]]:
    """The events of one rule's alerts: after which turn, what, how grave."""
    return [(f"s{a.at_ms // 10_000}", a.event, a.severity) for a in judged(turns)[0] if a.rule == rule]


def test_nothing_is_judged_before_three_turns_and_twenty_seconds() -> None:
    assert story(said(-1, -1)) == []
    assert story(said(-1, -1, -1)) == [("s2", "open", "critical")]
    quick = [scored(n, -1, start_ms=n * 4_000, end_ms=n * 4_000 + 3_000) for n in range(6)]
    assert judged(quick)[0][0].at_ms == 23_000


def test_an_open_alert_is_updated_after_thirty_seconds_only() -> None:
    assert UPDATE_EVERY_MS == 30_000
    steady = said(*[-0.52] * 11)  # the smoothed score reaches -0.35 with the fourth turn and never -0.6
    assert story(steady) == [
        ("s3", "open", "warning"), ("s6", "update", "warning"), ("s9", "update", "warning")
    ]  # fmt: skip


def test_a_graver_severity_escalates_at_once_and_never_falls_again() -> None:
    turns = said(-0.52, -0.52, -0.52, -0.52, -1, -1, -0.35, -0.9, -0.35)
    assert story(turns) == [
        ("s3", "open", "warning"), ("s5", "escalate", "critical"), ("s8", "update", "critical")
    ]  # fmt: skip


def test_it_resolves_once_the_customer_has_recovered() -> None:
    alerts, call = judged(said(-0.52, -0.52, -0.52, -0.52, 1, 1, 1))
    opened, resolved = (alert for alert in alerts if alert.rule == SUSTAINED)
    assert (opened.event, opened.status, opened.sequence) == ("open", "open", 1)
    assert (resolved.event, resolved.status, resolved.sequence) == ("resolve", "resolved", 2)
    assert resolved.alert_id == opened.alert_id
    assert resolved.severity == opened.severity == "warning"
    assert resolved.reason == "The customer has recovered."
    assert [episode.resolved for episode in call.episodes if episode.rule == SUSTAINED] == [True]


def test_between_the_thresholds_it_neither_opens_nor_resolves() -> None:
    swing = [-0.1, 0.0, -0.52, 0.0, -0.52, 0.0, -0.52, 0.0]  # the smoothed score stays within -0.34 and -0.2
    assert story(said(*[-0.52] * 4, *swing)) == [("s3", "open", "warning")]
    assert story(said(*[-0.52] * 3, *swing)) == []


def test_a_second_episode_is_another_alert() -> None:
    bad, good = [-1.0] * 4, [1.0] * 4
    alerts = [a for a in judged(said(*bad, *good, *bad, *good))[0] if a.rule == SUSTAINED]
    first, second = dict.fromkeys(alert.alert_id for alert in alerts)
    for episode in (first, second):
        events = [(a.sequence, a.event) for a in alerts if a.alert_id == episode]
        assert (events[0], events[-1]) == ((1, "open"), (len(events), "resolve"))


def test_an_identity_depends_on_call_rule_and_opening_segment_alone() -> None:
    alerts, _ = judged(said(1, 1, -1, -1, -1, -1))
    for alert in alerts:
        opened_by = next(a.evidence[-1].segment_id for a in alerts if a.alert_id == alert.alert_id)
        text = f"call-1\x1f{alert.rule.name}\x1f{opened_by}"
        assert alert.alert_id == hashlib.sha256(text.encode()).hexdigest()[:32]
    assert {alert.rule for alert in alerts} == {SUSTAINED, DROP}
    ids = {alert_id(call, rule, turn) for call in ("a", "b") for rule in (SUSTAINED, DROP) for turn in ("s1", "s2")}
    assert len(ids) == 8


def test_evidence_is_at_most_five_turns_with_bounded_text() -> None:
    turns = [replace(turn, text="말" * 10_000) for turn in said(*[-1.0] * 12)]
    alerts, _ = judged(turns)
    assert max(len(alert.evidence) for alert in alerts) == EVIDENCE == 5
    assert {(len(e.text), e.text[-1]) for alert in alerts for e in alert.evidence} == {(QUOTE, "…")}
    everything = Rule(DROP, lambda call: Sight("warning", clear=False, reason="", evidence=call.recent))
    (alert,) = judge(None, folded(said(*[0.0] * 8)), scored(7, 0.0), [everything])
    assert [e.segment_id for e in alert.evidence] == ["s3", "s4", "s5", "s6", "s7"]
    exact = judged([replace(turn, text="말" * QUOTE) for turn in said(-1, -1, -1)])[0]
    assert {e.text for alert in exact for e in alert.evidence} == {"말" * QUOTE}


def test_an_alert_says_when_where_and_why() -> None:
    start = event(0, "start", started_at=NOW, attributes={"queue": "sales"})
    (alert,) = judged([start, *said(-1, -1, -1, first=1)])[0]
    assert (alert.at_ms, alert.at, alert.at_source) == (34_000, NOW + timedelta(seconds=34), "call")
    assert (alert.call_id, alert.attributes) == ("call-1", {"queue": "sales"})
    assert (alert.rule, alert.reason) == (SUSTAINED, "The customer stays negative: 3 of the last 3 turns.")
    assert alert.values == {"ewma": -0.657, "negative_turns": 3, "turns": 3}


@pytest.mark.parametrize(
    "quiet",
    [
        scored(9, -1, speaker="agent"),
        scored(9, -1, speaker="bot"),
        scored(9, speaker="customer"),
        scored(9, -1, final=False),
        scored(9, -1, segment_id="s3"),
        event(9, "update", attributes={"queue": "x"}),
        event(9, "end"),
    ],
)
def test_only_a_newly_scored_customer_turn_causes_alerts(quiet: Scored) -> None:
    before = folded(said(*[-1.0] * 9))
    assert judge(before, advance(before, scored(9, -1)), scored(9, -1)) != []
    assert judge(before, advance(before, quiet), quiet) == []


def test_the_end_of_the_call_resolves_what_is_open() -> None:
    _, call = judged(said(1, 1, 1, *[-1.0] * 5))
    open_ids = {episode.alert_id for episode in call.episodes if not episode.resolved}
    assert len(open_ids) == 2
    closing = resolve_all(call, call.at_ms)
    assert {alert.alert_id for alert in closing} == open_ids
    assert {(alert.event, alert.status, alert.at_ms) for alert in closing} == {("resolve", "resolved", call.at_ms)}
    assert {alert.reason for alert in closing} == {"The call is over."}
    assert resolve_all(noted(call, closing), call.at_ms) == []


def test_the_state_remembers_the_newest_episodes_and_every_open_one() -> None:
    def episode(n: int) -> Episode:
        return Episode(f"{n:032x}", SUSTAINED, "warning", 1, n, n, resolved=n > 0)

    full = replace(folded(said(0)), episodes=tuple(map(episode, range(EPISODES))))
    (opened, *_) = judged(said(*[-1.0] * 4))[0]
    after = noted(full, [opened])
    assert [e.opened_ms for e in after.episodes] == [0, *range(2, EPISODES), opened.at_ms]
    assert not after.episodes[0].resolved


customers = st.tuples(st.just("customer"), st.sampled_from((-1.0, -0.6, -0.3, 0.0, 0.4, 1.0)))
others = st.tuples(st.sampled_from(("agent", "bot", "system")), st.sampled_from((-1.0, 1.0)))
conversations = st.lists(customers | others, min_size=1, max_size=60)


def turns_of(conversation: list[tuple[str, float]]) -> list[Scored]:
    return [scored(n, score, speaker=who) for n, (who, score) in enumerate(conversation)]


def check_episode(events: list[Alert]) -> None:
    """One episode from its opening on: open, (update | escalate)*, resolve; gapless, and consistent in its status."""
    assert [alert.sequence for alert in events] == list(range(1, len(events) + 1))
    names = [alert.event for alert in events]
    assert (names[0], names[-1]) == ("open", "resolve")
    assert set(names[1:-1]) <= {"update", "escalate"}
    assert [alert.status for alert in events] == ["open"] * (len(events) - 1) + ["resolved"]
    for before, after in pairwise(events):
        change = SEVERITIES.index(after.severity) - SEVERITIES.index(before.severity)
        assert (after.event == "escalate") == (change > 0)
        assert after.event != "update" or change < 0 or after.at_ms - before.at_ms >= UPDATE_EVERY_MS


@given(conversations)
def test_every_alert_lives_from_open_to_resolve(conversation: list[tuple[str, float]]) -> None:
    alerts, call = judged(turns_of(conversation))
    closing = resolve_all(call, call.at_ms)
    lives = defaultdict(list)
    for alert in (*alerts, *closing):
        lives[alert.alert_id].append(alert)
    for events in lives.values():
        check_episode(events)
    assert all(episode.resolved for episode in noted(call, closing).episodes)


@given(conversations)
def test_a_rule_has_one_open_alert_at_a_time(conversation: list[tuple[str, float]]) -> None:
    open_of: dict[str, str] = {}
    for alert in judged(turns_of(conversation))[0]:
        assert open_of.get(alert.rule.name, alert.alert_id) == alert.alert_id
        if alert.status == "resolved":
            del open_of[alert.rule.name]
        else:
            open_of[alert.rule.name] = alert.alert_id


@given(conversations)
def test_what_the_others_say_causes_no_alert_and_changes_none(conversation: list[tuple[str, float]]) -> None:
    turns = turns_of(conversation)
    alone = [turn for turn in turns if turn.speaker == "customer"]
    assert judged(turns)[0] == (judged(alone)[0] if alone else [])
