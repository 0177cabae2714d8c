"""The state of a call: what a segment adds to it, what never counts, how big it gets, when it is due."""

import random
import zlib
from datetime import timedelta
from typing import Any

import pytest
from builders import NOW, T0, event, folded, scored
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.attributes import MAX_ATTRIBUTES
from streams.conversation import (
    Conversation,
    Limits,
    advance,
    epoch_ms,
)
from streams.course import Voice
from streams.episodes import EPISODES, Episode
from streams.records import LONGEST_MS, SPEAKERS, Scored, Source
from streams.wire import encode


def test_counts_mean_ewma_and_streak_by_hand() -> None:
    call = folded([scored(0, -0.8), scored(1), scored(2, 0.5), scored(3, 0.9), scored(4, 0.6)])
    customer = call.customer
    assert (customer.segments, customer.scored) == (5, 4)
    assert (customer.negative, customer.neutral, customer.positive) == (1, 1, 2)
    assert customer.mean == pytest.approx((-0.8 + 0.5 + 0.9 + 0.6) / 4)
    # from 0 by s' = 0.7 s + 0.3 x: -0.24, -0.018, 0.2574, 0.36018
    assert customer.ewma == pytest.approx(0.36018)
    assert (customer.mood.streak_label, customer.mood.streak) == ("positive", 2)
    assert (customer.talk_ms, customer.end_ms, call.at_ms) == (20_000, 44_000, 44_000)
    assert [turn.segment_id for turn in call.recent] == ["s0", "s2", "s3", "s4"]


def test_a_call_without_a_scored_turn_is_neutral() -> None:
    call = folded([scored(0, speaker="agent")])
    assert call.customer == Voice()
    assert (call.voices["agent"].mean, call.voices["agent"].segments) == (0.0, 1)


def test_unknown_speakers_stand_for_the_customer_until_one_is_known() -> None:
    unknown = folded([scored(0, -1, speaker="unknown"), scored(1, -1, speaker="unknown")])
    assert unknown.customer.negative == 2
    assert advance(unknown, scored(2, 1)).customer.positive == 1
    assert advance(unknown, scored(2, None, text="", skipped="empty")).customer.negative == 2


def without_place(call: Conversation) -> Conversation:
    return replace(call, clock=0, lane="", positions={})


@given(st.integers(0, 9), st.integers(0, 5))
def test_a_repeat_changes_nothing_but_the_position(which: int, later: int) -> None:
    turns = [scored(n, (n % 3) - 1, attributes={"turn": n}) for n in range(10)]
    call = folded(turns)
    repeat = replace(turns[which], source=Source("topic", 0, 10 + later, T0 + 200_000))
    again = advance(call, repeat)
    assert without_place(again) == without_place(call)
    assert (again.positions, again.clock) == ({"topic:0": 10 + later}, T0 + 200_000)


def test_a_partial_only_says_that_the_call_lives() -> None:
    call = folded([scored(0, -1)])
    after = advance(call, scored(1, -1, final=False))
    assert without_place(after) == without_place(call)
    assert (after.positions, after.clock) == ({"topic:0": 1}, T0 + 10_000)


def test_the_final_after_its_partial_counts() -> None:
    call = folded([scored(0, -1, final=False), scored(1, -1, segment_id="s0")])
    assert call.customer.negative == 1


def test_attributes_merge_the_last_value_wins_and_null_deletes() -> None:
    call = folded([event(0, "start", attributes={"queue": "sales", "vip": False, "skill": None})])
    assert call.attributes == {"queue": "sales", "vip": False}
    call = advance(call, scored(1, attributes={"queue": None, "vip": True, "agent_id": "a1"}))
    assert call.attributes == {"vip": True, "agent_id": "a1"}
    assert advance(call, event(2, "end", channel="chat", attributes={})).attributes == call.attributes


def test_attributes_that_were_set_longest_ago_go_first_when_there_are_too_many() -> None:
    keep = event(0, "start", attributes={"old": "x", "queue": "sales"})
    call = folded([keep, event(1, "update", attributes={"a": "y" * (MAX_ATTRIBUTES - 13)}), event(2, "update", attributes={})])
    assert set(call.attributes) == {"queue", "a"}
    call = advance(call, event(3, "update", attributes={"queue": "after"}))
    assert call.attributes == {"a": "y" * (MAX_ATTRIBUTES - 13), "queue": "after"}
    assert set(advance(call, event(4, "update", attributes={"b": "z" * 30})).attributes) == {"queue", "b"}


@pytest.mark.parametrize(
    ("given_times", "start_ms", "end_ms"),
    [
        ({"start_ms": 7_000, "end_ms": 9_000}, 7_000, 9_000),
        ({"start_ms": 7_000}, 7_000, 7_000),
        ({"end_ms": 9_000}, 9_000, 9_000),
        ({"start_at": NOW + timedelta(seconds=7), "end_at": NOW + timedelta(seconds=9)}, 7_000, 9_000),
        ({"start_at": NOW + timedelta(seconds=7)}, 7_000, 7_000),
        ({"end_at": NOW + timedelta(seconds=9)}, 9_000, 9_000),
        ({"start_ms": 7_000, "end_at": NOW + timedelta(seconds=9)}, 7_000, 9_000),
        ({"start_at": NOW - timedelta(seconds=7)}, 0, 0),
        ({"start_at": NOW + timedelta(days=9_999)}, LONGEST_MS, LONGEST_MS),
        ({}, 5_000, 5_000),
    ],
)
def test_a_turns_times_are_offsets_absolute_or_the_records(given_times: dict[str, object], start_ms: int, end_ms: int) -> None:
    start = event(0, "start", started_at=NOW)
    times: dict[str, Any] = {"start_ms": None, "end_ms": None} | given_times
    turn = scored(1, 0.5, timestamp=epoch_ms(NOW) + 5_000, **times)
    (heard,) = folded([start, turn]).recent
    assert (heard.start_ms, heard.end_ms) == (start_ms, end_ms)


def test_the_origin_is_the_calls_own_start_where_it_is_known() -> None:
    for turn in (event(3, "start", started_at=NOW), scored(3, started_at=NOW), scored(3, start_ms=None, start_at=NOW)):
        call = folded([turn])
        assert (call.origin_ms, call.origin, call.at(1_500)) == (epoch_ms(NOW), "call", NOW + timedelta(seconds=1.5))


def test_the_origin_is_otherwise_reckoned_from_the_record() -> None:
    call = folded([scored(3, timestamp=T0)])
    assert (call.origin_ms, call.origin, call.at_ms) == (T0 - 34_000, "record", 34_000)
    assert folded([event(3, "start", timestamp=T0)]).origin_ms == T0
    told = advance(call, event(4, "update", started_at=NOW))
    assert (told.origin_ms, told.origin) == (epoch_ms(NOW), "call")


@pytest.mark.parametrize("timestamp", [-(1 << 53), -1, 0, 1 << 53])
def test_a_wrong_clock_makes_a_wrong_time_and_no_error(timestamp: int) -> None:
    call = folded([scored(1, timestamp=timestamp)])
    assert 1 <= call.at(call.at_ms).year <= 9999


def test_silence_and_overlap_by_hand() -> None:
    spans = (
        (1_000, 5_000, "agent"),
        (7_000, 9_000, "customer"),
        (8_000, 12_000, "agent"),
        (13_000, 14_000, "customer"),
    )
    call = folded(scored(n, speaker=who, start_ms=a, end_ms=b) for n, (a, b, who) in enumerate(spans))
    assert call.silence_ms == 2_000 + 1_000, "the ringing before the first word is no silence"
    assert call.overlap_ms == 1_000
    assert {who: voice.talk_ms for who, voice in call.voices.items()} == {"agent": 8_000, "customer": 3_000}
    assert call.at_ms == 14_000
    late = advance(call, scored(9, start_ms=2_000, end_ms=3_000))
    assert (late.at_ms, late.customer.end_ms, late.overlap_ms) == (14_000, 14_000, 2_000)


def test_only_the_first_end_opens_the_grace() -> None:
    call = folded([scored(0), event(1, "end", reason="hangup"), event(2, "end", reason="again"), scored(3, -1)])
    assert (call.status, call.reason, call.ended_clock) == ("ending", "hangup", T0 + 10_000)
    assert call.customer.segments == 2, "the last transcripts come after the hang-up"


def hard_call(letters: str, count: int) -> list[Scored]:
    """As big as a call can be: everybody is scored, every id and text at its limit, attributes ever new."""
    rng = random.Random(count)

    def noise(size: int) -> str:
        return "".join(rng.choices(letters, k=size // len(letters[0].encode())))

    ids: dict[str, Any] = {"call_id": noise(256), "channel": noise(256)}
    return [
        scored(
            n,
            rng.uniform(-1, 1),
            speaker=SPEAKERS[n % 5],
            segment_id=noise(256),
            text=noise(10_000 * len(letters[0].encode())),
            attributes={noise(250): noise(249)},
            **ids,
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("letters", ["".join(map(chr, range(0xAC00, 0xD7A4))), "".join(map(chr, range(1, 32))), '"\\'])
def test_the_state_stays_bounded_whatever_a_call_brings(letters: str) -> None:
    call, sizes = None, []
    for turn in hard_call(letters, 500):
        call = advance(call, turn)
        sizes.append(len(encode(call)))
    assert call is not None
    rng = random.Random(1)
    alerts = [
        Episode(rng.randbytes(16).hex(), "sustained_negative", 2, "critical", 99, n, n + 1, n < 4, 9, "a1b2c3")
        for n in range(EPISODES)
    ]
    largest = encode(replace(call, episodes=tuple(alerts)))
    assert len(largest) < 36 * 1024
    assert len(zlib.compress(largest)) < 9 * 1024
    assert max(sizes) < 1.15 * max(sizes[:100]), "it has stopped growing"


HOUR = 3_600_000


@pytest.mark.parametrize(
    ("turns", "due"),
    [
        ([scored(1)], T0 + 10_000 + HOUR // 4),
        ([scored(1, channel="email")], T0 + 10_000 + HOUR // 4),
        ([scored(1, channel="chat")], T0 + 10_000 + 24 * HOUR),
        ([scored(1), scored(2, final=False)], T0 + 20_000 + HOUR // 4),
        ([scored(2), scored(3, timestamp=T0)], T0 + 20_000 + HOUR // 4),
        ([scored(1, channel="chat"), event(2, "end")], T0 + 20_000 + 60_000),
        ([event(2, "end"), scored(3)], T0 + 20_000 + 60_000),
    ],
)
def test_a_call_is_due_by_its_status_and_channel(turns: list[Scored], due: int) -> None:
    assert folded(turns).due(Limits()) == due


def test_a_closed_calls_marker_is_due_a_day_later_and_limits_can_be_set() -> None:
    call = folded([scored(1)])
    assert replace(call, status="closed").due(Limits()) == T0 + 10_000 + 24 * HOUR
    limits = Limits(grace_ms=1, voice_silence_ms=2, chat_silence_ms=3, closed_ms=4)
    assert call.due(limits) == T0 + 10_002
    assert replace(call, channel="chat").due(limits) == T0 + 10_003
    assert replace(call, ended_clock=T0).due(limits) == T0 + 1
    assert replace(call, status="closed").due(limits) == T0 + 10_004


@pytest.mark.parametrize("year", [1, 1970])
@pytest.mark.parametrize("field", ["start_at", "started_at"])
def test_a_start_from_which_the_call_would_be_too_long_moves_nothing(year: int, field: str) -> None:
    first, far = scored(0, 0.5, start_ms=None, end_ms=None, start_at=NOW), NOW.replace(year=year)
    before = folded([first, scored(1, -0.8, start_ms=None, end_ms=None, start_at=NOW + timedelta(seconds=10))])
    after = advance(before, scored(2, 0.1, **({"start_ms": None, "end_ms": None} | {field: far})))
    assert (after.origin_ms, after.guessed, after.turns[-1].end_ms) == (epoch_ms(NOW), True, 10_000)
    assert advance(after, event(3, "start", started_at=NOW - timedelta(hours=1))).turns[-1].end_ms == 3_610_000
    encode(after)
