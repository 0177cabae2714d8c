"""Rules that change while calls are live: what a running worker does, and what one does that starts afterwards."""

from collections import Counter

import pytest
from builders import T0, event, rule, ruleset, scored
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.conversation import Limits
from streams.outcome import Outcome
from streams.pipeline import Calls
from streams.records import Alert, Scored
from streams.rules import RuleSet
from streams.wire import encode

LOW = "{measure: score.last, lte: -0.5}"
LIMITS = Limits()
OLD = ruleset("""
rules:
  - {name: kept, severity: info, reason: kept, when: {measure: score.last, lte: -0.5}, cooldown: 20s}
  - {name: changed, severity: info, reason: old, when: {measure: score.last, lte: -0.5}, for: 10s}
  - {name: removed, severity: info, reason: gone, when: {words: turn, count: 2}}
  - {name: quiet, severity: info, reason: quiet, when: {silence: 40s}, escalate: {to: critical, after: 30s}}
""")
NEW = ruleset("""
rules:
  - {name: kept, severity: info, reason: kept, when: {measure: score.last, lte: -0.5}, cooldown: 20s}
  - {name: changed, severity: info, reason: new, when: {measure: score.last, lte: -0.9}, for: 5s}
  - {name: quiet, severity: info, reason: quiet, when: {silence: 25s}}
  - {name: sooner, severity: info, reason: sooner, when: {silence: 15s}}
""")


class Partition:
    """A judged partition, with all that it has stored and told."""

    def __init__(self, rules: RuleSet) -> None:
        self.calls, self.states, self.alerts = Calls(LIMITS, 1, rules=rules), dict[str, bytes](), list[Alert]()

    def judge(self, *turns: Scored) -> list[Alert]:
        outcome = Outcome()
        for turn in turns:
            assert self.calls.judge(turn, outcome) is None
        return self._delivered(outcome)

    def reload(self, rules: RuleSet, step: int = 2) -> list[Alert]:
        self.calls.take(rules)
        return self._taken_over(step)

    def restart(self, rules: RuleSet, step: int = 2) -> list[Alert]:
        self.calls = Calls(LIMITS, 1, positions=self.calls.positions, rules=rules)
        self.calls.load(self.states.values())
        return self._taken_over(step)

    def tick(self, clock: int) -> list[Alert]:
        outcome = Outcome()
        self.calls.tick({"topic:0": clock}, outcome)
        return self._delivered(outcome)

    def _taken_over(self, step: int) -> list[Alert]:
        outcome = Outcome()
        while self.calls.untaken:
            self.calls.take_over(step, outcome)
        return self._delivered(outcome)

    def _delivered(self, outcome: Outcome) -> list[Alert]:
        for call_id, call in outcome.changed.items():
            if call is None:
                del self.states[call_id]
            else:
                self.states[call_id] = encode(call)
        self.alerts += outcome.alerts
        return outcome.alerts

    @property
    def told(self) -> dict[str, list[Alert]]:
        """By call, in order."""
        return {
            call_id: [a for a in self.alerts if a.call_id == call_id] for call_id in sorted({a.call_id for a in self.alerts})
        }


def story(alerts: list[Alert]) -> list[tuple[str, str, int, str]]:
    return [(a.rule.name, a.event, a.rule.version, a.reason) for a in alerts]


def test_open_alerts_of_a_changed_rule_resolve_in_all_calls_though_nothing_arrives_then_the_new_version_fires() -> None:
    partition = Partition(rule(LOW))
    opened = partition.judge(scored(0, -1), scored(1, -1, call_id="b"), scored(2, 0, call_id="c"))
    assert [(a.call_id, a.event) for a in opened] == [("call-1", "open"), ("b", "open")]
    resolved = partition.reload(rule(LOW, version="2"))
    assert Counter(story(resolved)) == {("r", "resolve", 1, "The rule was changed."): 2}
    assert {a.alert_id: a.sequence for a in resolved} == {a.alert_id: 2 for a in opened}
    (again,) = partition.judge(scored(3, -1))
    assert story([again]) == [("r", "open", 2, "It holds.")]
    assert again.alert_id not in {a.alert_id for a in opened}, "another episode"


def test_open_alerts_of_a_removed_rule_resolve_and_of_one_that_stayed_do_not() -> None:
    both = ruleset(f"""
    rules:
      - {{name: r, severity: warning, reason: It holds., cooldown: 0s, when: {LOW}}}
      - {{name: other, severity: warning, reason: other, when: {LOW}}}
    """)
    partition = Partition(both)
    assert len(partition.judge(scored(0, -1))) == 2
    (stays,) = [r for r in both.rules if r.ref.name == "other"]
    resolved = partition.reload(ruleset(f"rules:\n  - {{name: other, severity: warning, reason: other, when: {LOW}}}"))
    assert story(resolved) == [("r", "resolve", 1, "The rule was removed.")]
    assert [e.digest for e in partition.calls.calls["call-1"].episodes if not e.resolved] == [stays.digest]


def test_a_state_carries_the_hash_of_the_rules_that_judged_it_last() -> None:
    old, new = rule(LOW), rule(LOW, severity="critical")
    partition = Partition(old)
    partition.judge(scored(0, -1), scored(1, 1, call_id="b"))
    partition.reload(new)
    hashes = {call_id: partition.calls.calls.timing(call_id).rules for call_id in ("call-1", "b")}
    assert hashes == {"call-1": new.hash, "b": old.hash}, "what is not changed is not written anew"
    partition.judge(scored(2, 1, call_id="b"))
    assert partition.calls.calls["b"].rules == new.hash
    assert f'"rules":"{new.hash}"'.encode() in partition.states["b"]


def test_the_same_rules_take_over_nothing() -> None:
    partition = Partition(rule(LOW))
    partition.judge(scored(0, -1))
    before = dict(partition.states)
    assert partition.reload(rule(LOW)) == partition.restart(rule(LOW)) == []
    assert partition.states == before
    partition.calls.take(rule(LOW))
    assert partition.calls.untaken == []


def test_closed_calls_have_nothing_to_be_taken_over() -> None:
    partition = Partition(rule(LOW))
    partition.judge(scored(0, -1), event(1, "end"))
    partition.tick(T0 + 3_600_000)
    assert partition.calls.calls["call-1"].status == "closed"
    assert partition.reload(rule("{silence: 9s}")) == partition.restart(rule("{silence: 8s}")) == []
    assert partition.calls.untaken == []


@pytest.mark.parametrize("change", [Partition.reload, Partition.restart])
def test_a_silence_that_the_new_rules_ask_for_is_told_although_nothing_arrives(change: object) -> None:
    partition = Partition(rule(LOW))
    partition.judge(scored(0, 0))
    assert change(partition, rule("{silence: 30s}")) == []  # type: ignore[operator]
    assert partition.tick(T0 + 29_999) == []
    (alert,) = partition.tick(T0 + 90_000)
    assert (alert.event, alert.at_ms) == ("open", 4_000 + 30_000), "when it was due, whenever the rules came"


def test_a_state_of_a_worker_that_wrote_no_hash_is_taken_over_by_the_contents_of_its_rules() -> None:
    partition = Partition(rule(LOW))
    partition.judge(scored(0, -1))
    partition.states = {name: encode(replace(call, rules=None)) for name, call in partition.calls.calls.items()}
    assert partition.restart(rule(LOW)) == []
    assert story(partition.restart(rule(LOW, severity="info"))) == [("r", "resolve", 1, "The rule was changed.")]


def test_a_call_that_is_met_before_it_was_taken_over_lets_go_at_once() -> None:
    partition = Partition(rule(LOW))
    partition.judge(scored(0, -1))
    partition.calls.take(rule("{silence: 999s}"))
    assert story(partition.judge(scored(1, -1))) == [("r", "resolve", 1, "The rule was changed.")]


steps = st.tuples(st.sampled_from("abc"), st.sampled_from((-1.0, -0.6, 0.0)), st.sampled_from((0, 3, 12, 31, 80)))
logs = st.lists(steps, min_size=2, max_size=16)


def timed(drawn: list[tuple[str, float, int]]) -> list[Scored]:
    now, log = T0, []
    for n, (call, score, gap_s) in enumerate(drawn):
        now += 1_000 * gap_s
        log.append(scored(n, score, call_id=call, timestamp=now, start_ms=now - T0, end_ms=now - T0 + 1_000))
    return log


@given(logs.map(timed), st.integers(0, 16), st.integers(0, 16), st.booleans())
def test_a_restart_under_other_rules_is_the_same_as_a_reload(log: list[Scored], at: int, more: int, back: bool) -> None:
    """Also when the worker dies once more after that, and when the old rules come back."""
    plays = []
    for restarts in (False, True):
        partition = Partition(OLD)
        partition.judge(*log[:at])
        change = partition.restart if restarts else partition.reload
        change(NEW, 1 + restarts)
        partition.judge(*log[at : at + more])
        change(OLD if back else NEW, 1 + restarts)
        partition.judge(*log[at + more :])
        partition.tick(T0 + 10_000_000)
        plays.append(partition)
    reloaded, restarted = plays
    assert reloaded.told == restarted.told
    assert reloaded.states == restarted.states
    identities = [(a.alert_id, a.sequence) for a in reloaded.alerts]
    assert len(set(identities)) == len(identities)
