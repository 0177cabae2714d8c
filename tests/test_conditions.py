"""Each condition of the rule language on calls made by hand: when it holds, what it compared, when it may change by itself."""

from typing import Any

import pytest
from builders import T0, folded, rule, ruleset, scored
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.alerts import follow
from streams.conversation import Conversation, advance
from streams.look import GROWS, Look
from streams.measures import MEASURES
from streams.records import Model, Scored
from streams.rules import RuleSet


def said(*scores: float | None, **given: Any) -> list[Scored]:
    return [scored(n, score, **given) for n, score in enumerate(scores)]


def heard(turns: list[Scored], rules: RuleSet) -> Conversation:
    """The call after these turns, with what the rules remember of it."""
    call: Conversation | None = None
    for turn in turns:
        call = follow(call, advance(call, turn), turn, rules).call
    assert call is not None
    return call


def holds(condition: str, turns: list[Scored], idle_ms: int = 0) -> bool:
    rules = rule(condition)
    return rules.rules[0].when.holds(Look(heard(turns, rules), idle_ms))


def values(condition: str, turns: list[Scored]) -> dict[str, float]:
    rules = rule(condition)
    return rules.rules[0].values(Look(heard(turns, rules)))


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_can_be_compared(name: str) -> None:
    """At its own value a measure holds with gte and lte, and not with gt and lt; where there is none, none of them holds."""
    speakers = ("bot", "customer", "bot", "customer", "agent", "customer", "customer", "agent", "customer", "customer")
    turns = [
        scored(n, (n % 3 - 1) * 0.9, speaker=who, text="please say that again" if who == "bot" else f"word {n}",
               start_ms=n * 9_000, end_ms=n * 9_000 + 10_000 * (1 + n % 2))
        for n, who in enumerate((*speakers, "bot"))
    ]  # fmt: skip
    call, measure = folded(turns), MEASURES[name]
    value = measure.read(call, "customer")
    assert value is not None, "the call has all that is measured"
    assert measure.low <= value <= measure.high
    low, high = max(measure.low, value - 1e-3), min(measure.high, value + 1e-3)
    cases = [("gte", value, True), ("lte", value, True), ("gt", value, False), ("lt", value, False)]
    cases += [("gte", high, high == value), ("lte", low, low == value), ("gt", low, low < value), ("lt", high, high > value)]
    for how, bound, expected in cases:
        found = rule(f"{{measure: {name}, {how}: {bound!r}}}").rules[0]
        assert found.when.holds(Look(call)) == expected, (how, bound, value)
        assert found.when.values(Look(call)) == {name: round(value, 3)}
        assert not found.when.holds(Look(folded([scored(0, speaker="system", start_ms=0, end_ms=0)]))) or value is not None


def test_a_measure_of_nobody_never_holds() -> None:
    for how in ("gte: -1", "lte: 1"):
        assert not holds(f"{{measure: score.mean, {how}}}", said(None))
        assert not holds(f"{{measure: score.mean, speaker: agent, {how}}}", said(1, 1))
    assert values("{measure: score.mean, gte: 0}", said(None)) == {}


def test_a_measure_between_two_bounds() -> None:
    assert [holds("{measure: score.last, gte: -0.5, lt: 0}", said(score)) for score in (-0.6, -0.5, -0.1, 0)] == [
        False, True, True, False
    ]  # fmt: skip


def test_whose_measure_it_is() -> None:
    turns = [scored(0, -1), scored(1, 1, speaker="agent"), scored(2, 0, speaker="unknown")]
    assert values("{measure: score.last, gte: 0}", turns) == {"score.last": -1}
    assert values("{measure: score.last, speaker: agent, gte: 0}", turns) == {"score.last.agent": 1}
    scoped = rule("{measure: score.last, gte: 0}", scope="{speaker: agent}")
    assert scoped.rules[0].values(Look(folded(turns))) == {"score.last": 1}
    assert values("{measure: score.last, gte: -1}", [replace(turns[2], segment_id="x")]) == {"score.last": 0}, (
        "unknown speakers"
    )


@pytest.mark.parametrize(
    ("condition", "scores", "expected"),
    [
        ("{label: negative, turns: 3}", (-1, 0, 0), True),
        ("{label: negative, turns: 3}", (-1, 0, 0, 0), False),
        ("{label: negative, turns: 3, count: 2}", (-1, -1, 0, 0), False),
        ("{label: negative, turns: 3, count: 2}", (-1, -1, 0), True),
        ("{label: negative, turns: 3, count: {lte: 1}}", (-1, 0, 0), True),
        ("{label: negative, turns: 4, share: 0.5}", (-1, -1, 0, 0), True),
        ("{label: negative, turns: 4, share: {gt: 0.5}}", (-1, -1, 0, 0), False),
        ("{label: negative, turns: 4, share: {gt: 0.5}}", (-1,), True),
        ("{label: negative, turns: 4, share: {gt: 0.5}, min_turns: 2}", (-1,), False),
        ("{label: positive, turns: 2}", (1, 0), True),
        ("{label: neutral, turns: 1}", (1, 0), True),
        ("{label: negative, within: 10s}", (-1, 0), True),
        ("{label: negative, within: 9.9s}", (-1, 0), False),
        ("{label: negative, within: 10s}", (), False),
        ("{mean: {lte: -0.4}, turns: 2}", (1, -0.4, -0.4), True),
        ("{mean: {lte: -0.4}, turns: 3}", (1, -0.4, -0.4), False),
        ("{mean: {lte: -0.4}, within: 10s}", (1, -0.4, -0.4), True),
        ("{mean: {gte: -1}, turns: 3, min_turns: 2}", (1,), False),
        ("{drop: 0.7, turns: 3, against: 5, to: {lte: -0.4}}", (0.5, 0.5, -0.5, -0.5, -0.5), True),
        ("{drop: 0.7, turns: 3, against: 5, to: {lte: -0.4}}", (0.25, -0.5, -0.5, -0.5), True),
        ("{drop: 0.7, turns: 3, against: 5, to: {lte: -0.4}}", (0.125, -0.5, -0.5, -0.5), False),
        ("{drop: 0.7, turns: 3, against: 5, to: {lte: -0.4}}", (1, -0.5, -0.25, -0.25), False),
        ("{drop: 0.7, turns: 3, against: 5, to: {lte: -0.4}}", (-1, -1, -1), False),
        ("{drop: 0.7, turns: 3, against: 1}", (1, -1, -1, -1, -1), False),
        ("{drop: 0.7, turns: 2}", (1, 1, 0, 0.25), True),
        ("{drop: 0.7, within: 15s, against: 20s}", (1, 1, -1, -1), True),
        ("{drop: 0.7, within: 15s}", (1, -1, -1), True),
        ("{drop: 0.7, within: 15s}", (1, -1), False),
        ("{rise: 0.7, turns: 1}", (-1, 0), True),
        ("{rise: 0.7, turns: 1}", (0, -1), False),
        ("{rise: 0.7, turns: 1, to: {gte: 0.5}}", (-1, 0), False),
        ("{streak: negative, turns: 2}", (0, -1, -1), True),
        ("{streak: negative, turns: 2}", (-1, -1, 0), False),
        ("{streak: negative, turns: 2}", (-1,), False),
        ("{all: [{streak: negative, turns: 1}, {label: positive, turns: 2}]}", (1, -1), True),
        ("{all: [{streak: negative, turns: 1}, {label: positive, turns: 2}]}", (0, -1), False),
        ("{any: [{streak: negative, turns: 1}, {label: positive, turns: 2}]}", (0, -1), True),
        ("{any: [{streak: negative, turns: 1}, {label: positive, turns: 2}]}", (0, 0), False),
        ("{not: {any: [{streak: negative, turns: 1}, {label: positive, turns: 2}]}}", (0, 0), True),
        ("{all: [{not: {streak: negative, turns: 1}}]}", (0, -1), False),
    ],
)
def test_conditions_on_the_customers_turns(condition: str, scores: tuple[float, ...], expected: bool) -> None:
    turns = [
        scored(0, speaker="agent", start_ms=0, end_ms=1),
        *(replace(t, segment_id=f"c{i}") for i, t in enumerate(said(*scores))),
    ]
    assert holds(condition, turns) == expected
    mixed = [*turns, *(scored(n, 0.0, speaker="agent", start_ms=1, end_ms=2) for n in range(20, 24))]
    assert holds(condition, mixed) == expected, "what others said earlier in the call changes nothing"


def test_what_a_condition_compared() -> None:
    turns = said(1, 1, -1, -0.4, -1)
    assert values("{label: negative, turns: 4, share: 0.5}", turns) == {
        "negative.count": 2, "negative.of": 4, "negative.share": 0.5
    }  # fmt: skip
    assert values("{label: negative, turns: 4}", turns) == {"negative.count": 2, "negative.of": 4}
    assert values("{mean: {lte: 0}, turns: 2}", turns) == {"mean": -0.7}
    assert values("{drop: 0.5, turns: 3}", turns) == {"before": 1, "now": -0.8, "drop": 1.8}
    assert values("{drop: 0.5, turns: 5}", turns) == {}
    assert values("{streak: negative, turns: 3}", turns) == {"streak.negative": 1}
    assert values("{silence: 5s}", turns) == {"silence_s": 0}
    both = "{all: [{mean: {lte: 0}, turns: 2}, {mean: {lte: 0}, turns: 1}, {mean: {lt: 0}, turns: 2}]}"
    assert values(both, turns) == {"mean": -0.7, "mean.2": -1}, "the same thing has one name"


def test_a_drop_never_compares_two_model_revisions() -> None:
    turns = said(1, 1, 1, -1, -1, -1)
    assert holds("{drop: 0.7, turns: 3}", turns)
    other = [*turns[:3], *(replace(turn, model=Model("fake", "2", "exact")) for turn in turns[3:])]
    assert not holds("{drop: 0.7, turns: 3}", other)
    assert not holds("{drop: 0.7, within: 25s}", other)
    assert not holds(
        "{rise: 0.7, turns: 3}",
        [replace(turn, sentiment=back.sentiment) for turn, back in zip(other, turns[::-1], strict=True)],
    )


def texts(*said_by: tuple[str, str]) -> list[Scored]:
    return [scored(n, 0.0, speaker=who, text=text) for n, (who, text) in enumerate(said_by)]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("{words: refund}", True),
        ("{words: [nothing, 환불]}", True),
        ("{words: refund, speaker: agent}", False),
        ("{words: hello, speaker: any}", True),
        ("{words: hello}", False),
        ("{words: refund, turns: 2}", False),
        ("{words: refund, turns: 3}", True),
        ("{words: 환불, turns: 1}", True),
        ("{words: [refund, 환불], count: 2}", True),
        ("{words: [refund, 환불], count: 3}", False),
        ("{words: [refund, 환불], count: 2, turns: 2}", False),
        ("{words: refund, within: 30s}", True),
        ("{words: refund, within: 29s}", False),
        ("{regex: 're.?fund'}", True),
        ("{regex: 're.?fund$', turns: 1}", False),
    ],
)
def test_words_are_listened_for(condition: str, expected: bool) -> None:
    turns = texts(
        ("agent", "Hello there"),
        ("customer", "I want a REFUND."),
        ("agent", "why"),
        ("customer", "because"),
        ("customer", "환불을"),
    )
    assert holds(condition, turns) == expected


def test_unknown_speakers_are_listened_to_as_the_customer_until_one_is_known() -> None:
    assert holds("{words: refund}", texts(("unknown", "refund")))
    assert not holds("{words: refund}", texts(("customer", "hello"), ("unknown", "refund")))
    assert holds("{words: refund, speaker: unknown}", texts(("customer", "hello"), ("unknown", "refund")))


def test_words_of_a_late_utterance_count_at_its_own_time() -> None:
    turns = [
        *texts(("customer", "a"), ("customer", "b"), ("customer", "c")),
        scored(9, 0.0, text="refund", start_ms=4_000, end_ms=5_000),
    ]
    assert holds("{words: refund, within: 20s}", turns)
    assert not holds("{words: refund, within: 18s}", turns)
    assert not holds("{words: refund, turns: 2}", turns)


def test_partials_and_repeats_are_not_listened_to() -> None:
    first = scored(0, text="refund")
    assert not holds("{words: refund}", [scored(1, text="hello"), replace(first, final=False)])
    rules = rule("{words: refund, count: 2}")
    assert not rules.rules[0].when.holds(Look(heard([first, replace(first, source=replace(first.source, offset=1))], rules)))


def test_silence_is_the_time_in_which_nobody_is_heard_while_the_call_goes_on() -> None:
    turns = said(0.0)
    assert [holds("{silence: 30s}", turns, idle) for idle in (29_999, 30_000)] == [False, True]
    call = replace(folded(turns), status="ending")
    assert not rule("{silence: 30s}").rules[0].when.holds(Look(call, 60_000)), "after the hang-up there is nobody to be silent"


@pytest.mark.parametrize(
    ("condition", "wake"),
    [
        ("{silence: 30s}", 20_000),
        ("{measure: duration_s, gte: 20}", 6_000),
        ("{measure: duration_s, gt: 20}", 6_001),
        ("{measure: duration_s, lt: 20}", 6_000),
        ("{measure: duration_s, lte: 20}", 6_001),
        ("{measure: since_customer_spoke_s, gte: 60}", 50_000),
        ("{measure: since_spoke_s, speaker: agent, gte: 60}", None),
        ("{measure: silence_s, gte: 60}", 50_000),
        ("{measure: duration_s, gte: 5}", None),
        ("{measure: position_s, gte: 20}", None),
    ],
)
def test_when_a_condition_may_change_by_itself(condition: str, wake: int | None) -> None:
    look = Look(folded([scored(0, 0.0)]), idle_ms=10_000)
    [condition_] = rule(condition).rules[0].conditions
    assert [found for wakes in condition_.wakes if (found := wakes(look)) is not None] == ([] if wake is None else [wake])
    if wake is not None:
        before, after = Look(look.call, 10_000 + wake - 1), Look(look.call, 10_000 + wake)
        assert condition_.holds(before) != condition_.holds(after)


def test_all_that_grows_is_a_measure() -> None:
    assert MEASURES.keys() >= GROWS


def _counted(scores: list[float]) -> dict[str, float]:
    return {"negative.count": sum(x <= -0.5 for x in scores), "negative.of": len(scores)} if scores else {}


said_by = st.tuples(st.sampled_from(("customer", "agent", "unknown")), st.sampled_from((-1.0, -0.4, 0.0, 0.6)))


@given(st.lists(said_by, max_size=30), st.integers(1, 12))
def test_counts_and_streaks_are_what_a_plain_count_says(conversation: list[tuple[str, float]], turns: int) -> None:
    call = folded([scored(0, speaker="system"), *(scored(n, x, speaker=who) for n, (who, x) in enumerate(conversation, 1))])
    agents = [x for who, x in conversation if who == "agent"][-turns:]
    look = Look(call)
    counted = rule(f"{{label: negative, turns: {turns}, speaker: agent}}").rules[0].values(look)
    assert counted == _counted(agents)
    everybody = [x for _, x in conversation][-turns:]
    counted = rule(f"{{label: negative, turns: {turns}, speaker: any}}").rules[0].values(look)
    assert counted == _counted(everybody)


def test_the_clock_of_silence_is_the_records() -> None:
    rules = rule("{silence: 30s}")
    turn = scored(0, 0.0, timestamp=T0 + 7_000)
    call = follow(None, advance(None, turn), turn, rules).call
    assert (call.watches.spoken_clock, call.rules_due) == (T0 + 7_000, T0 + 37_000)


@given(st.integers(0, 10_000), st.integers(1, 3_000))
def test_a_measure_that_grows_reaches_its_bound_at_the_millisecond_that_was_told(end_ms: int, tenths: int) -> None:
    call = folded([scored(0, 0.0, start_ms=0, end_ms=end_ms)])
    (only,) = rule(f"{{measure: duration_s, gte: {(end_ms + tenths * 100) / 1000}}}").rules
    (wake,) = only.when.wakes
    ms = wake(Look(call))
    assert ms == tenths * 100
    assert only.when.holds(Look(call, ms))
    assert not only.when.holds(Look(call, ms - 1))


def test_two_listeners_of_one_24_bit_key_are_told_apart() -> None:
    found = ruleset(
        "rules:\n" + "".join(f"  - {{name: r{n}, severity: info, reason: r, when: {{words: w{n}}}}}\n" for n in range(200))
    )
    assert {len(listener.key) for listener in found.listeners} == {10}
    assert len(found.listeners) == 200
