"""What a backtest reads: recordings, whole calls with the turns at which a supervisor should be told, labels of recordings.

A labelled call is one JSON object a line with `call_id`, `turns` ({`speaker`, `text`}) and `alerts` ({`turn`, `reason`}), and
may say whether it is `routine`, and its `language`. It has no times: it is spoken as a written dialogue is, every turn for as
long as its words take (recording.spoken), the next one half a second after it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, starmap

import msgspec
from msgspec.structs import replace

from streams.backtest import Course
from streams.errors import RecordingError
from streams.grading import Marked
from streams.recording import TOPIC, lines, read, spoken
from streams.records import Record, Scored, Segment, Speaker
from streams.wire import decode, decode_scored, encode


class _Turn(msgspec.Struct):
    speaker: Speaker
    text: str


class _Alert(msgspec.Struct):
    turn: int
    reason: str = ""


class _Call(msgspec.Struct):
    call_id: str
    turns: list[_Turn]
    alerts: list[_Alert] = []
    routine: bool | None = None
    language: str | None = None


class _Label(msgspec.Struct, forbid_unknown_fields=True):
    call_id: str
    turn: int | None = None
    segment_id: str | None = None
    at_ms: int | None = None
    routine: bool | None = None
    reason: str | None = None


_call = msgspec.json.Decoder(_Call)
_label = msgspec.json.Decoder(_Label)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Opened:
    """A file's records, still to be read; `scored` says whether they are scored already. `labels` are those that lie in it."""

    path: str
    scored: bool
    records: Iterable[Record]
    labels: Mapping[str, Marked] = field(default_factory=dict)


def opened(path: str) -> Opened:
    """Labelled calls, a recording of scored segments, or anything else that recording.read takes. Of a recording of several
    topics only the one of the first segment. Raises RecordingError, here or while the records are read, with file and line."""
    if path != "-" and _is_labelled(path):
        calls = [*_calls(path)]
        labels = {call.call_id: Marked(tuple(sorted({a.turn for a in call.alerts})), call.routine) for call in calls}
        return Opened(path, False, chain.from_iterable(starmap(_records, enumerate(calls))), labels)
    records = read(path)
    before: list[Record] = []
    for record in records:
        before.append(record)
        if isinstance(decode(record.value), Segment):
            return Opened(path, isinstance(decode_scored(record.value), Scored), _of(record.topic, chain(before, records)))
    return Opened(path, False, before)


def _of(topic: str, records: Iterable[Record]) -> Iterator[Record]:
    return (record for record in records if record.topic == topic)


def _is_labelled(path: str) -> bool:
    try:
        return {"call_id", "turns"} <= _fields.decode(next(lines(path))[1]).keys()
    except (StopIteration, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _calls(path: str) -> Iterator[_Call]:
    known: set[str] = set()
    for number, line in lines(path):
        try:
            call = _call.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RecordingError(f"{path}, line {number}: not a labelled call ({error})") from error
        if wrong := [f"no turn {alert.turn}" for alert in call.alerts if not 0 <= alert.turn < len(call.turns)]:
            raise RecordingError(f"{path}, line {number}: alerts: {wrong[0]} in a call of {len(call.turns)}, counted from 0")
        if call.call_id in known:
            raise RecordingError(f"{path}, line {number}: there is a call {call.call_id} already")
        known.add(call.call_id)
        yield call


def _records(lane: int, call: _Call) -> Iterator[Record]:
    """A call in a lane of its own, which begins at 0."""
    said = spoken(call.call_id, [(f"s{n}", turn.speaker, turn.text) for n, turn in enumerate(call.turns)])
    for offset, segment in enumerate(said):
        value = encode(replace(segment, language=call.language))
        at = segment.end_ms or segment.start_ms or 0
        yield Record(TOPIC, lane, offset, at, call.call_id.encode(), value)


Labels = Mapping[str, Sequence[_Label]]


def labels_of(path: str) -> Labels:
    """The lines of a labels file by call. Raises RecordingError."""
    found: dict[str, list[_Label]] = {}
    for number, line in lines(path):
        try:
            label = _label.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RecordingError(
                f"{path}, line {number}: not a label ({error}); expected call_id and one of turn, segment_id and at_ms "
                "(none, for a call in which nobody is to be told)"
            ) from error
        found.setdefault(label.call_id, []).append(label)
    return found


def marked(labels: Labels, courses: Mapping[str, Course]) -> dict[str, Marked]:
    """What the labels say of the calls that were judged. Raises RecordingError for a turn that a call does not have."""
    return {call_id: _marked(labels[call_id], course) for call_id, course in courses.items() if call_id in labels}


def _marked(labels: Sequence[_Label], course: Course) -> Marked:
    turns = {turn for label in labels if (turn := _turn_of(label, course)) is not None}
    routine = next((label.routine for label in labels if label.routine is not None), None)
    return Marked(tuple(sorted(turns)), routine)


def _turn_of(label: _Label, course: Course) -> int | None:
    """The turn that a label means: by its number, by its segment's id, or the one in whose time `at_ms` lies (the first that
    ends then or later, the last of the call where none does). None where it names none."""
    turns, at_ms = range(len(course.turns)), label.at_ms
    if label.turn is None and label.segment_id is None and at_ms is None:
        return None
    if label.turn is not None:
        found = [turn for turn in turns if turn == label.turn]
    elif label.segment_id is not None:
        found = [turn for turn in turns if course.turns[turn].segment_id == label.segment_id]
    else:
        found = [turn for turn in turns if course.turns[turn].end_ms >= (at_ms or 0)] or [*turns[-1:]]
    if not found:
        named = f"turn {label.turn}" if label.turn is not None else f"segment {label.segment_id}"
        raise RecordingError(f"labels: call {label.call_id} has no {named}: it has {len(turns)} turns")
    return found[0]
