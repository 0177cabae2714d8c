"""What the worker would reject of a stream, and what looks wrong though it is valid. Pure; nothing of a call is quoted.

A suspicion is a guess about the producer, from the sure (a key that is not the call's id) to the likely (offsets in
seconds). Memory is bounded: of each finding the number and the first place, of the last OPEN calls a few figures.
"""

import difflib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

import msgspec

from streams.conversation import REPEATS, Limits, epoch_ms
from streams.pipeline import Policy
from streams.records import Reason, Record, Rejected, Segment
from streams.wire import decode

OPEN = 10_000  # calls that are followed at a time; one that pauses while so many others speak counts again
FINDINGS = 200
LATE_MS = 5_000  # two speakers' utterances end in another order than they are transcribed, by a few seconds
EPOCH_LIKE_MS = 10**9  # 11 days after the call's start
FASTEST = 0.1  # characters a millisecond; people speak 0.015
SEVERAL = 3

FIELDS = frozenset((*Segment.__struct_fields__, "is_final"))
OTHERS = {
    "call_id": "conversationid contactid",
    "speaker": "role participantrole",
    "text": "transcript content message utterance body",
    "start_ms": "start starttime startoffset beginoffsetmillis",
    "end_ms": "end endtime endoffset endoffsetmillis",
    "final": "partial ispartial",
    "language": "lang",
}
"""How others call our fields, in lower case without underscores."""
MEANT = {plain: name for name, others in OTHERS.items() for plain in others.split()}
SAME = {"is_final": "final", "start_at": "start_ms", "end_at": "end_ms"}

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_number = msgspec.json.Decoder(float)

ADVICE = {
    "seconds": "start_ms and end_ms look like seconds: multiply them by 1,000",
    "epoch": "start_ms and end_ms count from the call's start: write times of day to start_at and end_at, in RFC 3339",
    "speaker_name": "speaker is customer, agent, bot, system or unknown, in lower case: map your own names to these",
    "no_key": "a message has no key, so the order of its call is not promised: set the key to the call_id",
    "key_differs": "a key is not the call_id, so the order of its call is not promised: set the key to the call_id",
    "no_end": "a call has no end, so its summary waits for a long silence: send a message of type end when it is over",
    "nothing_scored": "no segment of a call would be scored: see that the customer's are final, with speaker customer",
    "out_of_order": "a segment ends long before one that came earlier: let one producer send a call, in order, keyed",
    "no_letters": "a text has neither letters nor digits: see that the transcript is complete and in UTF-8",
    "no_segment_id": "without segment_id a message that is sent twice counts twice: give each segment an id of its own",
    "id_reused": "two final segments of a call share a segment_id but not their text: the second is taken for a repeat",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Messages that would be rejected for one reason over one field; `place` and `detail` are the first one's."""

    reason: Reason
    count: int
    place: str
    detail: str


@dataclass(frozen=True, slots=True)
class Suspicion:
    """How often something looks wrong (messages, or calls), where first, and what to do about it."""

    code: str
    count: int
    place: str
    advice: str


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a review, the frequent findings first."""

    messages: int
    calls: int
    rejected: tuple[Refusal, ...]
    suspicions: tuple[Suspicion, ...]

    @property
    def ok(self) -> bool:
        """There was something to review, and nothing was found."""
        return self.messages > 0 and not self.rejected and not self.suspicions

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(slots=True)
class _Call:
    """What is remembered of a call: `due` is when it closes, `clock` its highest timestamp (ms since 1970), `until` the
    latest end of a final segment; `timed` final segments of `characters` in all have offsets, up to `last_ms`."""

    place: str
    channel: str = "voice"
    ended: bool = False
    clock: int = 0
    due: int = 0
    segments: int = 0
    scored: bool = False
    timed: int = 0
    characters: int = 0
    last_ms: int = 0
    until: int = 0
    texts: dict[str, int] = field(default_factory=dict)


POLICY, LIMITS = Policy(), Limits()


def review(records: Iterable[Record], policy: Policy = POLICY, limits: Limits = LIMITS) -> Report:
    """Reads all records, which are meant for calls.segments, and says what is wrong with them."""
    reviewer = _Reviewer(policy, limits)
    for record in records:
        reviewer.take(record)
    return reviewer.report()


def _place(record: Record) -> str:
    if record.partition < 0:
        return f"line {record.offset}"
    return f"{record.topic}, partition {record.partition}, offset {record.offset}"


@lru_cache(maxsize=4096)
def _meant(name: str) -> str | None:
    """The field of the contract that an unknown field probably is."""
    plain = name.replace("_", "").replace("-", "").lower()
    fields = {f.replace("_", ""): f for f in sorted(FIELDS)}
    close = difflib.get_close_matches(plain, fields, n=1, cutoff=0.88)
    return MEANT.get(plain) or (fields[close[0]] if close else None)


def _fields(value: bytes | None) -> dict[str, msgspec.Raw]:
    """The message as its producer wrote it; nothing where it is no JSON object."""
    try:
        return _object.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _near_misses(names: Set[str]) -> Iterator[tuple[str, str]]:
    """Unknown fields and the fields that they stand for, unless those are there as well."""
    present = {SAME.get(name, name) for name in names}
    for name in sorted(names - FIELDS):
        if (meant := _meant(name)) and SAME.get(meant, meant) not in present:
            yield name, meant


def _offsets(fields: Mapping[str, msgspec.Raw]) -> Iterator[float]:
    for name in ("start_ms", "end_ms"):
        with suppress(KeyError, msgspec.DecodeError):
            yield _number.decode(fields[name])


class _Reviewer:
    """One pass over the records."""

    def __init__(self, policy: Policy, limits: Limits) -> None:
        self.policy, self.limits = policy, limits
        self.messages = self.calls = 0
        self.rejected: dict[tuple[str, str], Refusal] = {}
        self.suspicions: dict[str, Suspicion] = {}
        self.open: OrderedDict[str, _Call] = OrderedDict()

    def report(self) -> Report:
        while self.open:
            self._conclude(self.open.popitem(last=False)[1])
        rejected = sorted(self.rejected.values(), key=lambda r: -r.count)
        suspicions = sorted(self.suspicions.values(), key=lambda s: -s.count)
        return Report(self.messages, self.calls, tuple(rejected), tuple(suspicions))

    def take(self, record: Record) -> None:
        self.messages += 1
        place, message = _place(record), decode(record.value)
        self._check_fields(_fields(record.value), place)
        if record.key is None:
            self._suspect("no_key", place)
        if isinstance(message, Rejected):
            self._reject(message, place)
            return
        if record.key is not None and record.key != message.call_id.encode():
            self._suspect("key_differs", place)
        self._follow(message, record.timestamp, place)

    def _reject(self, rejected: Rejected, place: str) -> None:
        name, colon, _ = rejected.detail.partition(": ")
        key = (rejected.reason, name if colon else "")
        known = self.rejected.get(key, Refusal(rejected.reason, 0, place, rejected.detail))
        self.rejected[key] = replace(known, count=known.count + 1)
        if rejected.reason == "wrong_type" and name == "speaker":
            self._suspect("speaker_name", place)

    def _check_fields(self, fields: Mapping[str, msgspec.Raw], place: str) -> None:
        """What can be seen of a message that may be rejected."""
        for name, meant in _near_misses(fields.keys()):
            self._suspect("field_name", place, f"{name} is not read: the field is called {meant}", about=name)
        if any(ms >= EPOCH_LIKE_MS for ms in _offsets(fields)):
            self._suspect("epoch", place)
        if any(not ms.is_integer() for ms in _offsets(fields)):
            self._suspect("seconds", place)

    def _suspect(self, code: str, place: str, advice: str = "", about: str = "") -> None:
        key = f"{code} {about}"
        known = self.suspicions.get(key, Suspicion(code, 0, place, advice or ADVICE[code]))
        if known.count or len(self.suspicions) < FINDINGS:
            self.suspicions[key] = replace(known, count=known.count + 1)

    def _follow(self, message: Segment, timestamp: int, place: str) -> None:
        call = self._call(message.call_id, place)
        if call.due and call.due <= timestamp < call.due + self.limits.closed_ms:
            self._reject(Rejected("call_ended", "the call would be over before this message"), place)
            return
        self._live(call, message, timestamp)
        if message.type == "segment":
            self._check_segment(call, message, place)

    def _call(self, call_id: str, place: str) -> _Call:
        if call_id not in self.open:
            self.calls += 1
            self.open[call_id] = _Call(place)
            if len(self.open) > OPEN:
                self._conclude(self.open.popitem(last=False)[1])
        self.open.move_to_end(call_id)
        return self.open[call_id]

    def _live(self, call: _Call, message: Segment, timestamp: int) -> None:
        """When the call closes: after a silence, or a grace after its first end. See Conversation.due."""
        if call.ended:
            return
        call.channel = message.channel or call.channel
        call.ended = message.type == "end"
        silence = self.limits.chat_silence_ms if call.channel == "chat" else self.limits.voice_silence_ms
        call.clock = max(call.clock, timestamp)
        call.due = timestamp + self.limits.grace_ms if call.ended else call.clock + silence

    def _check_segment(self, call: _Call, message: Segment, place: str) -> None:
        scored = self.policy.skipped(message) is None
        call.segments, call.scored = call.segments + 1, call.scored or scored
        if scored and not any(c.isalnum() for c in message.text):
            self._suspect("no_letters", place)
        if message.segment_id is None:
            self._suspect("no_segment_id", place)
        if message.final and not self._is_repeat(call, message, place):
            self._check_time(call, message, place)

    def _is_repeat(self, call: _Call, message: Segment, place: str) -> bool:
        if message.segment_id is None:
            return False
        text = hash(message.text)
        if message.segment_id in call.texts:
            if call.texts[message.segment_id] != text:
                self._suspect("id_reused", place)
            return True
        call.texts[message.segment_id] = text
        if len(call.texts) > REPEATS:
            del call.texts[next(iter(call.texts))]
        return False

    def _check_time(self, call: _Call, message: Segment, place: str) -> None:
        ms = message.end_ms if message.end_ms is not None else message.start_ms
        at = message.end_at or message.start_at
        if ms is not None:
            call.timed, call.characters = call.timed + 1, call.characters + len(message.text)
            call.last_ms = max(call.last_ms, ms)
        until = ms if ms is not None else epoch_ms(at) if at else call.until
        if until < call.until - LATE_MS:
            self._suspect("out_of_order", place)
        call.until = max(call.until, until)

    def _conclude(self, call: _Call) -> None:
        if not call.ended:
            self._suspect("no_end", call.place)
        if call.segments and not call.scored:
            self._suspect("nothing_scored", call.place)
        if call.timed >= SEVERAL and call.last_ms and call.characters > FASTEST * call.last_ms:
            self._suspect("seconds", call.place)
