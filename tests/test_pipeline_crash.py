"""Judging again after a crash gives what one clean pass gives: the same alerts, summaries and states, byte for byte."""

import random
from dataclasses import dataclass, field

import pytest
from builders import T0, event, scored
from hypothesis import given
from hypothesis import strategies as st

from streams.conversation import Limits
from streams.outcome import Outcome
from streams.pipeline import Calls
from streams.records import Alert, Scored, Summary
from streams.wire import cloud_event, decode_positions, decode_state, encode

LIMITS = Limits(grace_ms=60_000, voice_silence_ms=900_000)
Write = tuple[str, str, bytes | None]
Plan = list[tuple[int, int | None, int]]
"""Batches: (size, writes that get through before a crash or None, how far before its start reading begins again)."""


@dataclass
class Stored:
    """What is on the broker: the events of each call, with their ids, and the newest state of each."""

    events: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)
    states: dict[str, bytes] = field(default_factory=dict)
    positions: bytes | None = None

    def load(self) -> Calls:
        positions = decode_positions(self.positions) if self.positions else None
        return Calls(LIMITS, 4, map(decode_state, self.states.values()), positions)

    def write(self, write: Write) -> None:
        match write:
            case ("positions", _, value):
                self.positions = value
            case ("state", call_id, None):
                self.states.pop(call_id, None)
            case ("state", call_id, bytes(value)):
                self.states[call_id] = value
            case (identity, call_id, bytes(value)):
                self.events.setdefault(call_id, []).append((identity, value))

    def as_consumed(self) -> dict[str, dict[str, bytes]]:
        """The events as a consumer has them that drops what it knows by its id; a repeat must be the same bytes."""
        for events in self.events.values():
            assert len(set(events)) == len({identity for identity, _ in events})
        return {call_id: dict(events) for call_id, events in self.events.items()}


def writes(calls: Calls, outcome: Outcome, rng: random.Random) -> list[Write]:
    """What a batch writes, in the order that streams/state.py promises; its states in any order."""
    records: list[Alert | Summary] = [*outcome.alerts, *outcome.summaries]
    events: list[Write] = [(repr(dict(cloud_event(r))["ce_id"]), r.call_id, encode(r)) for r in records]
    states: list[Write] = [("state", name, encode(call) if call else None) for name, call in outcome.changed.items()]
    rng.shuffle(states)
    return [*events, *states, ("positions", "", encode(calls.positions))]


def run(log: list[Scored], plan: Plan, seed: int = 0) -> Stored:
    """Judges the log: first by the plan, then the rest in one batch."""
    stored, rng, at = Stored(), random.Random(seed), 0
    calls = stored.load()
    for size, survive, rewind in [*plan, (len(log), None, 0)]:
        outcome = Outcome()
        for turn in log[at : at + size]:
            calls.judge(turn, outcome)
        for write in writes(calls, outcome, rng)[:survive]:
            stored.write(write)
        if survive is None:
            at += size
        else:
            at, calls = max(0, at - rewind), stored.load()
    return stored


def over(stored: Stored) -> Stored:
    """After every due time has passed."""
    calls, outcome = stored.load(), Outcome()
    calls.tick(dict.fromkeys(calls.timers, T0 + 40 * 86_400_000), outcome)
    for write in writes(calls, outcome, random.Random(0)):
        stored.write(write)
    return stored


def turn_of(call: str, kind: str, score: float, lane: int, offset: int, timestamp: int) -> Scored:
    if kind in ("end", "update"):
        return event(offset, kind, call_id=call, lane=lane, timestamp=timestamp, attributes={"offset": offset})
    return scored(
        offset,
        score,
        call_id=call,
        lane=lane,
        timestamp=timestamp,
        segment_id=f"{lane}-{offset - 1 if kind == 'again' else offset}",
        speaker="agent" if kind == "agent" else "customer",
        final=kind != "partial",
        start_ms=None,
        end_ms=None,
    )


KINDS = ("turn", "turn", "turn", "turn", "agent", "partial", "again", "end", "update")
GAPS = (0, 5, 12, 30, 61, 400, 901)


def timed(steps: list[tuple[str, str, float, int, int, int]]) -> list[Scored]:
    """A log of calls.sentiment: two source partitions, whose records' times go forward but for a few seconds; all of it
    within a day, so that a closed call's marker is still there when its records come again."""
    now, offsets, log = T0, [0, 0], []
    for call, kind, score, lane, gap_s, jitter_s in steps:
        now += 1_000 * gap_s
        log.append(turn_of(call, kind, score, lane, offsets[lane], now + 1_000 * jitter_s))
        offsets[lane] += 1
    return log


def check(log: list[Scored], plan: Plan, seed: int) -> None:
    clean, crashed = run(log, []), run(log, plan, seed)
    assert crashed.states == clean.states
    assert crashed.positions == clean.positions
    assert over(crashed).as_consumed() == over(clean).as_consumed()


calls, scores = st.sampled_from("abc"), st.sampled_from((-1.0, -1.0, -0.6, 0.9))
steps = st.tuples(calls, st.sampled_from(KINDS), scores, st.integers(0, 1), st.sampled_from(GAPS), st.integers(-20, 20))
batches = st.tuples(st.integers(1, 12), st.none() | st.integers(0, 15), st.integers(0, 12))


@given(st.lists(steps, min_size=1, max_size=30).map(timed), st.lists(batches, max_size=5), st.integers(0, 99))
def test_crashes_and_repeated_deliveries_change_nothing(log: list[Scored], plan: Plan, seed: int) -> None:
    check(log, plan, seed)


@pytest.mark.parametrize("seed", range(10))
def test_crashes_and_repeated_deliveries_change_nothing_in_longer_logs(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(40):
        drawn = [
            (rng.choice("abc"), rng.choice(KINDS), rng.choice((-1.0, -0.6, 0.9)), rng.randrange(2), rng.choice(GAPS), 0)
            for _ in range(60)
        ]
        plan: Plan = [(rng.randint(1, 8), rng.choice((None, *range(9))), rng.randint(0, 6)) for _ in range(12)]
        check(timed(drawn), plan, seed)


def test_a_record_that_a_stored_state_contains_still_moves_the_clock_for_the_others() -> None:
    # b's end is judged, and a's record at 900 s, which closes b; of that batch only a's state gets through.
    log = timed([("b", "end", 0, 0, 0, 0), ("a", "turn", 0, 0, 900, 0), ("b", "turn", 0, 1, 0, 0)])
    for survive in range(4):
        for seed in range(4):
            check(log, [(2, survive, 2)], seed)


def test_a_state_that_is_ahead_of_the_log_is_not_closed_before_the_log_has_caught_up() -> None:
    # c ends on lane 0, moves to lane 1 after lane 1's clock has passed its grace, and moves back.
    back_and_forth = [("c", "partial", 0, 1, 0, 0), ("c", "turn", 0, 0, 0, 0)]
    log = timed([("c", "end", 0, 0, 0, 0), ("a", "turn", 0, 1, 900, 0), *back_and_forth])
    for survive in range(4):
        for seed in range(4):
            check(log, [(3, survive, 3)], seed)
