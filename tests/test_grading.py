"""The figures of a backtest by hand: what is right, what is found, how soon, what differs."""

from builders import event, rule, ruleset, scored

from streams.backtest import Played, play
from streams.conversation import Limits
from streams.grading import Change, Marked, Spread, Told, changes, episodes, graded, report, spread
from streams.rules import RuleSet

LOW = ruleset("""
rules:
  - name: low
    severity: warning
    reason: low
    when: {measure: score.last, lte: -0.5}
    escalate: {to: critical, when: {measure: score.last, lte: -0.9}}
    cooldown: 0s
  - {name: never, severity: info, reason: never, when: {words: never}}
""")


def call(call_id: str, *scores: float, lane: int = 0) -> list[tuple[int, object]]:
    turns = [scored(n, score, call_id=call_id, lane=lane) for n, score in enumerate(scores)]
    return [(0, turn) for turn in (*turns, event(len(scores), "end", call_id=call_id, lane=lane))]


def played(*calls: list[tuple[int, object]], rules: RuleSet = LOW) -> Played:
    return play([turn for each in calls for turn in each], Limits(), [rules])[0]  # type: ignore[misc]


MIXED = call("a", 0, -0.6, -0.7, -1, 1, 0, -0.8, lane=0)
"""Low opens at turn 1, escalates at 3, resolves at 4; it opens again at 6."""
CALM = call("b", 0, 0, 0, lane=1)


def test_an_alert_is_an_episode() -> None:
    first, second = episodes(played(MIXED).courses["a"])
    assert [(told.event, told.severity, told.at_ms, told.turn) for told in first.told] == [
        ("open", "warning", 14_000, 1),
        ("escalate", "critical", 34_000, 3),
        ("resolve", "critical", 44_000, 4),
    ]
    assert (first.severity, second.severity) == ("critical", "warning")
    assert (first.opened.turn, second.opened.customer_turns) == (1, 7)


def test_right_is_what_opens_or_escalates_soon_after_a_labelled_turn() -> None:
    first, second = episodes(played(MIXED).courses["a"])
    assert first.right(Marked((1,)), within=0)
    assert first.right(Marked((3,)), within=0), "it escalates there"
    assert not first.right(Marked((4,)), within=5), "it resolves there"
    assert not first.right(Marked((2,)), within=0)
    assert first.right(Marked((2,)), within=1)
    assert not second.right(Marked((0,)), within=5)
    assert not second.right(Marked((7,)), within=5), "it came before"


def test_a_labelled_turn_is_found_by_the_first_that_comes() -> None:
    (found,) = graded(played(MIXED), {"a": Marked((0, 2, 4))}, within=2)
    assert found.delays == {0: 1, 2: 1, 4: 2}
    assert len(found.right) == 2
    assert found.flawless


def test_a_call_is_flawless_where_nothing_is_wrong_or_missed() -> None:
    def flawless(*turns: int) -> bool:
        return graded(played(MIXED), {"a": Marked(turns)}, within=0)[0].flawless

    assert flawless(1, 6)
    assert not flawless(1)
    assert not flawless(1, 5, 6)
    assert graded(played(MIXED), {})[0].flawless, "nobody says what is right there"


def test_figures() -> None:
    labels = {"a": Marked((1, 5), routine=False), "b": Marked((1,), routine=True)}
    found = report(graded(played(MIXED, CALM, call("c", -0.6, lane=2)), labels, within=0), LOW)
    assert found.hash == LOW.hash
    assert (found.all.alerts, found.all.calls, found.all.per_100_calls) == (3, 2, 100)
    assert found.all.severities == {"warning": 2, "critical": 1}
    assert found.rules["low"] == found.all
    assert (found.rules["never"].alerts, found.rules["never"].per_100_calls) == (0, 0)
    assert found.all.opened_s == Spread(14, 64)
    assert found.all.opened_customer_turns == Spread(2, 7)
    assert (found.all.labelled, found.all.right, found.all.precision) == (2, 1, 0.5)
    assert found.labels is not None
    assert (found.labels.calls, found.labels.turns, found.labels.found) == (2, 3, 1)
    assert (found.labels.precision, found.labels.recall, found.labels.delay_turns) == (0.5, 0.333, Spread(0, 0))
    assert found.routine is not None
    assert (found.routine.calls, found.routine.alerts, found.routine.per_100_calls) == (1, 0, 0)


def test_alerts_in_routine_calls_are_counted_apart() -> None:
    found = report(graded(played(MIXED, CALM), {"a": Marked(routine=True), "b": Marked(routine=True)}), LOW)
    assert found.routine is not None
    assert (found.routine.alerts, found.routine.per_100_calls) == (2, 100)
    assert found.labels is not None
    assert (found.labels.precision, found.labels.recall, found.labels.delay_turns) == (0, None, Spread(None, None))


def test_without_labels_nothing_is_said_of_them() -> None:
    found = report(graded(played(CALM), {}), LOW)
    assert (found.routine, found.labels, found.all.precision) == (None, None, None)
    assert found.all.opened_s == Spread(None, None)


def test_the_nearest_rank() -> None:
    assert spread([3, 1]) == Spread(2, 3)
    assert spread(range(1, 11)) == Spread(5.5, 9)


def test_what_differs() -> None:
    later = rule("{measure: score.last, lte: -0.65}").rules[0].ref.name
    old, new = (
        graded(played(MIXED, CALM, rules=rule(f"{{measure: score.last, lte: {score}}}")), {}) for score in (-0.5, -0.65)
    )
    assert changes(old, new) == [
        Change("a", (Told(later, "open", "warning", 14_000, 1),), (Told(later, "open", "warning", 24_000, 2),))
    ]
    assert changes(old, old) == []
