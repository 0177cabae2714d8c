"""What is counted and timed of what the agents do; times are passed in."""

from datetime import timedelta
from typing import Any

import pytest
from builders import NOW, T0, event, rule, scored
from msgspec.structs import replace

from streams.conversation import Limits
from streams.metrics import Metrics, spoken_ms
from streams.outcome import Outcome
from streams.pipeline import Calls
from streams.records import Scored, Segment

NOW_S = NOW.timestamp()
LIMITS = Limits(voice_silence_ms=100_000)


def judged(*turns: Scored, rules: Any = None) -> Outcome:
    calls, outcome = Calls(LIMITS, 1, rules=rules or rule("{measure: score.last, lte: -0.5}")), Outcome()
    for turn in turns:
        calls.judge(turn, outcome)
    return outcome


def test_a_segment_is_timed_from_stage_to_stage() -> None:
    metrics = Metrics()
    metrics.published(3, taken_at=10.0, scored_at=10.2, now=10.9)
    assert {name: (sum(h.counts), round(h.sum, 6)) for name, h in metrics.stages.items()} == {
        "consumed": (0, 0),
        "scored": (3, 0.6),
        "published": (3, 2.1),
        "judged": (0, 0),
    }


def test_what_is_judged_is_timed_from_when_it_was_scored_and_repeats_are_not() -> None:
    first, second = scored(0, 0, scored_at=NOW), scored(1, 0, scored_at=NOW + timedelta(seconds=1))
    outcome = judged(first, second, first)
    assert (outcome.judged, outcome.repeats) == (2, 1)
    metrics = Metrics()
    metrics.judged(outcome, NOW_S + 4)
    assert (sum(metrics.stages["judged"].counts), metrics.stages["judged"].sum) == (2, 4 + 3)


def test_what_a_stored_state_contains_already_is_a_repeat_and_is_not_timed() -> None:
    first, ahead = Calls(LIMITS, 1), Outcome()
    first.judge(scored(3, -1), ahead)
    calls, outcome = Calls(LIMITS, 1, states=ahead.changed.values()), Outcome()  # type: ignore[arg-type]
    calls.judge(scored(3, -1), outcome)
    assert (outcome.repeats, outcome.scored_at) == (1, [])


def test_an_alert_is_timed_from_its_segment_s_record_and_one_by_the_lapse_of_time_is_not() -> None:
    silence = rule("{silence: 30s}")
    outcome = judged(scored(0, 0, timestamp=T0), scored(9, 0, timestamp=T0 + 90_000, call_id="b"), rules=silence)
    assert ([alert.call_id for alert in outcome.alerts], outcome.raised_at) == (["call-1"], [])
    outcome = judged(scored(0, -1), scored(1, -1, call_id="b"))
    assert outcome.raised_at == [T0, T0 + 10_000]
    metrics = Metrics()
    metrics.judged(outcome, T0 / 1000 + 12)
    assert (sum(metrics.alert_delay.counts), metrics.alert_delay.sum) == (2, 12 + 2)


def test_alerts_are_told_apart_by_rule_severity_and_event_and_rejections_by_reason() -> None:
    metrics, outcome = Metrics(), judged(scored(0, -1), scored(1, 1), scored(2, -1, call_id="b"))
    outcome.rejected = ["call_ended", "not_json"]
    for _ in range(2):
        metrics.judged(outcome, NOW_S)
    assert metrics.alerts == {("r", "warning", "open"): 4, ("r", "warning", "resolve"): 2}
    assert metrics.rejected == {("judge", "call_ended"): 2, ("judge", "not_json"): 2}


def test_turns_are_the_scored_ones_of_the_customer_s_side_each_once_by_queue_and_label() -> None:
    turns = [
        scored(0, -1, attributes={"queue": "tech"}),
        scored(1, 1),
        scored(2, 1, speaker="unknown"),
        scored(3, -1, speaker="agent"),
        scored(4, None),
        event(5, "update", attributes={"queue": "billing"}),
        scored(6, 0),
        scored(7, 0, segment_id="s6"),  # the producer's own repeat
        scored(8, -1, final=False),
        scored(9, -1, final=False, call_id="partials only"),
    ]
    metrics = Metrics()
    metrics.judged(judged(*turns), NOW_S)
    assert metrics.turns == {("tech", "negative"): 1, ("tech", "positive"): 2, ("billing", "neutral"): 1}


SAID = Segment(call_id="c", start_ms=1_000, end_ms=3_500)


@pytest.mark.parametrize(
    ("changed", "ms"),
    [
        ({}, 2_500),
        ({"final": False}, 0),
        ({"type": "update"}, 0),
        ({"end_ms": None}, 0),
        ({"start_ms": None, "end_ms": None, "start_at": NOW, "end_at": NOW + timedelta(seconds=1.5)}, 1_500),
        ({"start_ms": None, "end_at": NOW}, 0),
    ],
)
def test_spoken_time_is_that_of_final_segments_as_far_as_they_say_so(changed: dict[str, Any], ms: int) -> None:
    assert spoken_ms(replace(SAID, **changed)) == ms
