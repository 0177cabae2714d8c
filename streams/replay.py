"""Replay a recording: the same messages in the same order and rhythm, as if they happened now.

Timestamps are shifted so that the first is now and their spacing is kept, whatever the speed: a call sounds as long to
the rules as it was. Only the wall's pace changes. By default calls get new ids, since those of a past run may be over.
"""

import collections
import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaProducer
from kafka.errors import InvalidTimestampError, KafkaError
from msgspec.structs import replace

from streams import access, security
from streams.errors import BrokerError, DeliveryError, SettingsError, TopicsError
from streams.records import Record
from streams.settings import Settings
from streams.topics import NAMES, admin, missing

CALLS = Path(__file__).parent / "calls"
"""The calls that ship, one a file."""

NO_TIMESTAMP = -1  # as Kafka writes it
UNDERWAY = 4096  # records handed over whose delivery is not yet known; kafka-python itself has no limit
DELIVERY_S = 60.0
AGAIN = "replay again with fresh ids"
STOP_S = 1.0  # what is left for records under way when a replay is stopped

Fresh = Callable[[str], str]
"""A call's id in the recording -> its id in this run."""

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Planned:
    """A record as it is to be sent, `due_s` seconds after the start."""

    due_s: float
    record: Record


OnSent = Callable[[Planned, float], None]
"""Called when a record is handed to the client, with the wall's time in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Replay:
    """How to replay. `speed` 2 is twice as fast as it was, 0 as fast as it goes; `fresh` None keeps the ids of calls;
    `topic` is a full name, None for each record's own topic under the present prefix."""

    speed: float = 1.0
    fresh: Fresh | None = None
    topic: str | None = None

    def __post_init__(self) -> None:
        if not self.speed >= 0:
            raise SettingsError(f"--speed: {self.speed} will not do: 1 as it was, 2 twice as fast, 0 at once")


@dataclass(frozen=True, slots=True)
class Wall:
    """The clock on the wall, in seconds since 1970, and how to wait for some seconds."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Sent:
    """What was delivered: messages, distinct keys among them, and the seconds that it took."""

    messages: int
    calls: int
    seconds: float


WALL = Wall()


def fresh_ids(suffix: str) -> Fresh:
    """New ids that differ by run: en-resolved -> en-resolved-7f3a."""
    return lambda call_id: f"{call_id}-{suffix}"


def plan(records: Iterable[Record], now_ms: int, speed: float, fresh: Fresh | None = None) -> Iterator[Planned]:
    """When each record is due, with its new timestamp and ids, in the order given; due times never go back."""
    due = 0.0
    for elapsed, record in _elapsed(records):
        due = max(due, elapsed / 1000 / speed) if speed else 0.0
        renamed = _renamed(record, fresh) if fresh else record
        yield Planned(due, replace(renamed, timestamp=max(0, now_ms + elapsed)))


def merge(recordings: Sequence[Iterable[Record]], stagger_s: float) -> Iterator[Record]:
    """Several recordings as one stream by time: each begins `stagger_s` seconds after the one before. The order within
    each is kept. Timestamps count from the start of the first."""
    begun = [_begun(records, round(i * stagger_s * 1000)) for i, records in enumerate(recordings)]
    return heapq.merge(*begun, key=lambda record: record.timestamp)


def _begun(records: Iterable[Record], begin_ms: int) -> Iterator[Record]:
    for elapsed, record in _elapsed(records):
        yield replace(record, timestamp=begin_ms + elapsed)


def _elapsed(records: Iterable[Record]) -> Iterator[tuple[int, Record]]:
    """Milliseconds since the first record; a record without a timestamp comes with the one before."""
    first: int | None = None
    elapsed = 0
    for record in records:
        if record.timestamp != NO_TIMESTAMP:
            first = record.timestamp if first is None else first
            elapsed = record.timestamp - first
        yield elapsed, record


def _renamed(record: Record, fresh: Fresh) -> Record:
    return replace(record, key=_fresh_key(record.key, fresh), value=_fresh_value(record.value, fresh))


def _fresh_key(key: bytes | None, fresh: Fresh) -> bytes | None:
    """What cannot be a call's id stays as it is, so that bad input stays bad."""
    try:
        return fresh(key.decode()).encode() if key and key.strip() else key
    except UnicodeDecodeError:
        return key


def _fresh_value(value: bytes | None, fresh: Fresh) -> bytes | None:
    """The JSON with another `call_id`; every other field keeps its bytes and its place."""
    try:
        fields = _object.decode(value or b"")
        call_id = msgspec.json.decode(fields["call_id"], type=str)
    except (KeyError, msgspec.DecodeError, UnicodeError, RecursionError):
        return value
    if not call_id.strip():
        return value
    return msgspec.json.encode({**fields, "call_id": fresh(call_id)})


def send(settings: Settings, records: Iterable[Record], how: Replay, on_sent: OnSent | None = None, wall: Wall = WALL) -> Sent:
    """Sends every record when it is due and returns when all are delivered.

    Keys decide the partition, as for any producer. Raises TopicsError before the first record for a topic that does
    not exist, DeliveryError when a record is not taken, BrokerError without a broker. KeyboardInterrupt goes through
    once the producer is closed, at most STOP_S later.
    """
    with admin(settings) as client:
        existing = frozenset(client.list_topics())
    with producer(settings) as made:
        outbox, keys, start = Outbox(made, AGAIN), set(), wall.now()
        for planned in plan(records, int(start * 1000), how.speed, how.fresh):
            topic = how.topic or target(settings, planned.record.topic)
            if topic not in existing:
                raise missing(settings, topic, "--prefix or --topic")
            _wait(start + planned.due_s, wall)
            outbox.send(topic, planned.record)
            keys.add(planned.record.key)
            if on_sent is not None:
                on_sent(planned, wall.now())
        outbox.settle()
    return Sent(outbox.delivered, len(keys - {None}), wall.now() - start)


def target(settings: Settings, topic: str) -> str:
    """A recorded topic under the present prefix: one of the six by its ending, or else calls.segments. Raises TopicsError for
    what only callpulse may write: a recorded state would stand in for a live one."""
    name = next((name for name in NAMES if topic.endswith(name)), "segments")
    if name not in ("segments", "sentiment"):
        raise TopicsError(
            f"{topic} was recorded from what callpulse itself writes, and would mix with what it writes now: leave it out, or "
            "say with --topic where it is to go"
        )
    return settings.topic(name)


def _wait(until: float, wall: Wall) -> None:
    if (seconds := until - wall.now()) > 0:
        wall.sleep(seconds)


@contextmanager
def producer(settings: Settings) -> Iterator[Any]:
    """An idempotent producer, which keeps the order over retries."""
    options = {"batch_size": 0} if settings.profile.batch_records == 1 else {"linger_ms": 2}
    try:
        made = KafkaProducer(
            **security.client(settings),
            acks="all",
            allow_auto_create_topics=False,
            delivery_timeout_ms=int(DELIVERY_S * 1000),
            **options,
        )
    except KafkaError as error:
        raise BrokerError(f"no Kafka broker answers any more at {settings.bootstrap_servers}: {error!r}") from error
    try:
        yield made
    except BaseException:
        _stop(made)
        raise
    made.close()


def _stop(producer: Any) -> None:
    """Closes it within STOP_S or so. Its close() gives up with its flush, and leaves a thread that tries for ever."""
    try:
        producer.close(timeout=STOP_S)
    except KafkaError:
        producer._sender.force_close()
        with suppress(KafkaError):
            producer.close(timeout=STOP_S)


class Outbox:
    """Records under way, oldest first; raises DeliveryError as soon as one is known not to have been taken. `again` says what
    to do when the broker is well."""

    def __init__(self, producer: Any, again: str) -> None:
        self.producer, self.again = producer, again
        self.delivered = 0
        self._underway: collections.deque[tuple[Any, str, Record]] = collections.deque()

    def send(self, topic: str, record: Record) -> None:
        try:
            self._underway.append((self._handed(topic, record), topic, record))
        except KafkaError as error:
            raise self._undelivered(error, topic, record) from error
        while self._underway and (len(self._underway) > UNDERWAY or self._underway[0][0].is_done):
            self._settle_one()

    def settle(self) -> None:
        """Returns when everything is delivered."""
        while self._underway:
            self._settle_one()

    def _handed(self, topic: str, record: Record) -> Any:
        """kafka-python has no null headers, and no message with neither key nor value: empty ones stand for them."""
        headers = [(name, value or b"") for name, value in record.headers]
        key = b"" if record.key is None and record.value is None else record.key
        return self.producer.send(topic, record.value, key, headers, timestamp_ms=record.timestamp)

    def _settle_one(self) -> None:
        future, topic, record = self._underway.popleft()
        error = _outcome(future)
        if type(error) is KafkaError:
            error, topic, record = self._blamed() or (error, topic, record)
        if error is not None:
            raise self._undelivered(error, topic, record) from error
        self.delivered += 1

    def _blamed(self) -> tuple[KafkaError, str, Record] | None:
        """A batch fails as a whole: of its records only the one to blame has an error of a kind."""
        for future, topic, record in self._underway:
            error = _outcome(future)
            if error is not None and type(error) is not KafkaError:
                return error, topic, record
        return None

    def _undelivered(self, error: KafkaError, topic: str, record: Record) -> DeliveryError:
        place = f"the record of {record.topic}, partition {record.partition}, offset {record.offset}"
        way_out = _way_out(error, topic) or f"{error!r}; see that the broker is well, then {self.again}"
        return DeliveryError(f"{place} was not delivered to {topic}: {way_out}")


def _outcome(future: Any) -> KafkaError | None:
    """None once it is delivered."""
    try:
        future.get(timeout=DELIVERY_S + STOP_S)
    except KafkaError as error:
        return error
    return None


def _way_out(error: KafkaError, topic: str) -> str | None:
    if isinstance(error, InvalidTimestampError):
        return (
            "its time is too far ahead of the broker's clock, as happens to long recordings at high speed: choose a "
            f"lower --speed, or raise message.timestamp.after.max.ms of {topic}"
        )
    return access.denied(error, "Write")
