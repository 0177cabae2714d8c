"""What is read from calls.segments: every bad input is a value that names the field, every good one a segment."""

import json
import random
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from builders import NOW
from hypothesis import given
from hypothesis import strategies as st

from models.sentiment import LexiconScorer
from streams.pipeline import Policy, score
from streams.records import LONGEST_MS, SPEAKERS, Record, Rejected, Scored, Segment
from streams.wire import MAX_MESSAGE, decode, decode_scored, encode

GOOD: dict[str, Any] = {"call_id": "c1", "speaker": "customer", "text": "감사합니다, the line works"}
FULL: dict[str, Any] = GOOD | {
    "type": "segment",
    "segment_id": "s7",
    "participant_id": "p1",
    "start_ms": 1200,
    "end_ms": 4100,
    "start_at": "2026-01-31T09:00:01.2Z",
    "end_at": "2026-01-31T18:00:04.1+09:00",
    "final": True,
    "language": "ko-KR",
    "started_at": "2026-01-31T09:00:00Z",
    "channel": "voice",
    "attributes": {"queue": "요금", "priority": 2, "vip": True, "wait_s": 12.5, "note": None},
    "reason": None,
}
EVENTS: tuple[dict[str, Any], ...] = (
    {"type": "start", "call_id": "c1", "started_at": "2026-01-31T09:00:00Z", "channel": "chat"},
    {"type": "update", "call_id": "c1", "attributes": {"queue": None}},
    {"type": "end", "call_id": "c1", "reason": "agent_hangup"},
)
NO_STRING: tuple[object, ...] = (5, True, 1.5, [], {}, ["x"])
NO_TIME: tuple[object, ...] = (1_700_000_000, "yesterday", "2026-01-31", "2026-01-31T09:00:00", True, {})
NO_OFFSET: tuple[object, ...] = ("12", 1.5, -1, True, LONGEST_MS + 1, 10**30, [0], {})
NO_FLAG: tuple[object, ...] = ("yes", 1, 0.0, [])
WRONG: dict[str, tuple[object, ...]] = {
    "call_id": NO_STRING,
    "type": (*NO_STRING, "call", ""),
    "segment_id": NO_STRING,
    "speaker": (*NO_STRING, "Customer", "caller", ""),
    "participant_id": NO_STRING,
    "text": NO_STRING,
    "start_ms": NO_OFFSET,
    "end_ms": NO_OFFSET,
    "start_at": NO_TIME,
    "end_at": NO_TIME,
    "final": NO_FLAG,
    "is_final": NO_FLAG,
    "language": NO_STRING,
    "started_at": NO_TIME,
    "channel": NO_STRING,
    "attributes": ("x", 5, [], [["a", 1]], {"a": []}, {"a": {"b": 1}}, {"a": 1e300}, {"a": -(1 << 53)}),
    "reason": NO_STRING,
}


def as_json(message: object) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode()


def segment(**fields: Any) -> Segment:
    decoded = decode(as_json(GOOD | fields))
    assert isinstance(decoded, Segment), decoded
    return decoded


def rejected(value: bytes | None) -> Rejected:
    decoded = decode(value)
    assert isinstance(decoded, Rejected), decoded
    return decoded


def test_every_field_of_the_contract_is_read() -> None:
    assert decode(as_json(FULL)) == Segment(
        call_id="c1",
        type="segment",
        segment_id="s7",
        speaker="customer",
        participant_id="p1",
        text="감사합니다, the line works",
        start_ms=1200,
        end_ms=4100,
        start_at=datetime(2026, 1, 31, 9, 0, 1, 200_000, timezone.utc),
        end_at=datetime(2026, 1, 31, 9, 0, 4, 100_000, timezone.utc),
        final=True,
        language="ko-KR",
        started_at=datetime(2026, 1, 31, 9, 0, tzinfo=timezone.utc),
        channel="voice",
        attributes={"queue": "요금", "priority": 2, "vip": True, "wait_s": 12.5, "note": None},
    )


def test_events_of_the_telephone_system_need_no_speaker_and_no_text() -> None:
    start, update, end = (decode(as_json(message)) for message in EVENTS)
    assert start == Segment(
        call_id="c1", type="start", started_at=datetime(2026, 1, 31, 9, 0, tzinfo=timezone.utc), channel="chat"
    )
    assert update == Segment(call_id="c1", type="update", attributes={"queue": None})
    assert end == Segment(call_id="c1", type="end", reason="agent_hangup")


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_field_of_the_wrong_type_is_named(field: str, value: object) -> None:
    found = rejected(as_json(GOOD | {field: value}))
    assert (found.reason, found.detail.partition(":")[0]) == ("wrong_type", field)


@pytest.mark.parametrize("field", ["call_id", "speaker", "text"])
def test_a_missing_field_is_named_and_null_is_missing(field: str) -> None:
    without = {name: value for name, value in GOOD.items() if name != field}
    assert rejected(as_json(without)) == Rejected("missing_field", f"{field}: missing")
    assert rejected(as_json(GOOD | {field: None})) == Rejected("missing_field", f"{field}: missing")


@pytest.mark.parametrize("field", sorted(WRONG.keys() - GOOD.keys()))
def test_null_in_an_optional_field_is_absence(field: str) -> None:
    assert segment(**{field: None}) == segment()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "tombstone"),
        (b"", "not_json"),
        (b"call_id=c1", "not_json"),
        (as_json(GOOD)[:-1], "not_json"),
        (as_json(GOOD) + b"{}", "not_json"),
        (b'{"call_id":"c1","text":"\\ud800","speaker":"bot"}', "not_json"),
        (b"[]", "wrong_type"),
        (b"7", "wrong_type"),
        (b"null", "wrong_type"),
        (b'{"call_id":"c\xff1"}', "not_utf8"),
        (as_json(GOOD).decode().encode("utf-16"), "not_utf8"),
        (b"\x00\x00\x00\x00\x07" + as_json(GOOD), "schema_registry"),
        (b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}", "too_deep"),
        (b" " * (MAX_MESSAGE + 1), "too_large"),
        (as_json(GOOD | {"call_id": ""}), "empty_call_id"),
        (as_json(GOOD | {"call_id": " \t"}), "empty_call_id"),
    ],
)
def test_what_is_no_message_is_rejected_with_its_reason(value: bytes | None, reason: str) -> None:
    assert rejected(value).reason == reason


def test_a_message_of_exactly_64_kb_is_read() -> None:
    value = as_json(GOOD)
    assert isinstance(decode(value + b" " * (MAX_MESSAGE - len(value))), Segment)


@pytest.mark.parametrize(
    ("field", "longest", "too_long"),
    [
        ("text", "가" * 10_000, "가" * 10_001),
        ("call_id", "c" * 256, "c" * 257),
        ("segment_id", "가" * 85, "가" * 86),
        ("participant_id", "p" * 256, "p" * 257),
        ("language", "l" * 256, "l" * 257),
        ("channel", "c" * 256, "c" * 257),
        ("reason", "r" * 256, "r" * 257),
        ("attributes", {"a" * 500: "b" * 500}, {"a" * 500: "b" * 501}),
        ("attributes", {str(n): "" for n in range(100, 433)}, {str(n): "" for n in range(100, 434)}),
    ],
)
def test_limits_of_length(field: str, longest: Any, too_long: Any) -> None:
    assert getattr(segment(**{field: longest}), field) == longest
    found = rejected(as_json(GOOD | {field: too_long}))
    assert (found.reason, found.detail.partition(":")[0]) == ("too_long", field)


@pytest.mark.parametrize(
    "times",
    [
        {"start_ms": 2, "end_ms": 1},
        {"start_at": "2026-01-31T09:00:01Z", "end_at": "2026-01-31T09:00:00.9Z"},
        {"start_at": "2026-01-31T09:00:00Z", "end_at": "2026-01-31T10:00:00+09:00"},
    ],
)
def test_an_end_before_the_start_is_rejected(times: dict[str, Any]) -> None:
    assert rejected(as_json(GOOD | times)).reason == "end_before_start"
    assert segment(start_ms=2, end_ms=2).end_ms == 2


def test_whole_floats_become_integers_and_other_scalars_stay() -> None:
    found = segment(start_ms=1200.0, end_ms=1.3e3, attributes={"a": 3.0, "b": 2.5, "c": "3.0", "d": False})
    assert (found.start_ms, found.end_ms) == (1200, 1300)
    assert isinstance(found.start_ms, int)
    assert encode(found).endswith(b'"attributes":{"a":3,"b":2.5,"c":"3.0","d":false},"reason":null}')


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_every_speaker_of_the_contract_is_known(speaker: str) -> None:
    assert segment(speaker=speaker).speaker == speaker


def test_final_is_the_default_and_wins_over_is_final() -> None:
    assert segment().final
    assert not segment(final=False).final
    assert not segment(is_final=False).final
    assert segment(final=True, is_final=False).final
    assert not segment(final=False, is_final=True).final


def test_unknown_fields_are_ignored() -> None:
    assert segment(confidence=0.93, words=[{"w": "line", "at": [1, 2]}]) == segment()


def hidden(secret: str) -> Iterator[object]:
    """Shapes in which what a caller said may stand where something else is expected."""
    for text in (secret, f"{secret} - at home", f"{secret}'s", f"O'{secret}", f'"{secret}" \'x', f"x - at `$.{secret}`"):
        yield from (text, [text], {text: text}, {"a": {text: 1}}, {text: [1]}, {text * 200: text})
    yield f"Object missing required field `{secret}`"
    yield secret * 2_000


@pytest.mark.parametrize("field", sorted(WRONG))
def test_a_detail_never_quotes_what_was_said(field: str) -> None:
    details = [d.detail for v in hidden("Gildong") if isinstance(d := decode(as_json(GOOD | {field: v})), Rejected)]
    assert details
    assert not [detail for detail in details if "Gildong" in detail]


@given(st.text("Gildo {}[]\":,\\\n'`$.", max_size=40))
def test_a_detail_never_quotes_broken_json(noise: str) -> None:
    found = decode(b'{"call_id":"c1","text":"Gildong"' + noise.encode() + b'"Gildong"')
    assert isinstance(found, Rejected)
    assert "Gildong" not in found.detail


@given(st.binary() | st.binary().map(lambda tail: as_json(FULL)[:-1] + b',"x":' + tail))
def test_no_bytes_make_decode_raise(value: bytes) -> None:
    assert isinstance(decode(value), Segment | Rejected)
    assert isinstance(decode_scored(value), Scored | Rejected)


TOKENS = (b"\x00", b"\xff", b"{", b"}", b"[", b'"', b"\\u", b"null", b"-", b"1e999", b"9" * 40, b",", b'"call_id":')


def mutated(rng: random.Random, corpus: list[bytes]) -> bytes:
    value = rng.choice(corpus)
    at, kind = rng.randrange(len(value)), rng.randrange(5)
    if kind == 0:
        return value[:at] + bytes((rng.randrange(256),)) + value[at + 1 :]
    if kind == 1:
        return value[:at]
    if kind == 2:
        return value[:at] + rng.choice(TOKENS) + value[at:]
    if kind == 3:
        return value[:at] + value[at + 1 + rng.randrange(8) :]
    other = rng.choice(corpus)
    return value[:at] + other[rng.randrange(len(other)) :]


def test_200_000_mutated_messages_give_values_and_what_decodes_survives_the_way() -> None:
    rng, corpus = random.Random(20_260_131), [as_json(message) for message in (GOOD, FULL, *EVENTS)]
    good = []
    for _ in range(200_000):
        value = mutated(rng, corpus)
        if isinstance(decode(value), Segment):
            good.append(value)
    assert 20_000 < len(good) < 180_000, "the mutations should both break and spare messages"
    records = [Record("t", 0, offset, 0, None, value) for offset, value in enumerate(good[::10])]
    for result in score(records, LexiconScorer(), Policy(), "topic", lambda: NOW):
        assert decode_scored(encode(result)) == result  # type: ignore[arg-type]
