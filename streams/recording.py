"""The file format of a recorded stream, and the other files that can be replayed.

A recording is JSON Lines, one object a message: `topic`, `partition`, `offset`, `timestamp` (ms since 1970), `key`,
`headers` (a list of [name, value] pairs), `value`. Bytes are a string where they are UTF-8, {"base64": "..."} where
they are not, null where there are none. Two other kinds of file are read as if they had been recorded: messages of the
contract as they stand, one a line, and a written dialogue ("Agent: ...", "Customer: ...").
"""

import gzip
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated

import msgspec

from streams.conversation import epoch_ms
from streams.errors import RecordingError
from streams.records import MAX_WHOLE, Record, Segment, Speaker
from streams.wire import decode, encode

TOPIC = "segments"
NO_PARTITION = -1
"""The partition of records that lie in a file only; their offset is the number of their line, from 1."""

WORDS_A_SECOND = 2.5
SYLLABLES_A_SECOND = 4.0  # of Hangul
GAP_MS = 500
ORIGINS = 10_000  # calls of a file whose beginnings are known at a time

SPEAKERS: dict[str, Speaker] = {
    "agent": "agent",
    "customer": "customer",
    "bot": "bot",
    "system": "system",
    "unknown": "unknown",
    "상담사": "agent",
    "상담원": "agent",
    "고객": "customer",
}
HANGUL = re.compile("[가-힣]")
TURN = re.compile(r"\s*(\w+)\s*[:：]\s*(.*?)\s*", re.DOTALL)

Line = tuple[int, bytes]
"""A line's number, from 1, and the line without its end."""


class _Base64(msgspec.Struct):
    base64: bytes


Whole = Annotated[int, msgspec.Meta(ge=-1, le=MAX_WHOLE)]
Bytes = str | _Base64 | None


class _Message(msgspec.Struct):
    topic: str
    partition: Whole
    offset: Whole
    timestamp: Whole
    key: Bytes
    headers: list[tuple[str, Bytes]]
    value: Bytes


_encode = msgspec.json.Encoder().encode
_message = msgspec.json.Decoder(_Message)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def write(record: Record) -> bytes:
    """The record as one line, with its end; `read` gives the same record back."""
    headers = [(name, _written(value)) for name, value in record.headers]
    place = (record.topic, record.partition, record.offset, record.timestamp)
    return _encode(_Message(*place, _written(record.key), headers, _written(record.value))) + b"\n"


def _written(data: bytes | None) -> Bytes:
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        return _Base64(data or b"")


def read(path: str | Path, base_ms: int = 0) -> Iterator[Record]:
    """The messages of a recording (as they were), of a file of segments, or of a written dialogue; "-" is stdin.

    The first line that is not blank tells which it is. Segments keep their bytes, valid or not; their records have the
    topic "segments", no partition, the call as key, and a timestamp of `base_ms` + end_ms (start_ms where there is no
    end; absolute times as they are; without any, that of the record before). A call that begins further down in the
    file begins, by these timestamps, when its first line is reached. Names ending in .gz are unpacked. Raises
    RecordingError, naming file and line, at the call or while the lines are read.
    """
    path = str(path)
    every = lines(path)
    first = next(every, None)
    if first is None:
        return iter(())
    every = chain([first], every)
    if not first[1].lstrip().startswith((b"{", b"[")):
        return _dialogue(every, path, base_ms)
    return _recorded(every, path) if _is_recording(first[1], path) else _segments(every, base_ms)


def lines(path: str) -> Iterator[Line]:
    """The lines of a file ("-": stdin; .gz is unpacked) that are not blank; a byte order mark in front is dropped. Raises
    RecordingError."""
    try:
        with _opened(path) as stream:
            for number, line in enumerate(stream, 1):
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if text.strip():
                    yield number, text.rstrip(b"\r\n")
    except (OSError, EOFError, zlib.error) as error:
        raise RecordingError(f"{path}: cannot be read ({error})") from error


@contextmanager
def _opened(path: str) -> Iterator[Iterable[bytes]]:
    if path == "-":
        yield sys.stdin.buffer
        return
    with Path(path).open("rb") as stream:
        yield gzip.GzipFile(fileobj=stream) if path.endswith(".gz") else stream


def _is_recording(line: bytes, path: str) -> bool:
    try:
        fields = _object.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if line.strip() == b"{" or line.lstrip().startswith(b"["):
            raise RecordingError(
                f"{path}: a JSON document over several lines, or a list; expected one object a line, as `jq -c .` "
                "(for a list, `jq -c '.[]'`) writes them"
            ) from error
        return False
    return {"topic", "value"} <= fields.keys() and "call_id" not in fields


def _recorded(lines: Iterable[Line], path: str) -> Iterator[Record]:
    for number, line in lines:
        try:
            message = _message.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RecordingError(
                f"{path}, line {number}: not a message of a recording ({error}); expected one JSON object with topic, "
                "partition, offset, timestamp, key, headers and value"
            ) from error
        yield _record(message)


def _record(m: _Message) -> Record:
    headers = tuple((name, _bytes(value)) for name, value in m.headers)
    return Record(m.topic, m.partition, m.offset, m.timestamp, _bytes(m.key), _bytes(m.value), headers)


def _bytes(written: Bytes) -> bytes | None:
    return written.base64 if isinstance(written, _Base64) else None if written is None else written.encode()


@dataclass(slots=True)
class _Clock:
    """Puts the offsets of several calls, and absolute times, on one axis: what is first met begins at `now`."""

    base_ms: int
    now: int | None = None
    origins: dict[str, int] = field(default_factory=dict)

    def at(self, segment: Segment) -> int:
        """The segment's timestamp."""
        call_id, started = segment.call_id, segment.started_at
        if started is not None and call_id not in self.origins:
            self._set(call_id, self._absolute(epoch_ms(started)))
        ms = segment.end_ms if segment.end_ms is not None else segment.start_ms
        at = segment.end_at or segment.start_at or (started if segment.type == "start" else None)
        if ms is not None:
            return self._moved(self._origin(call_id, ms, self.base_ms) + ms)
        return self._moved(self._absolute(epoch_ms(at))) if at else self.here()

    def here(self) -> int:
        return self.base_ms if self.now is None else self.now

    def _absolute(self, at: int) -> int:
        return self._origin("", at, 0) + at

    def _origin(self, name: str, time: int, first: int) -> int:
        """Where the times of `name` (a call, or "" for absolute ones) count from; `first` at the head of a file."""
        if name not in self.origins:
            self._set(name, first if self.now is None else self.now - time)
        return self.origins[name]

    def _set(self, name: str, origin: int) -> None:
        if len(self.origins) >= ORIGINS:
            del self.origins[next(iter(self.origins))]  # should it come again, it goes on from there
        self.origins[name] = origin

    def _moved(self, timestamp: int) -> int:
        self.now = timestamp if self.now is None else max(self.now, timestamp)
        return timestamp


def _segments(lines: Iterable[Line], base_ms: int) -> Iterator[Record]:
    clock = _Clock(base_ms)
    for number, line in lines:
        message = decode(line)
        timestamp = clock.at(message) if isinstance(message, Segment) else clock.here()
        yield Record(TOPIC, NO_PARTITION, number, timestamp, _key(line), line)


def _key(line: bytes) -> bytes | None:
    """The call that a message names, also where the message will be rejected."""
    try:
        return msgspec.json.decode(_object.decode(line)["call_id"], type=str).encode()
    except (KeyError, msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _dialogue(lines: Iterable[Line], path: str, base_ms: int) -> Iterator[Record]:
    """One call: start, turns, end. It is read whole, so that no half of a call is sent before an error is found."""
    turns = [(number, *_turn(number, line, path)) for number, line in lines]
    name = "stdin" if path == "-" else Path(path.removesuffix(".gz")).stem

    numbers = [0, *(number for number, _, _ in turns), turns[-1][0] + 1]
    said = spoken(name, [(f"s{number}", speaker, text) for number, speaker, text in turns])
    for number, segment in zip(numbers, said, strict=True):
        at = base_ms + (segment.end_ms or segment.start_ms or 0)
        yield Record(TOPIC, NO_PARTITION, number, at, name.encode(), encode(segment))


def spoken(call_id: str, turns: Iterable[tuple[str, Speaker, str]]) -> Iterator[Segment]:
    """A call that is known by its turns (segment_id, speaker, text) alone: start, turns, end. A turn takes as long as its words
    do, WORDS_A_SECOND or, of Hangul, SYLLABLES_A_SECOND, whoever says it; GAP_MS lie between two turns."""
    yield Segment(call_id=call_id, type="start", start_ms=0)
    end = 0
    for segment_id, speaker, text in turns:
        start, end = end + GAP_MS, end + GAP_MS + _speaking_ms(text)
        yield Segment(call_id=call_id, segment_id=segment_id, speaker=speaker, text=text, start_ms=start, end_ms=end)
    yield Segment(call_id=call_id, type="end", start_ms=end + GAP_MS)


def _turn(number: int, line: bytes, path: str) -> tuple[Speaker, str]:
    try:
        turn = TURN.fullmatch(line.decode())
    except UnicodeDecodeError as error:
        raise RecordingError(f"{path}, line {number}: not UTF-8; save the file as UTF-8") from error
    speaker = SPEAKERS.get(turn[1].lower()) if turn else None
    if turn is None or speaker is None:
        raise RecordingError(
            f'{path}, line {number}: no known speaker; expected "Agent: ..." or "Customer: ..." (or Bot, System, '
            "Unknown, 상담사, 고객), or a file of JSON Lines"
        )
    return speaker, turn[2]


def _speaking_ms(text: str) -> int:
    """An estimate of how long it takes to say."""
    words = sum(1 for word in text.split() if not HANGUL.search(word))
    return round(1000 * (words / WORDS_A_SECOND + len(HANGUL.findall(text)) / SYLLABLES_A_SECOND))
