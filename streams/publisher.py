"""Records out: in batches a partition, in order, returned only when the broker has them; in one transaction where it must be.

A broker that goes away is waited for, however long; what it refuses for good is a DeliveryError, after which the process ends.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    ProducerClosed,
    ProducerFenced,
    RequestTimedOutError,
)
from msgspec.structs import replace

from streams.errors import DeliveryError, FencedError
from streams.records import Record, Rejected
from streams.security import aio_client
from streams.settings import Settings
from streams.traced import trace_id
from streams.wire import Header, rejection

log = logging.getLogger("callpulse.publisher")

MOST_BYTES = 1_000_000  # of a record; brokers take a little more by default, and a compressed batch may have held more
BATCH_BYTES = 1 << 18
TRANSACTION_S = 60.0  # after which the broker aborts a transaction whose producer is gone, if no other takes its place
RETRY_S = 1.0
PAUSE_S = 0.1
GONE = (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping, InvalidTxnState, ProducerClosed)
"""A transaction ends so when another producer has taken over its id, when the broker has given it up, or we have."""
AWAY = (KafkaConnectionError, NodeNotReadyError, RequestTimedOutError)
CAUSES = 8  # of an error, one behind the other


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
    _say(record, rejected, stage)
    size = sum(len(part or b"") for part in (record.key, record.value)) + sum(len(n) + len(v or b"") for n, v in record.headers)
    if size > MOST_BYTES:
        record = replace(record, key=None, value=None, headers=())
    headers = tuple(rejection(record, rejected, stage))
    return Outgoing(topic, record.partition % partitions, record.key, record.value, headers)


def _say(record: Record, rejected: Rejected, stage: str) -> None:
    """A line about what was skipped, as somebody asked for it; about any other only on debug, since there may be thousands."""
    level = logging.INFO if rejected.reason == "skipped" else logging.DEBUG
    if log.isEnabledFor(level):
        said = {**record.where, "stage": stage, "reason": rejected.reason, "trace_id": trace_id(record.headers)}
        log.log(level, "rejected %s: %s", record.place, rejected.reason, extra=said)


class Publisher:
    """Publishes step by step: each is delivered before the next is sent. Order holds within a partition. `sent` counts what is
    delivered by topic, in a transaction once it is committed."""

    def __init__(self, settings: Settings, sent: Counter[str] | None = None, **transactions: Any) -> None:
        profile = settings.profile
        self._sent: Counter[str] = Counter() if sent is None else sent
        self._producer = AIOKafkaProducer(
            **aio_client(settings),
            enable_idempotence=profile.idempotent,
            acks="all",
            max_batch_size=1 if profile.batch_records == 1 else BATCH_BYTES,
            **transactions,
        )
        # aiokafka gives up a batch whose partition has been without a leader for its request timeout; the batches behind it
        # would still be sent, out of order. A broker that is away is waited for instead, and not asked without a pause.
        self._producer._message_accumulator._batch_ttl = float("inf")
        self._producer.client.force_metadata_update = _paced(self._producer.client.force_metadata_update)

    async def start(self) -> None:
        """Connects; waits for a broker that does not answer."""
        while True:
            try:
                await self._producer.start()
                return
            except KafkaError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(RETRY_S)

    async def stop(self) -> None:
        await self._producer.stop()

    async def publish(self, *steps: Iterable[Outgoing]) -> None:
        """Returns when every record is delivered; raises DeliveryError when one is refused."""
        for step in steps:
            self._sent.update(await self._deliver(step))

    async def _deliver(self, records: Iterable[Outgoing]) -> Counter[str]:
        """How many, by topic."""
        by_partition: dict[tuple[str, int], list[Outgoing]] = defaultdict(list)
        for record in records:
            by_partition[record.topic, record.partition].append(record)
        try:
            await asyncio.gather(*(self._send(*place, batch) for place, batch in by_partition.items()))
        except KafkaError as error:
            names = ", ".join(sorted({topic for topic, _ in by_partition}))
            raise DeliveryError(f"a record was not delivered to {names}: {error!r}") from error
        delivered: Counter[str] = Counter()
        for (topic, _), batch in by_partition.items():
            delivered[topic] += len(batch)
        return delivered

    async def _send(self, topic: str, partition: int, records: Sequence[Outgoing]) -> None:
        """One batch after the other: were one refused while the next is under way, its records would come too late."""
        batch = self._producer.create_batch()
        for record in records:
            if not _append(batch, record):
                await (await self._producer.send_batch(batch, topic, partition=partition))
                batch = self._producer.create_batch()
                if not _append(batch, record):
                    raise DeliveryError(f"a record for {topic} is larger than a batch")
        await (await self._producer.send_batch(batch, topic, partition=partition))


def _paced(update: Callable[[], Awaitable[bool]]) -> Callable[[], "asyncio.Future[bool]"]:
    """The same, with a pause behind each; who asks meanwhile waits for the same answer."""
    asking: list[asyncio.Task[bool]] = []

    async def asked() -> bool:
        answer = await update()
        await asyncio.sleep(PAUSE_S)
        return answer

    def paced() -> "asyncio.Future[bool]":
        if not asking or asking[0].done():
            asking[:] = [asyncio.create_task(asked())]
        return asyncio.shield(asking[0])

    return paced


def _append(batch: Any, record: Outgoing) -> bool:
    added = batch.append(key=record.key, value=record.value, timestamp=record.timestamp, headers=list(record.headers))
    return added is not None


class Transactions(Publisher):
    """Publishes all steps in one transaction: readers of committed records see all of it or nothing.

    From its start on, whoever used the same id before is fenced off: what it had begun is aborted, what it tries is refused.
    """

    def __init__(self, settings: Settings, transactional_id: str, sent: Counter[str] | None = None) -> None:
        super().__init__(settings, sent, transactional_id=transactional_id, transaction_timeout_ms=int(TRANSACTION_S * 1000))

    async def publish(self, *steps: Iterable[Outgoing]) -> None:
        """Raises FencedError when the id has been taken over, or when nobody knows how the transaction ended, as the broker
        went away amid it: who starts the id anew learns that from what is stored."""
        try:
            await self._producer.begin_transaction()
            delivered = await self._deliver(chain(*steps))
            await self._producer.commit_transaction()
            self._sent.update(delivered)
        except (DeliveryError, KafkaError) as error:
            cause = error.__cause__ if isinstance(error, DeliveryError) else error
            if isinstance(cause, GONE):
                raise FencedError(f"another producer has taken over: {cause!r}") from error
            if _went_away(cause):
                raise FencedError(f"the broker went away amid a transaction: {cause!r}") from error
            raise DeliveryError(f"a transaction was not committed: {error!r}") from error


def _went_away(error: BaseException | None) -> bool:
    """Whether a broken connection is among its causes. aiokafka (0.14) gives a transaction up, for good and with an error that
    says nothing, where the connection breaks while it looks for the coordinator."""
    for _ in range(CAUSES):
        if isinstance(error, AWAY):
            return True
        error = error.__cause__ if error is not None else None
    return False
