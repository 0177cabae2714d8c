"""Rules over a log of scored segments: when what is due happens, after which turn an alert came, what repeats do not change."""

from collections.abc import Sequence

from builders import NOW, T0, event, rule, ruleset, scored
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.backtest import Placed, Played, Raised, play
from streams.conversation import Limits, epoch_ms
from streams.pipeline import judged
from streams.records import Alert, Scored
from streams.redact import hidden
from streams.rules import RuleSet

LIMITS = Limits(grace_ms=1_000)
LOW = rule("{measure: score.last, lte: -0.5}")
QUIET = rule("{silence: 15s}")
TIMED = ruleset("""
rules:
  - {name: low, severity: warning, reason: low, for: 12s, when: {measure: score.last, lte: -0.5}, cooldown: 0s}
  - {name: quiet, severity: info, reason: quiet, when: {silence: 15s}, escalate: {to: critical, after: 20s}, cooldown: 0s}
  - {name: word, severity: info, reason: word, when: {words: refund}, cooldown: 0s}
""")


def played(turns: Sequence[Scored], rules: RuleSet = LOW) -> Played:
    """The turns in the one partition."""
    return play([(0, turn) for turn in turns], LIMITS, [rules])[0]


def story(played: Played, call_id: str = "call-1") -> list[tuple[str, int, int, int]]:
    """Event, time, turn and customer's turns of each alert."""
    return [(r.alert.event, r.alert.at_ms, r.turn, r.customer_turns) for r in played.courses[call_id].raised]


def test_an_alert_comes_after_the_turn_that_raised_it() -> None:
    turns = [scored(0, 0.0), scored(1, speaker="agent"), scored(2, -1), scored(3, 0.9), event(4, "end")]
    assert story(played(turns)) == [("open", 24_000, 2, 2), ("resolve", 34_000, 3, 3)]


def test_what_fell_due_before_a_turn_came_before_it() -> None:
    turns = [scored(0, 0.0), scored(4, 0.0), event(5, "end")]
    assert story(played(turns, QUIET)) == [("open", 19_000, 0, 1), ("resolve", 44_000, 1, 2)]


def test_what_falls_due_at_a_record_of_another_call_came_before_it() -> None:
    turns = [
        scored(0, 0.0),
        scored(9, 0.0, call_id="call-2", segment_id="x"),
        event(10, "end"),
        event(11, "end", call_id="call-2"),
    ]
    found = played(turns, QUIET)
    assert story(found)[0] == ("open", 19_000, 0, 1)
    assert [*found.courses] == ["call-1", "call-2"]


def test_at_the_end_all_that_is_due_happens() -> None:
    assert story(played([scored(0, -1)])) == [("open", 4_000, 0, 1), ("resolve", 4_000, 0, 1)]
    silent = story(played([scored(0, 0.0)], QUIET))
    assert [row[:2] for row in silent] == [("open", 19_000), ("resolve", 19_000)]


def test_a_record_of_a_log_counts_once() -> None:
    turns = [scored(0, 0.0), scored(1, -1), scored(2, 0.0), event(3, "end")]
    found = played([*turns[:2], *turns[:3], *turns])
    assert (found.judged, found.repeats) == (4, 5)
    assert found.courses == played(turns).courses
    assert [turn.segment_id for turn in found.courses["call-1"].turns] == ["s0", "s1", "s2"]


def test_a_repeat_moves_no_clock() -> None:
    """A position that is judged already is dropped whatever it says, as a worker drops it."""
    ahead = scored(0, 0.0, timestamp=T0 + 3_600_000)
    assert story(played([scored(0, 0.0), ahead, scored(1, 0.0), event(2, "end")], QUIET)) == []


def test_a_lane_s_clock_never_goes_back() -> None:
    """What a late record leaves overdue happens at the lane's next one, whatever time that gives, and before its turn."""
    other = scored(0, 0.0, call_id="call-2", segment_id="x", timestamp=T0 + 100_000)
    late, next_ = scored(1, 0.0, timestamp=T0), scored(2, 0.0, timestamp=T0 + 5_000)
    opened = story(played([other, late, next_], QUIET))[0]
    assert (opened[0], opened[2]) == ("open", 0)


def test_a_time_far_ahead_counts_as_in_a_worker() -> None:
    """For an hour after the scoring, at most: else one wrong stamp would end every call of its lane."""
    now_ms = epoch_ms(NOW)
    chat = [scored(n, 0.0, timestamp=now_ms + n, channel="chat") for n in (0, 2)]
    wrong = scored(1, 0.0, call_id="call-2", segment_id="x", timestamp=now_ms + 30 * 3_600_000)
    found = played([chat[0], wrong, chat[1]])
    assert (found.rejected, len(found.courses["call-1"].turns)) == (0, 2)


def test_a_producer_s_repeat_is_no_turn_and_a_partial_neither() -> None:
    again = replace(scored(1, 0.0), segment_id="s0")
    partial = replace(scored(2), final=False, skipped="partial")
    found = played([scored(0, 0.0), again, partial, event(3, "start"), scored(4, -1), event(5, "end")])
    assert story(found)[0] == ("open", 44_000, 1, 2)


def test_what_comes_for_a_call_that_is_over_is_rejected() -> None:
    found = played([scored(0, 0.0), event(1, "end"), scored(9, -1)])
    assert (found.rejected, len(found.courses["call-1"].turns), found.alerts) == (1, 1, [])


def test_each_partition_has_clocks_of_its_own() -> None:
    """Of one lane, two partitions see different records: what lies in one moves no clock of the other."""
    log: list[Placed] = [
        (0, scored(0, 0.0)),
        (1, scored(9, 0.0, call_id="call-2")),
        (0, scored(1, 0.0)),
        (0, event(2, "end")),
        (1, event(10, "end", call_id="call-2")),
    ]
    assert play(log, LIMITS, [QUIET])[0].alerts == []


def test_rule_sets_are_played_side_by_side() -> None:
    turns = [(0, turn) for turn in (scored(0, -1), scored(4, 0.0), event(5, "end"))]
    low, quiet = play(turns, LIMITS, [LOW, QUIET])
    assert low == played([turn for _, turn in turns], LOW)
    assert quiet == played([turn for _, turn in turns], QUIET)


def test_what_is_masked_is_not_heard() -> None:
    turns = [(0, scored(0, 0.0, text="a refund")), (0, event(1, "end"))]
    heard, masked = (play(turns, LIMITS, [TIMED], *mask)[0] for mask in ((), (hidden,)))
    assert [alert.rule.name for alert in heard.alerts if alert.event == "open"] == ["word"]
    assert masked.alerts == []


SPOKEN = st.tuples(st.sampled_from(("a", "b")), st.integers(0, 30), st.sampled_from((-1.0, 0.0, 1.0)), st.booleans())


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[list[Scored]], list[int]]:
    """Lanes, each with two calls of its own, and an order in which their records may lie in a log."""
    lanes = [_lane(lane, draw(st.lists(SPOKEN, max_size=12))) for lane in range(draw(st.integers(1, 3)))]
    return lanes, draw(st.permutations([lane for lane, records in enumerate(lanes) for _ in records]))


def _lane(lane: int, said: Sequence[tuple[str, int, float, bool]]) -> list[Scored]:
    records, now_ms = [], 0
    for number, (call, seconds, score, asks) in enumerate(said):
        now_ms += seconds * 1_000
        text, times = "a refund" if asks else "well", {"start_ms": now_ms, "end_ms": now_ms + 800}
        records.append(scored(number, score, lane=lane, timestamp=T0 + now_ms, call_id=f"{lane}{call}", text=text, **times))
    return records


def outcome(found: Played) -> list[tuple[str, Raised]]:
    rows = [(call_id, raised) for call_id, course in found.courses.items() for raised in course.raised]
    return sorted(rows, key=lambda row: (row[1].alert.alert_id, row[1].alert.sequence))


@given(logs())
def test_how_lanes_follow_each_other_changes_no_alert(given: tuple[list[list[Scored]], list[int]]) -> None:
    lanes, order = given
    rests = [iter(lane) for lane in lanes]
    shuffled = played([next(rests[lane]) for lane in order], TIMED)
    apart = [played(lane, TIMED) for lane in lanes]
    assert outcome(shuffled) == sorted(
        (row for lane in apart for row in outcome(lane)), key=lambda row: (row[1].alert.alert_id, row[1].alert.sequence)
    )


@given(logs())
def test_it_alerts_as_the_pipeline_does(given: tuple[list[list[Scored]], list[int]]) -> None:
    """Looking at each due time before the record that passes it changes nothing."""
    lanes, _ = given
    turns = [turn for lane in lanes for turn in lane]

    def by_id(alerts: Sequence[Alert]) -> list[Alert]:
        return sorted(alerts, key=lambda alert: (alert.alert_id, alert.sequence))

    assert by_id(played(turns, TIMED).alerts) == by_id(judged(turns, LIMITS, TIMED).alerts)
