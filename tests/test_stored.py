"""The state on calls.state: what is read is what was written, and it stays small however long the call."""

import random
import uuid

import pytest
from builders import NOW, event, scored
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.alerts import alert_id
from streams.conversation import Conversation, advance
from streams.episodes import Episode, Watches
from streams.kept import REVISIONS, Turns, pack
from streams.language import digest
from streams.records import LONGEST_MS, SEVERITIES, SPEAKERS, Evidence, Label, RuleRef
from streams.rules import library
from streams.turns import MAX_WORDS, Turn, hashed
from streams.wire import decode_state, encode

AT_MS = LONGEST_MS
LABELS: tuple[Label, ...] = ("negative", "neutral", "positive")

times = st.tuples(st.integers(0, 600_000), st.integers(0, LONGEST_MS - 600_000))
scores = st.one_of(
    st.tuples(st.none(), st.none(), st.just(-1)),
    st.tuples(
        st.integers(-100_000, 100_000).map(lambda n: n / 100_000), st.sampled_from(LABELS), st.integers(0, REVISIONS - 1)
    ),
)


@st.composite
def any_turn(draw: st.DrawFn) -> Turn:
    ago, length = draw(times)
    score, label, revision = draw(scores)
    speaker, segment, words = draw(st.sampled_from(SPEAKERS)), hashed(draw(st.text())), draw(st.integers(0, MAX_WORDS))
    said = draw(st.integers(0, (1 << 24) - 1))
    return Turn(segment, speaker, AT_MS - ago - length, AT_MS - ago, score, label, words, revision, said)


@given(st.lists(any_turn(), max_size=20), st.integers(-25, 25), st.integers(-25, 25))
def test_packed_turns_are_what_a_tuple_of_them_would_be(turns: list[Turn], begin: int, end: int) -> None:
    kept = Turns()
    for turn in turns:
        kept = kept.inserted(len(kept), turn)
    assert (len(kept.packed), tuple(kept), tuple(kept[begin:end])) == (23 * len(turns), tuple(turns), tuple(turns[begin:end]))
    assert [kept[i] for i in range(-len(turns), len(turns))] == [*turns, *turns]
    assert list(reversed(kept)) == turns[::-1]
    assert all(kept.has(turn.segment) for turn in turns)
    assert not kept.has(hashed("another"))
    assert (kept == Turns(kept.packed), kept == tuple(turns), hash(kept)) == (True, False, hash(Turns(kept.packed)))
    assert repr(kept) == f"Turns{tuple(turns)!r}"
    for place in (len(turns), -len(turns) - 1):
        with pytest.raises(IndexError):
            kept[place]
    with pytest.raises(ValueError, match="in order"):
        kept[::2]


@given(st.lists(any_turn(), min_size=1, max_size=9), st.integers(0, 9), any_turn())
def test_a_turn_is_inserted_at_its_place(turns: list[Turn], place: int, turn: Turn) -> None:
    kept = Turns(b"".join(map(pack, turns))).inserted(place, turn)
    turns.insert(place, turn)
    assert list(kept) == turns


def test_a_hash_across_two_turns_is_not_found() -> None:
    turn = Turn("0102030405ff", "customer", 0, 0x0605, None, None, 0, -1)
    kept = Turns(pack(turn))
    assert kept.packed[6:8] == bytes.fromhex("0506")
    assert kept.has("0102030405ff")
    assert not kept.has(kept.packed[1:7].hex())


@given(st.text(), st.sampled_from(("customer", "unknown")), st.integers(-100, 100))
def test_what_is_quoted_is_read_as_it_was_written(text: str, speaker: str, hundredths: int) -> None:
    call = advance(None, scored(1, hundredths / 100, text=text.encode(errors="replace").decode(), speaker=speaker))
    assert decode_state(encode(call)) == call
    assert isinstance(decode_state(encode(call)).recent[0], Evidence)


def long_call(turns: int) -> Conversation:
    """A bot, then an agent and a customer who says much, in Korean, every few seconds."""
    rng, at = random.Random(turns), 0
    attributes = {"queue": "billing", "agent_id": "a-1234", "region": "kr-1"}
    call = advance(None, event(0, "start", started_at=NOW, attributes=attributes))
    for n in range(1, turns):
        other = "agent" if n > 20 else "bot"
        score = round(rng.uniform(-1, 1), 5) if n % 2 else None
        at += rng.randint(2_000, 6_000)
        text = "".join(rng.choices("환불이아직도안들어왔어요 ", k=200))
        times = {"start_ms": at - 1_500, "end_ms": at + rng.randint(0, 4_000)}
        segment_id, speaker = str(uuid.UUID(int=n, version=4)), "customer" if n % 2 else other
        call = advance(call, scored(n, score, speaker=speaker, text=text, segment_id=segment_id, **times))
    return replace(call, call_id="3f1c9a52-7c1e-4b7e-9a53-0c5f6b7a8d9e")


NAMES = (
    *library(),
    "churn_risk_competitor",
    "outage_complaint",
    "payment_failed_twice",
    "agent_interrupts_customer",
    "delivery_late_escalation",
    "data_privacy_request",
    "vip_hold_too_long",
    "callback_promised_not_kept",
)


def watched(call: Conversation) -> Conversation:
    """With an open alert of each of twenty rules, updated for an hour and about to resolve, and words that were heard."""
    at_ms = call.at_ms
    episodes = tuple(
        Episode(
            alert_id(call.call_id, RuleRef(name, 1), n, f"s{n}"),
            name,
            1 + n % 12,
            SEVERITIES[n % 3],
            100 + n,
            at_ms - 3_600_000,
            at_ms - 29_000 - n,
            number=n,
            digest=digest(name),
            clear_ms=at_ms - 9_000 + n,
        )
        for n, name in enumerate(NAMES)
    )
    hits = {digest(name, 10): tuple(call.at_ms - 60_000 * k for k in range(2)) for name in NAMES[:5]}
    watches = Watches(call.clock, "ko-KR", {digest(name): call.at_ms for name in NAMES[:2]}, hits, call.clock)
    return replace(call, episodes=episodes, watches=watches, rules=digest(NAMES, 12), rules_due=call.clock + 9_000)


@pytest.mark.parametrize("turns", [200, 10_000])
def test_the_state_is_at_most_eight_kilobytes_with_twenty_open_episodes(turns: int) -> None:
    call = watched(long_call(turns))
    assert (len(call.turns), len(call.recent), {len(quoted.text) for quoted in call.recent}) == (64, 5, {160})
    assert len({e.name for e in call.episodes if not e.resolved}) == 20
    state = encode(call)
    assert len(state) <= 8_000
    assert decode_state(state) == call


lives = st.builds(
    Episode,
    st.binary(min_size=16, max_size=16).map(bytes.hex),
    st.text(),
    st.integers(1, 1 << 53),
    st.sampled_from(SEVERITIES),
    st.integers(1, 1 << 53),
    st.integers(0, 1 << 45),
    st.integers(0, 1 << 45),
    st.booleans(),
    st.integers(1, 1 << 53),
    st.sampled_from(("", "0a1b2c", "ffffff")),
    st.none() | st.integers(0, 1 << 45),
    st.booleans(),
)


@given(st.lists(lives, max_size=3))
def test_episodes_are_read_as_they_were_written(episodes: list[Episode]) -> None:
    call = replace(advance(None, scored(1, -1)), episodes=tuple(episodes))
    assert decode_state(encode(call)) == call
