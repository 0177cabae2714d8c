"""Bytes to records and back: the only module that knows JSON.

`decode` takes whatever lies in calls.segments and returns a Segment or a Rejected; it never raises. Integers may come as
whole floats (many producers write 1200.0); nothing else is coerced. Unknown fields are ignored, null is absence.
"""

import re
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import starmap
from typing import Any, TypeVar, get_args

import msgspec

from streams.attributes import MAX_ATTRIBUTES, attribute_size
from streams.conversation import Conversation, Positions, Timing, epoch_ms
from streams.kept import Turns
from streams.records import (
    LONGEST_MS,
    MAX_WHOLE,
    Alert,
    MessageType,
    Reason,
    Record,
    Rejected,
    Scalar,
    Scored,
    Segment,
    Speaker,
    Summary,
    Time,
)
from streams.stored import Standing, Stored, restored, stored

MAX_MESSAGE = 64 * 1024
MAX_TEXT = 10_000
MAX_ID = 256  # bytes (UTF-8) of an id or another short field: a call's state keeps a few of them

POSITIONS_KEY = b"\xffpositions"
"""The key of a partition's positions on calls.state; not UTF-8, so no call can have it."""

CHOICES = {"speaker": get_args(Speaker), "type": get_args(MessageType)}
Parsed = TypeVar("Parsed")
Header = tuple[str, bytes | None]


class _Input(msgspec.Struct):
    """The input as producers write it: ids, times and flags before they are checked and coerced."""

    call_id: str | None = None
    type: MessageType | None = None
    segment_id: str | None = None
    speaker: Speaker | None = None
    participant_id: str | None = None
    text: str | None = None
    start_ms: int | float | None = None
    end_ms: int | float | None = None
    start_at: Time | None = None
    end_at: Time | None = None
    final: bool | None = None
    is_final: bool | None = None
    language: str | None = None
    started_at: Time | None = None
    channel: str | None = None
    attributes: dict[str, str | int | float | bool | None] | None = None
    reason: str | None = None


class _BadField(Exception):  # noqa: N818  (control flow inside this module only)
    def __init__(self, reason: Reason, detail: str) -> None:
        self.rejected = Rejected(reason, detail)


_input = msgspec.json.Decoder(_Input)
_scored = msgspec.json.Decoder(Scored)
_alert = msgspec.json.Decoder(Alert)
_summary = msgspec.json.Decoder(Summary)
_state = msgspec.json.Decoder(Stored, dec_hook=lambda _, value: Turns(a2b_base64(value)))
_timing = msgspec.json.Decoder(Timing)
_standing = msgspec.json.Decoder(Standing)
_positions = msgspec.json.Decoder(Positions)
_encode = msgspec.json.Encoder(enc_hook=lambda turns: turns.packed).encode


def decode(value: bytes | None) -> Segment | Rejected:
    """An input message, or why it is none. Returns for every possible value, never raises."""
    if value is not None and len(value) > MAX_MESSAGE:
        return Rejected("too_large", f"{len(value)} bytes; at most {MAX_MESSAGE} are read")
    return _read(lambda raw: _checked(_input.decode(raw)), value)


def decode_scored(value: bytes | None) -> Scored | Rejected:
    """A message of calls.sentiment, or why it is none: somebody else may write there."""
    return _read(_scored.decode, value)


def _read(parse: Callable[[bytes], Parsed], value: bytes | None) -> Parsed | Rejected:
    if value is None:
        return Rejected("tombstone", "the message has no value")
    if value[:1] == b"\x00":
        return Rejected("schema_registry", "starts with a zero byte, as a schema registry's serializer writes; send plain JSON")
    try:
        return parse(value)
    except _BadField as bad:
        return bad.rejected
    except msgspec.ValidationError as error:
        return _invalid(str(error))
    except RecursionError:
        return Rejected("too_deep", "the JSON is nested too deeply")
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        return _undecodable(value, error)


def _undecodable(value: bytes, error: Exception) -> Rejected:
    try:
        value.decode()
    except UnicodeDecodeError as bad:
        return Rejected("not_utf8", f"byte {bad.start} is not UTF-8")
    return Rejected("not_json", str(error)[:200])


def _invalid(message: str) -> Rejected:
    """msgspec's complaint as ours: it says what was expected where, but must not quote what was there."""
    if missing := re.match(r"Object missing required field `(\w+)`", message):
        return Rejected("missing_field", f"{missing[1]}: missing")
    placed = re.fullmatch(r"(.*) - at `\$\.?([\w.]*)[^`]*`", message, re.DOTALL)
    said, name = placed.groups() if placed else (message, "")
    unquoted = re.split("['\"]", said)[0].strip().replace("`", "")
    if name in CHOICES:
        unquoted = f"none of {', '.join(CHOICES[name])}"
    return Rejected("wrong_type", f"{name or 'message'}: {unquoted}")


def _checked(raw: _Input) -> Segment:
    if raw.call_id is None:
        raise _BadField("missing_field", "call_id: missing")
    if not raw.call_id.strip():
        raise _BadField("empty_call_id", "call_id: empty")
    for name in ("call_id", "segment_id", "participant_id", "language", "channel", "reason"):
        if len((getattr(raw, name) or "").encode()) > MAX_ID:
            raise _BadField("too_long", f"{name}: over {MAX_ID} bytes")
    _check_segment(raw)
    start_ms, end_ms = _whole("start_ms", raw.start_ms), _whole("end_ms", raw.end_ms)
    _check_order("end_ms", start_ms, end_ms)
    _check_order("end_at", raw.start_at, raw.end_at)
    final = raw.final if raw.final is not None else raw.is_final
    return Segment(
        call_id=raw.call_id,
        type=raw.type or "segment",
        segment_id=raw.segment_id or None,
        speaker=raw.speaker or "unknown",
        participant_id=raw.participant_id,
        text=raw.text or "",
        start_ms=start_ms,
        end_ms=end_ms,
        start_at=raw.start_at,
        end_at=raw.end_at,
        final=final is not False,
        language=raw.language,
        started_at=raw.started_at,
        channel=raw.channel,
        attributes=_attributes(raw.attributes) if raw.attributes else {},
        reason=raw.reason,
    )


def _check_segment(raw: _Input) -> None:
    for name in ("speaker", "text"):
        if getattr(raw, name) is None and raw.type in (None, "segment"):
            raise _BadField("missing_field", f"{name}: missing")
    if len(raw.text or "") > MAX_TEXT:
        raise _BadField("too_long", f"text: over {MAX_TEXT} characters")


def _whole(name: str, value: int | float | None) -> int | None:
    """Milliseconds as an int; whole floats are coerced."""
    if value is None:
        return None
    if not 0 <= value <= LONGEST_MS:
        raise _BadField("wrong_type", f"{name}: not milliseconds from the call's start (at most 366 days)")
    if int(value) != value:
        raise _BadField("wrong_type", f"{name}: not a whole number")
    return int(value)


def _check_order(name: str, start: Any, end: Any) -> None:
    if start is not None and end is not None and end < start:
        raise _BadField("end_before_start", f"{name}: before the start")


def _attributes(raw: Mapping[str, Scalar]) -> dict[str, Scalar]:
    if any(isinstance(v, int | float) and not -MAX_WHOLE <= v <= MAX_WHOLE for v in raw.values()):
        raise _BadField("wrong_type", "attributes: a number beyond 2^53")
    if sum(starmap(attribute_size, raw.items())) > MAX_ATTRIBUTES:
        raise _BadField("too_long", f"attributes: over {MAX_ATTRIBUTES} bytes in all")
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in raw.items()}


def encode(record: Scored | Alert | Summary | Conversation | Positions | Segment) -> bytes:
    """One JSON object, UTF-8."""
    return _encode(stored(record) if isinstance(record, Conversation) else record)


def decode_state(value: bytes) -> Conversation:
    """A state from calls.state, which only callpulse writes; raises msgspec.DecodeError for anything else."""
    return restored(_state.decode(value))


def decode_timing(value: bytes) -> Timing:
    """What says when a state's call is due, and nothing else of it: nine times as fast. Raises as `decode_state` does."""
    return _timing.decode(value)


def decode_standing(value: bytes) -> Standing:
    """What `decode_timing` tells, and what is counted of live calls. Raises as `decode_state` does."""
    return _standing.decode(value)


def decode_positions(value: bytes) -> Positions:
    """A positions record from calls.state; raises msgspec.DecodeError for anything else."""
    return _positions.decode(value)


def decode_alert(value: bytes) -> Alert:
    """A message of calls.alerts; raises msgspec.DecodeError for anything else."""
    return _alert.decode(value)


def decode_summary(value: bytes) -> Summary:
    """A message of calls.summaries; raises msgspec.DecodeError for anything else."""
    return _summary.decode(value)


def schema_id(schema: str) -> str:
    """The `$id` of the JSON Schema that `streams.contract` makes for what names this schema."""
    return f"urn:callpulse:schema:{schema}"


def cloud_event(record: Alert | Summary) -> list[Header]:
    """The CloudEvents 1.0 binary binding for Kafka; `ce_id` is what consumers de-duplicate by."""
    if isinstance(record, Alert):
        identity, at = f"{record.alert_id}-{record.sequence}", record.at
    else:
        identity, at = f"{record.call_id}-{epoch_ms(record.ended_at)}", record.ended_at
    fields = {
        "ce_specversion": "1.0",
        "ce_id": identity,
        "ce_type": record.schema,
        "ce_source": "callpulse",
        "ce_subject": record.call_id,
        "ce_time": at.isoformat().replace("+00:00", "Z"),
        "ce_dataschema": schema_id(record.schema),
        "content-type": "application/json",
    }
    return [(name, value.encode()) for name, value in fields.items()]


def rejection(record: Record, rejected: Rejected, stage: str) -> list[Header]:
    """The headers of a message on calls.rejected: the original's own, then where it was found and why it is there."""
    ours = {
        "callpulse-topic": record.topic,
        "callpulse-partition": str(record.partition),
        "callpulse-offset": str(record.offset),
        "callpulse-stage": stage,
        "callpulse-reason": rejected.reason,
        "callpulse-detail": rejected.detail,
    }
    return [*record.headers, *((name, value.encode()) for name, value in ours.items())]


@lru_cache(maxsize=1 << 14)
def partition_of(call_id: str, partitions: int) -> int:
    """The partition of a call's records: murmur2 of the key, sign bit off, modulo, as Java's default partitioner does."""
    return (murmur2(call_id.encode()) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """MurmurHash2, 32 bits, with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2)."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
