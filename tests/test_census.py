"""Live calls and open alerts by queue: what is kept along the way is what counting all states gives, under few names."""

from collections import Counter

from builders import T0, event, rule, scored
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.census import MOST, NO_QUEUE, OTHER, Census, Queues
from streams.conversation import Limits
from streams.outcome import Outcome
from streams.pipeline import Calls
from streams.records import Scalar, Scored
from streams.wire import encode

LIMITS = Limits(grace_ms=20_000, voice_silence_ms=100_000, closed_ms=300_000)
LOW = rule("{measure: score.last, lte: -0.5}")
OTHERS = rule("{measure: score.last, lte: -0.5}", version="2")


def counted(calls: Calls) -> tuple[Counter[str], Counter[str]]:
    """Over all states, one by one."""
    live, alerts = Counter[str](), Counter[str]()
    for call_id in calls.calls:
        call = calls.calls.seen(call_id)
        if call.status != "closed":
            queue = str(call.attributes.get("queue") or NO_QUEUE)
            live[queue] += 1
            alerts[queue] += sum(not episode.resolved for episode in call.episodes)
    return live, alerts


def kept(calls: Calls) -> tuple[Counter[str], Counter[str]]:
    return calls.census.live, calls.census.open


def same(calls: Calls) -> None:
    assert [+numbers for numbers in kept(calls)] == [+numbers for numbers in counted(calls)]
    assert all(number >= 0 for numbers in kept(calls) for number in numbers.values())


steps = st.tuples(
    st.sampled_from(("turn", "end", "queue")),
    st.sampled_from("abcd"),
    st.sampled_from((-1.0, 0.0, None)),
    st.sampled_from((None, "", "billing", "tech", 7)),
    st.sampled_from((0, 1_000, 30_000, 150_000, 500_000)),
)


def log(drawn: list[tuple[str, str, float | None, Scalar, int]]) -> list[Scored]:
    made, now = [], T0
    for number, (kind, call_id, score, queue, gap_ms) in enumerate(drawn):
        now += gap_ms
        given = {"call_id": call_id, "timestamp": now, "attributes": {"queue": queue}}
        turn = (
            scored(number, score, **given) if kind == "turn" else event(number, "end" if kind == "end" else "update", **given)
        )
        made.append(turn)
    return made


@given(st.lists(steps, max_size=25).map(log), st.integers(0, 25), st.integers(0, 600_000))
def test_it_is_what_counting_all_states_gives_whatever_happens_and_after_a_restart(
    turns: list[Scored], at: int, more_ms: int
) -> None:
    calls, outcome = Calls(LIMITS, 1, rules=LOW), Outcome()
    for turn in turns[:at]:
        calls.judge(turn, outcome)
        same(calls)
    states = [encode(calls.calls.seen(call_id)) for call_id in calls.calls]
    again = Calls(LIMITS, 1, positions=calls.positions, rules=OTHERS)
    again.load(states)
    same(again)
    assert [+numbers for numbers in kept(again)] == [+numbers for numbers in kept(calls)]
    while again.untaken:  # alerts of rules that changed resolve
        again.take_over(2, outcome)
        same(again)
    for turn in turns[at:]:
        again.judge(turn, outcome)
    again.tick(dict.fromkeys(again.timers, T0 + more_ms), outcome)
    same(again)


def test_a_call_that_is_put_through_is_counted_in_its_new_queue_and_one_that_is_over_in_none() -> None:
    calls, outcome = Calls(LIMITS, 1, rules=LOW), Outcome()
    calls.judge(scored(0, -1, attributes={"queue": "billing"}), outcome)
    assert kept(calls) == ({"billing": 1}, {"billing": 1})
    calls.judge(event(1, "update", attributes={"queue": "tech"}), outcome)
    assert kept(calls) == ({"billing": 0, "tech": 1}, {"billing": 0, "tech": 1})
    calls.judge(event(2, "end"), outcome)
    assert kept(calls)[0] == {"billing": 0, "tech": 1}
    calls.tick({"topic:0": T0 + 10_000_000}, outcome)
    assert kept(calls) == ({"billing": 0, "tech": 0}, {"billing": 0, "tech": 0})


@given(st.lists(st.text(max_size=3) | st.integers(0, 200) | st.booleans() | st.none(), max_size=300), st.integers(0, 5))
def test_there_are_never_more_names_than_are_allowed(queues: list[Scalar], most: int) -> None:
    names = Queues(most)
    given = [names.of({"queue": queue}) for queue in queues]
    assert len(set(given) - {NO_QUEUE, OTHER}) <= most
    for queue, name in zip(queues, given, strict=True):
        assert name == OTHER or name == (NO_QUEUE if queue in (None, "") else str(queue))
        assert names.of({"queue": queue}) in (name, OTHER)


def test_fifty_queues_have_a_name_and_the_others_share_one() -> None:
    names = Queues()
    seen = [names.of({"queue": f"q{n}"}) for n in range(60)]
    assert seen == [*(f"q{n}" for n in range(50)), *[OTHER] * 10]
    assert MOST == 50
    assert (names.of({"queue": "q7"}), names.of({}), names.of({"agent_id": "a"})) == ("q7", NO_QUEUE, NO_QUEUE)


def test_partitions_of_a_worker_share_their_names() -> None:
    queues = Queues(most=1)
    first, second = Calls(LIMITS, 2, queues=queues), Calls(LIMITS, 2, queues=queues)
    first.judge(scored(0, 0, attributes={"queue": "a"}), Outcome())
    second.judge(scored(0, 0, attributes={"queue": "b"}), Outcome())
    assert (first.census.live, second.census.live) == ({"a": 1}, {OTHER: 1})


def test_a_state_that_did_not_change_is_noted_twice_and_counted_once() -> None:
    census, calls = Census(Queues()), Calls(LIMITS, 1)
    calls.judge(scored(0, 0), Outcome())
    for _ in range(2):
        census.note(replace(calls.calls["call-1"]), 0)
    assert census.live == {NO_QUEUE: 1}
