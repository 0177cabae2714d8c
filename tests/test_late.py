"""A call whose segments come late, out of order and repeatedly is summed up as the one that came in order."""

import random
from datetime import timedelta
from typing import Any

from builders import NOW, event, folded, scored
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.conversation import Conversation, advance
from streams.late import LATE_MS, TURNS
from streams.measures import measured
from streams.records import SPEAKERS, Model, Scored
from streams.summary import summarise
from streams.turns import order
from streams.wire import decode_state, encode

START = event(0, "start", started_at=NOW)
PROMPTS = ("welcome", "please say yes or no", "Please say  yes or no")

said = st.tuples(
    st.sampled_from(SPEAKERS),
    st.integers(0, 20_000),  # from the start of the one before
    st.integers(0, 15_000),  # how long
    st.one_of(st.none(), st.integers(-100, 100)),  # score in hundredths
    st.sampled_from(PROMPTS),
    st.sampled_from(("1", "1", "1", "2")),  # the model's revision
)


def spoken(turns: list[tuple[Any, ...]]) -> list[Scored]:
    """In the order in which they end."""
    made, at = [], 0
    for n, (speaker, gap, length, score, text, revision) in enumerate(turns, start=1):
        at += gap
        times = {"start_ms": at, "end_ms": at + length, "text": text, "speaker": speaker}
        made.append(scored(n, None if score is None else score / 100, model=Model("m", revision, "fp32"), **times))
    return sorted(made, key=lambda turn: (turn.end_ms, turn.start_ms))


def delayed(turns: list[Scored], rng: random.Random) -> list[Scored]:
    """As they may come: none later than LATE_MS after one that ended later, and some of them again."""
    again = [replace(rng.choice(turns), source=turns[0].source) for _ in range(len(turns) // 4)]
    arrivals = [((turn.end_ms or 0) + rng.randint(0, LATE_MS), rng.random(), turn) for turn in turns]
    first = {turn.segment_id: at for at, _, turn in arrivals}
    arrivals += [(first[turn.segment_id] + rng.randint(0, LATE_MS), rng.random(), turn) for turn in again]
    return [turn for _, _, turn in sorted(arrivals, key=lambda arrival: arrival[:2])]


def dense(turns: list[Scored]) -> bool:
    """Whether more turns end within the bound than are kept."""
    ends = [turn.end_ms or 0 for turn in turns]
    return any(sum(end - LATE_MS <= other <= end for other in ends) >= TURNS for end in ends)


@settings(max_examples=400, deadline=None)
@given(st.lists(said, min_size=1, max_size=90), st.randoms(use_true_random=False))
def test_late_and_repeated_segments_give_the_summary_of_the_ordered_call(
    turns: list[tuple[Any, ...]], rng: random.Random
) -> None:
    in_order = spoken(turns)
    if dense(in_order):
        return
    call, other = folded([START, *in_order]), folded([START, *delayed(in_order, rng)])
    assert encode(summarise(other)) == encode(summarise(call))
    assert [order(turn) for turn in other.turns] == [order(turn) for turn in call.turns]
    assert other.recent == call.recent


def absolute(turn: Scored) -> Scored:
    """With times of the day in place of offsets."""
    start_at, end_at = (NOW + timedelta(milliseconds=ms or 0) for ms in (turn.start_ms, turn.end_ms))
    return replace(turn, start_ms=None, end_ms=None, start_at=start_at, end_at=end_at)


@settings(max_examples=200, deadline=None)
@given(st.lists(said, min_size=1, max_size=30), st.randoms(use_true_random=False), st.booleans())
def test_a_call_that_gives_only_times_of_the_day_begins_with_its_earliest_turn_or_when_it_is_told(
    turns: list[tuple[Any, ...]], rng: random.Random, told: bool
) -> None:
    in_order = [absolute(turn) for turn in spoken(turns)]
    late = [absolute(turn) for turn in delayed(spoken(turns), rng)]
    end = event(99, "update", started_at=NOW - timedelta(seconds=7)) if told else event(99, "update")
    call, other = folded([*in_order, end]), folded([*late, end])
    begun = NOW - timedelta(seconds=7) if told else min(turn.start_at or NOW for turn in in_order)
    assert summarise(call).started_at == begun
    assert encode(summarise(other)) == encode(summarise(call))
    assert encode(summarise(folded([replace(end, type="start", started_at=begun), *in_order]))) == encode(summarise(call))


@settings(max_examples=60, deadline=None)
@given(st.lists(said, min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_a_state_that_was_stored_goes_on_as_the_one_in_memory(turns: list[tuple[Any, ...]], rng: random.Random) -> None:
    stored: Conversation | None = None
    arriving = [START, *delayed(spoken(turns), rng)]
    for turn in arriving:
        stored = decode_state(encode(advance(stored, turn)))
    assert stored == folded(arriving)


def turn(end_s: int, score: float | None = None, speaker: str = "customer") -> Scored:
    return scored(end_s, score, speaker=speaker, start_ms=end_s * 1000 - 500, end_ms=end_s * 1000, segment_id=f"at-{end_s}")


def test_alerts_do_not_wait_what_came_is_measured_at_once_and_set_right_later() -> None:
    call = folded([turn(1, -1), turn(20, 1)])
    assert measured(call, "customer")["streak.positive"] == 1
    call = advance(call, turn(30, 1))
    assert measured(call, "customer")["streak.positive"] == 2
    call = advance(call, turn(25, -1))
    assert measured(call, "customer")["streak.positive"] == 1
    assert [kept.end_ms for kept in call.turns] == [1_000, 20_000, 25_000, 30_000]
    assert [quoted.end_ms for quoted in call.recent] == [1_000, 20_000, 25_000, 30_000]


def test_what_is_older_than_thirty_seconds_is_settled_and_exactly_thirty_is_not() -> None:
    call = folded([turn(1), turn(10), turn(40)])
    assert (call.unsettled, call.settled.voices["customer"].segments) == (2, 1)
    call = advance(call, turn(41))
    assert (call.unsettled, call.settled.voices["customer"].segments) == (2, 2)


def test_a_turn_that_is_later_still_counts_where_it_comes() -> None:
    call = folded([turn(1, 1), turn(2, 1), turn(100, 1), turn(3, -1)])
    assert (call.customer.scored, call.customer.negative, call.unsettled) == (4, 1, 1)
    assert [kept.end_ms for kept in call.turns] == [1_000, 2_000, 3_000, 100_000]
    assert advance(call, turn(3, -1)).customer.scored == 4


def test_turns_are_kept_for_ten_minutes_and_repeats_known_beyond() -> None:
    call = folded([turn(1, 1), turn(2, -1), turn(602, 1)])
    assert [kept.end_ms for kept in call.turns] == [2_000, 602_000]
    for again in (1, 2):
        assert advance(call, turn(again, 1)).customer.scored == 3
    very_late = advance(folded([turn(n) for n in range(800, 900)]), turn(1))
    assert advance(very_late, turn(1)).customer.segments == 101


def test_at_most_sixty_four_turns_are_kept_and_as_many_repeats_known() -> None:
    call = folded(scored(n, start_ms=n * 100, end_ms=n * 100 + 50) for n in range(200))
    assert (len(call.turns), call.unsettled, call.settled.voices["customer"].segments) == (TURNS, TURNS, 200 - TURNS)
    for n in range(200 - TURNS, 200):
        assert advance(call, scored(n)).customer.segments == 200


def test_a_partial_never_counts() -> None:
    call = folded([START, turn(1, -1)])
    assert measured(advance(call, replace(turn(2, -1), final=False)), None) == measured(call, None)
