"""Judging without a broker: repeats, closed calls, and what happens although nothing arrives."""

import random
from datetime import timedelta
from typing import Any

import pytest
from builders import T0, event, rule, scored
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.conversation import DAY_MS, EPOCH, Limits, Position
from streams.outcome import Outcome
from streams.pipeline import Calls, judged
from streams.records import Rejected, Scored, Source
from streams.timers import AHEAD_MS
from streams.wire import decode_scored, decode_state, encode

GRACE, SILENCE = Limits().grace_ms, Limits().voice_silence_ms


def judging(*turns: Scored, calls: Calls | None = None) -> tuple[Calls, Outcome]:
    calls, outcome = calls or Calls(Limits(), 4), Outcome()
    for turn in turns:
        assert calls.judge(turn, outcome) is None
    return calls, outcome


def other(offset: int, after_ms: int, lane: int = 0) -> Scored:
    """A record of another call that comes this long after T0."""
    return scored(offset, call_id="other", lane=lane, timestamp=T0 + after_ms)


def test_the_changed_calls_and_positions_are_what_is_to_be_stored() -> None:
    turns = scored(0, -1), scored(1, -1, call_id="b"), scored(2, -1), scored(0, lane=1, timestamp=T0 - 9)
    calls, outcome = judging(*turns)
    assert outcome.changed == calls.calls
    assert list(outcome.changed) == ["call-1", "b"]
    assert calls.positions.lanes == {"topic:0": Position(2, T0 + 20_000), "topic:1": Position(0, T0 - 9)}
    assert (calls.positions.partitions, outcome.judged, outcome.repeats) == (4, 4, 0)


def test_a_repeat_by_position_is_dropped_and_counted() -> None:
    turns = [scored(n, -1) for n in range(4)]
    calls, first = judging(*turns)
    assert first.alerts != []
    _, again = judging(*turns, calls=calls)
    assert (again.repeats, again.judged, again.alerts, again.changed) == (4, 0, [], {})


def test_a_recreated_topic_starts_afresh() -> None:
    calls, _ = judging(scored(5, -1))
    fresh = replace(scored(0, -1), source=Source("another", 0, 0, T0 + 60_000))
    judging(fresh, calls=calls)
    assert calls.calls["call-1"].customer.negative == 2


def test_the_grace_after_an_end_is_waited_for_and_not_longer() -> None:
    calls, outcome = judging(event(0, "end"), other(1, GRACE - 1))
    assert outcome.summaries == []
    _, outcome = judging(other(2, GRACE), calls=calls)
    assert [summary.call_id for summary in outcome.summaries] == ["call-1"]
    assert calls.calls["call-1"].status == "closed"


@pytest.mark.parametrize(("channel", "silence"), [(None, SILENCE), ("email", SILENCE), ("chat", DAY_MS)])
def test_a_call_without_an_end_closes_after_its_channels_silence(channel: str | None, silence: int) -> None:
    calls, outcome = judging(scored(0, channel=channel))
    calls.tick({"topic:0": T0 + silence - 1}, outcome)
    assert outcome.summaries == []
    calls.tick({"topic:0": T0 + silence}, outcome)
    (summary,) = outcome.summaries
    assert (summary.ended_by, summary.ended_at.timestamp()) == ("silence", (T0 + 0) / 1000)


def test_a_closed_calls_marker_is_removed_a_day_later() -> None:
    calls, outcome = judging(event(0, "end"))
    calls.tick({"topic:0": T0 + GRACE}, outcome)
    marker = outcome.changed["call-1"]
    assert marker is not None
    assert (marker.status, marker.voices, marker.recent, marker.seen) == ("closed", {}, (), ())
    calls.tick({"topic:0": T0 + GRACE + DAY_MS - 1}, outcome)
    assert outcome.changed == calls.calls == {"call-1": marker}
    calls.tick({"topic:0": T0 + GRACE + DAY_MS}, outcome)
    assert (outcome.changed, calls.calls, calls.next_due()) == ({"call-1": None}, {}, {})


def test_a_call_that_spoke_again_is_not_closed_by_its_old_timer() -> None:
    calls, outcome = judging(scored(0), scored(1, timestamp=T0 + SILENCE - 1), other(2, SILENCE + 5))
    assert outcome.summaries == []
    assert calls.calls["call-1"].due(Limits()) == T0 + SILENCE - 1 + 45_000, "the rules want to look first"
    calls.tick({"topic:0": T0 + 2 * SILENCE - 2}, outcome)
    assert calls.next_due() == {"topic:0": T0 + 2 * SILENCE - 1}
    calls.tick({"topic:0": T0 + 2 * SILENCE - 1}, outcome)
    assert [summary.call_id for summary in outcome.summaries] == ["call-1"]


def test_a_segment_in_the_grace_counts_and_does_not_prolong_it() -> None:
    late = scored(2, -1, timestamp=T0 + GRACE - 1)
    _, outcome = judging(scored(0, -1, timestamp=T0), event(1, "end", timestamp=T0), late, other(3, GRACE))
    assert outcome.summaries[0].speakers["customer"].negative == 2


def test_what_comes_for_a_closed_call_is_rejected_and_changes_only_the_position() -> None:
    calls, _ = judging(event(0, "end"), other(1, GRACE))
    marker, outcome = calls.calls["call-1"], Outcome()
    found = calls.judge(scored(2, timestamp=T0 + GRACE), outcome)
    assert found == Rejected("call_ended", "the call's summary has been published")
    assert (calls.calls["call-1"], outcome.changed, calls.lanes["topic:0"].offset) == (marker, {}, 2)


def test_the_first_record_after_the_silence_comes_too_late() -> None:
    calls, outcome = judging(scored(0))
    found = calls.judge(scored(1, timestamp=T0 + SILENCE), outcome)
    assert isinstance(found, Rejected)
    assert [summary.call_id for summary in outcome.summaries] == ["call-1"]


def test_open_alerts_resolve_before_the_summary_tells_of_them() -> None:
    calls, outcome = judging(*(scored(n, -1) for n in range(4)), event(4, "end"), other(5, 40_000 + GRACE))
    assert [(alert.event, alert.sequence) for alert in outcome.alerts] == [("open", 1), ("resolve", 2)]
    (summary,) = outcome.summaries
    assert [alert.alert_id for alert in summary.alerts] == [outcome.alerts[0].alert_id]
    assert outcome.alerts[1].at_ms == summary.duration_ms == 34_000
    marker = calls.calls["call-1"]
    assert (marker.status, marker.episodes, marker.recent, marker.attributes) == ("closed", (), (), {})


def test_one_lanes_clock_does_not_fire_anothers_timers() -> None:
    calls, outcome = judging(event(0, "end", lane=0), other(0, 10 * DAY_MS, lane=1))
    assert outcome.summaries == []
    calls.tick({"topic:1": T0 + 10 * DAY_MS + SILENCE - 1}, outcome)
    assert calls.next_due() == {"topic:0": T0 + GRACE, "topic:1": T0 + 10 * DAY_MS + SILENCE}
    judging(other(1, GRACE, lane=0), calls=calls)
    assert calls.calls["call-1"].status == "closed"


def test_a_call_that_moved_waits_for_the_clock_of_its_new_lane() -> None:
    calls, outcome = judging(scored(0, lane=0), scored(0, lane=1, segment_id="x"), other(1, 2 * SILENCE, lane=0))
    assert outcome.summaries == []
    calls.tick({"topic:1": T0 + SILENCE}, outcome)
    assert [summary.call_id for summary in outcome.summaries] == ["call-1"]


def test_a_clock_never_goes_back() -> None:
    calls, outcome = judging(event(0, "end"), other(1, GRACE - 1), other(2, -DAY_MS))
    assert calls.lanes["topic:0"] == Position(2, T0 + GRACE - 1)
    assert [summary.call_id for summary in outcome.summaries] == []


def test_a_silence_is_told_by_the_clock_of_its_lane_and_stored() -> None:
    calls, outcome = judging(scored(0), other(1, 44_999))
    assert outcome.alerts == []
    _, outcome = judging(other(2, 45_000), calls=calls)
    (alert,) = outcome.alerts
    assert (alert.rule.name, alert.event, alert.call_id, alert.at_ms) == ("long_silence", "open", "call-1", 49_000)
    call = outcome.changed["call-1"]
    assert call is not None
    assert call == decode_state(encode(call))
    assert call.rules_due == T0 + 105_000
    calls.tick({"topic:0": T0 + 105_000}, outcome)
    assert [(a.event, a.severity) for a in outcome.alerts if a.call_id == "call-1"][1:] == [("escalate", "warning")]


def test_rules_that_are_given_judge_and_loaded_states_have_the_rules_due_times() -> None:
    rules = rule("{silence: 10s}")
    calls = Calls(Limits(), 1, rules=rules)
    judging(scored(0), calls=calls)
    loaded, outcome = Calls(Limits(), 1, positions=calls.positions, rules=rules), Outcome()
    loaded.load(encode(call) for call in calls.calls.values())
    assert loaded.next_due() == {"topic:0": T0 + 10_000}
    loaded.tick({"topic:0": T0 + SILENCE}, outcome)
    assert [(a.event, a.at_ms, a.reason) for a in outcome.alerts] == [
        ("open", 14_000, "It holds."), ("resolve", 14_000, "The call is over.")
    ]  # fmt: skip
    assert [alert.rule for alert in outcome.summaries[0].alerts] == ["r"]
    assert judged([scored(0)], Limits(), rules).alerts == outcome.alerts


def test_what_is_due_of_many_calls_happens_in_the_order_of_time() -> None:
    calls = Calls(Limits(), 1, rules=rule("{silence: 10s}"))
    _, outcome = judging(*(scored(n, call_id=f"c{n}", timestamp=T0 + n) for n in range(5)), calls=calls)
    calls.tick({"topic:0": T0 + SILENCE + 2}, outcome)
    assert [(a.event, a.call_id) for a in outcome.alerts] == [
        *(("open", f"c{n}") for n in range(5)), *(("resolve", f"c{n}") for n in range(3))
    ]  # fmt: skip


steps = st.tuples(st.sampled_from("abc"), st.sampled_from(("turn", "end")), st.integers(0, 500_000))


@given(st.lists(steps, max_size=40))
def test_no_call_closes_early_and_none_stays_when_its_time_has_come(log: list[tuple[str, str, int]]) -> None:
    calls, now = Calls(Limits(), 1), T0
    due: dict[str, int] = {}
    ended: set[str] = set()
    for offset, (name, kind, gap) in enumerate(log):
        now, outcome = now + gap, Outcome()
        turn: dict[str, Any] = {"call_id": name, "timestamp": now}
        calls.judge(event(offset, "end", **turn) if kind == "end" else scored(offset, **turn), outcome)
        assert {s.call_id for s in outcome.summaries} == {c for c, when in due.items() if now - gap < when <= now}
        if name not in ended and due.get(name, now + 1) > now:
            due[name] = now + (GRACE if kind == "end" else SILENCE)
            ended |= {name} if kind == "end" else set()


@pytest.mark.parametrize("lanes", [1, 3])
def test_timers_are_bounded_by_calls_not_by_segments(lanes: int) -> None:
    offsets = [-1] * lanes
    calls, outcome = Calls(Limits(), 1), Outcome()
    for n in range(900):
        lane = n // 3 % lanes
        offsets[lane] += 1
        calls.judge(scored(offsets[lane], call_id=f"c{n % 3}", lane=lane, timestamp=T0 + n * 100), outcome)
    assert outcome.judged == 900
    assert len(calls.timers) <= 3 * lanes


def test_loaded_calls_have_their_due_times_and_positions_again() -> None:
    before, _ = judging(scored(0, -1), event(1, "end", call_id="b"))
    after = Calls(Limits(), 4, before.calls.values(), before.positions)
    assert (after.calls, after.positions, after.next_due()) == (before.calls, before.positions, before.next_due())
    outcome = Outcome()
    after.tick({"topic:0": T0 + 10_000 + GRACE}, outcome)
    assert [summary.call_id for summary in outcome.summaries] == ["b"]


def test_judged_gives_all_and_closes_everything() -> None:
    turns = [scored(n, -1, call_id=f"c{n % 2}", lane=n % 2) for n in range(10)]
    outcome = judged(turns, Limits())
    assert {summary.call_id for summary in outcome.summaries} == {"c0", "c1"}
    assert outcome.changed == {"c0": None, "c1": None}
    opened = {alert.alert_id for alert in outcome.alerts}
    assert opened == {alert.alert_id for alert in outcome.alerts if alert.event == "resolve"} != set()
    assert outcome.judged == 10


def test_nothing_that_decodes_stops_the_judge_or_leaves_a_state_that_cannot_be_read() -> None:
    rng, survived = random.Random(3), 0
    corpus = [encode(turn) for turn in (scored(1, -1), scored(2, 0.5, attributes={"a": 1.5}), event(3, "end"))]
    for _ in range(5_000):
        value = bytearray(rng.choice(corpus))
        for _ in range(rng.randint(1, 3)):
            numeric = [i for i, byte in enumerate(value) if byte in b"0123456789-."]
            value[rng.choice(numeric)] = rng.choice(b"0123456789-e.")
        found = decode_scored(bytes(value))
        if isinstance(found, Scored):
            survived += 1
            calls, outcome = judging(scored(0, 0.5))
            calls.judge(replace(found, call_id="call-1"), outcome)
            assert all(decode_state(encode(call)) == call for call in calls.calls.values())
            calls.tick(dict.fromkeys(calls.timers, 1 << 62), outcome)
            assert all(encode(summary) for summary in outcome.summaries)
    assert survived > 1_000


def test_a_record_stamped_next_year_ends_no_call_before_the_wall_gets_there() -> None:
    quiet = Calls(Limits(voice_silence_ms=2 * AHEAD_MS), 4)
    wrong = scored(1, call_id="other", timestamp=T0 + 365 * DAY_MS, scored_at=EPOCH + timedelta(milliseconds=T0))
    calls, outcome = judging(scored(0, -1), wrong, scored(2, -1), calls=quiet)
    assert outcome.summaries == []
    assert calls.lanes[wrong.source.lane].clock == T0 + AHEAD_MS
