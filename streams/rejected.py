"""What lies on calls.rejected, read back: where it was found, why it is there, and the original as it was. Pure.

`parse` is the inverse of `wire.rejection`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from streams.conversation import EPOCH, read_ms
from streams.errors import SettingsError
from streams.records import Record

NAMES = tuple(f"callpulse-{name}" for name in ("topic", "partition", "offset", "stage", "reason", "detail"))
"""The headers behind the original's own."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record of calls.rejected. `timestamp` (ms since 1970) is when it came there; the original's own is not kept."""

    partition: int
    offset: int
    timestamp: int
    stage: str
    reason: str
    detail: str
    original: Record

    @property
    def place(self) -> str:
        """Where it lies on calls.rejected."""
        return f"{self.partition}:{self.offset}"

    @property
    def found(self) -> str:
        """Where the original lies, if its topic still holds it; as `callpulse worker --skip` takes it."""
        return self.original.place

    @property
    def at(self) -> datetime:
        return EPOCH + timedelta(milliseconds=self.timestamp)

    @property
    def kept(self) -> bool:
        """Whether the original's bytes are there; they are not when it was too large for any topic."""
        parts = (self.original.key, self.original.value, self.original.headers or None)
        return self.reason == "tombstone" or any(part is not None for part in parts)

    def row(self) -> dict[str, object]:
        """All but what was said, for JSON."""
        return {
            "place": self.place,
            "at": self.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "stage": self.stage,
            "reason": self.reason,
            "topic": self.original.topic,
            "partition": self.original.partition,
            "offset": self.original.offset,
            "key": shown(self.original.key),
            "detail": self.detail,
            "kept": self.kept,
        }


def parse(record: Record) -> Rejection | None:
    """None for a record that callpulse did not put there."""
    headers, ours = record.headers[: -len(NAMES)], record.headers[-len(NAMES) :]
    if tuple(name for name, _ in ours) != NAMES:
        return None
    try:
        topic, partition, offset, stage, reason, detail = ((value or b"").decode() for _, value in ours)
        original = Record(topic, int(partition), int(offset), record.timestamp, record.key, record.value, headers)
    except ValueError:
        return None
    return Rejection(record.partition, record.offset, record.timestamp, stage, reason, detail, original)


def shown(part: bytes | None) -> str | None:
    """A key or a value as text, what is no UTF-8 as escapes."""
    return None if part is None else part.decode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rejections are meant; None is any."""

    reason: str | None = None
    stage: str | None = None
    since_ms: int = 0

    def takes(self, rejection: Rejection) -> bool:
        asked = ((self.reason, rejection.reason), (self.stage, rejection.stage))
        return rejection.timestamp >= self.since_ms and all(want in (None, is_so) for want, is_so in asked)


def place(text: str) -> tuple[int, int]:
    """Partition and offset of "3:1207". Raises SettingsError for anything else."""
    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise SettingsError(f"{text!r} is no place such as 3:1207: the lines of `callpulse rejected list` begin with theirs")
    return int(partition), int(offset)


def since_ms(text: str) -> int:
    """Milliseconds since 1970 (0 before) of an RFC 3339 time. Raises SettingsError for anything else."""
    try:
        return read_ms(text)
    except (ValueError, TypeError) as error:
        raise SettingsError(f"--since: {text!r} is no RFC 3339 time such as 2026-01-31T09:00:00Z") from error
