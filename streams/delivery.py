"""Publish, await delivery, acknowledge: the order that lets a worker die at any point and lose nothing.

For each batch of a lane, one batch at a time:

1. take what waits, oldest first;
2. do the work: its effects are published and their delivery is awaited;
3. acknowledge the batch's events, in offset order;
4. Faust commits what is acknowledged, later.

A crash before 3 (or between 3 and 4) redelivers the batch. The scorer then publishes it again, with the same places in
calls.segments, which the judge drops. The judge publishes the same alerts under the same ids, in front of the states; what a
stored state already contains is not judged again. A failed delivery raises: nothing after it is sent or acknowledged, and
the process stops.
"""

import asyncio
import collections
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.errors import DeliveryError
from streams.records import Record, Rejected
from streams.settings import Settings
from streams.wire import Header, rejection

TICK_S = 1.0
CAPACITY = 4096
MOST_BYTES = 1_000_000  # of a record; brokers take a little more by default, and a compressed batch may have held more


class Message(Protocol):
    """What is used of Faust's message."""

    topic: str
    partition: int
    offset: int
    timestamp: float
    key: bytes | None
    value: bytes | None
    headers: Any
    generation_id: int


class Event(Protocol):
    """What is used of Faust's event."""

    message: Message

    def ack(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to be published; `timestamp` in ms since 1970, None for the time of sending."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()
    timestamp: int | None = None


def rejected_record(topic: str, partitions: int, record: Record, rejected: Rejected, stage: str) -> Outgoing:
    """The original for calls.rejected, untouched; of one that is too large for any topic only where it lies, and why."""
    size = sum(len(part or b"") for part in (record.key, record.value)) + sum(len(n) + len(v or b"") for n, v in record.headers)
    if size > MOST_BYTES:
        record = replace(record, key=None, value=None, headers=())
    headers = tuple(rejection(record, rejected, stage))
    return Outgoing(topic, record.partition % partitions, record.key, record.value, headers)


class Publisher:
    """Sends records in batches a partition and waits until the broker has them."""

    def __init__(self, settings: Settings) -> None:
        profile = settings.profile
        self._producer = AIOKafkaProducer(
            bootstrap_servers=settings.bootstrap_servers,
            enable_idempotence=profile.idempotent,
            acks="all",
            max_batch_size=1 if profile.batch_records == 1 else 1 << 18,
        )

    async def start(self) -> None:
        await self._producer.start()

    async def stop(self) -> None:
        await self._producer.stop()

    async def publish(self, records: Iterable[Outgoing]) -> None:
        """Returns when every record is delivered; raises DeliveryError when one is not. Order holds within a partition."""
        by_partition: dict[tuple[str, int], list[Outgoing]] = collections.defaultdict(list)
        for record in records:
            by_partition[record.topic, record.partition].append(record)
        try:
            sent = await asyncio.gather(*(self._send(*place, batch) for place, batch in by_partition.items()))
            for futures in sent:
                for delivered in futures:
                    await delivered
        except KafkaError as error:
            names = ", ".join(sorted({topic for topic, _ in by_partition}))
            raise DeliveryError(f"a record was not delivered to {names}: {error!r}") from error

    async def _send(self, topic: str, partition: int, records: list[Outgoing]) -> list[asyncio.Future[Any]]:
        sent, batch = [], self._producer.create_batch()
        for record in records:
            if not self._append(batch, record):
                sent.append(await self._producer.send_batch(batch, topic, partition=partition))
                batch = self._producer.create_batch()
                if not self._append(batch, record):
                    raise DeliveryError(f"a record for {topic} is larger than a batch")
        sent.append(await self._producer.send_batch(batch, topic, partition=partition))
        return sent

    @staticmethod
    def _append(batch: Any, record: Outgoing) -> bool:
        added = batch.append(key=record.key, value=record.value, timestamp=record.timestamp, headers=list(record.headers))
        return added is not None


class Work(Protocol):
    """What an agent does. `size` of the waiting events make the next batch (at least one); `work` returns when a batch's
    effects are delivered; `tick`, where there is one, is called about once a second between batches."""

    @property
    def tick(self) -> Callable[[], Awaitable[None]] | None: ...

    def size(self, waiting: Iterable[Event]) -> int: ...

    async def work(self, batch: Sequence[Event]) -> None: ...


class Lane:
    """Events in, batches of whatever waits out: the micro-batcher between a Faust agent and its work.

    When partitions are taken away, what waits is given up (it will be redelivered), what is under way is finished and
    committed. `failed` is called once, with the first message of the batch under way, when the work raises.
    """

    def __init__(self, app: Any, work: Work, failed: Callable[[BaseException, Message | None], None]) -> None:
        self.app, self.work, self.failed = app, work, failed
        self.waiting: collections.deque[Event] = collections.deque()
        self.more, self.room, self.idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.room.set()
        self.idle.set()
        self.running = asyncio.Event()
        self.running.set()
        self.closed = False
        self.task: asyncio.Task[None] | None = None

    async def feed(self, events: AsyncIterator[Event]) -> None:
        """Takes events in as they come; stops taking while the lane is full."""
        async for event in events:
            if not self.closed:
                self.waiting.append(event)
                self.more.set()
            if len(self.waiting) >= CAPACITY:
                self.room.clear()
                await self.room.wait()

    def start(self) -> None:
        self.task = asyncio.create_task(self._drain())

    async def settle(self) -> None:
        """Gives up what waits, lets the batch under way finish, commits it. Nothing is begun until `resume`."""
        self.running.clear()
        self.waiting.clear()
        self.more.clear()
        self.room.set()
        await self.idle.wait()
        await self.app.consumer.commit()

    def resume(self) -> None:
        """Goes on, with the partitions of a new generation."""
        self.running.set()

    async def close(self) -> None:
        """Settles and takes nothing more."""
        self.closed = True
        await self.settle()
        if self.task is not None:
            self.task.cancel()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        batch: list[Event] = []
        ticked = loop.time()
        try:
            while True:
                await self._more(ticked + TICK_S - loop.time())
                await self.running.wait()
                self.idle.clear()
                batch = self._batch()
                if batch:
                    await self.work.work(batch)
                    self._acknowledge(batch)
                    batch = []
                if self.work.tick is not None and loop.time() - ticked >= TICK_S:
                    await self.work.tick()
                    ticked = loop.time()
                self.idle.set()
        except asyncio.CancelledError as error:
            if not self.closed:
                self.failed(error, batch[0].message if batch else None)
            raise
        except Exception as error:
            self.failed(error, batch[0].message if batch else None)
        finally:
            self.idle.set()

    async def _more(self, seconds: float) -> None:
        """Waits for an event; where there are ticks, at most until the next one."""
        if self.work.tick is None:
            await self.more.wait()
        elif not self.more.is_set():
            try:
                await asyncio.wait_for(self.more.wait(), max(0.0, seconds))
            except (asyncio.TimeoutError, TimeoutError):
                return

    def _batch(self) -> list[Event]:
        taken = [self.waiting.popleft() for _ in range(self.work.size(self.waiting))] if self.waiting else []
        if not self.waiting:
            self.more.clear()
        self.room.set()
        return [event for event in taken if self._mine(event)]

    def _mine(self, event: Event) -> bool:
        """Whether the event's partition was assigned in this generation; otherwise it is redelivered to its owner."""
        return bool(event.message.generation_id == self.app.consumer_generation_id)

    def _acknowledge(self, batch: list[Event]) -> None:
        for event in batch:
            if self._mine(event):
                event.ack()
