"""What is left to do, asked of the broker: how far each group has come, how much lies behind that, what is gone for good."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.security import aio_client
from streams.settings import Settings

PEEK_MS = 200
ANSWER_S = 5.0
FEW = 100  # as many ends of transactions as may lie together


@dataclass(frozen=True, slots=True)
class Begin:
    """Where a group goes on in a partition; `lost` records before it were deleted by retention and never read."""

    offset: int
    lost: int


class Backlog:
    """Asks on behalf of one group, which it never joins. Raises KafkaError, or TimeoutError after ANSWER_S."""

    def __init__(self, settings: Settings, role: str) -> None:
        self.settings, self.group = settings, f"{settings.group}-{role}"
        self._asking: AIOKafkaConsumer | None = None
        self._one = asyncio.Lock()

    async def begins(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, Begin]:
        """Where the group goes on in these partitions: what it has committed, or where the partition now begins."""
        async with self._one:
            return await asyncio.wait_for(self._begins(list(places)), ANSWER_S)

    async def deleted(self, jumps: Iterable[tuple[TopicPartition, int, int]]) -> dict[TopicPartition, int]:
        """How many of the offsets that were jumped over (partition, expected, found) retention has deleted; the others are the
        ends of transactions."""
        async with self._one:
            return await asyncio.wait_for(self._deleted(list(jumps)), ANSWER_S)

    async def between(self, place: TopicPartition, expected: int, found: int) -> bool:
        """Whether a record lies at or behind `expected` and before `found`, where there is one or was."""
        async with self._one:
            return await asyncio.wait_for(self._between(place, expected, found), ANSWER_S)

    async def lags(self, reached: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """How many records lie at or behind these offsets. The ends of a producer's transactions count, unless nothing
        else is left."""
        async with self._one:
            return await asyncio.wait_for(self._lags(reached), ANSWER_S)

    async def done(self, place: TopicPartition, reached: int | None) -> bool:
        """Whether no record lies at or behind an offset (None: what the group has committed). False as well when no broker
        answers: then it is asked again at the next tick."""
        try:
            if reached is None:
                reached = (await self.begins([place]))[place].offset
            return (await self.lags({place: reached}))[place] == 0
        except (KafkaError, asyncio.TimeoutError, TimeoutError):
            return False

    async def stop(self) -> None:
        if self._asking is not None:
            await self._asking.stop()

    async def _begins(self, places: list[TopicPartition]) -> dict[TopicPartition, Begin]:
        if not places:
            return {}
        consumer = await self._consumer()
        first = await consumer.beginning_offsets(places)
        committed = {place: await consumer.committed(place) for place in places}
        return {place: _begin(committed[place], first[place]) for place in places}

    async def _deleted(self, jumps: list[tuple[TopicPartition, int, int]]) -> dict[TopicPartition, int]:
        lost: dict[TopicPartition, int] = {}
        if jumps:
            first = await (await self._consumer()).beginning_offsets(list({place for place, _, _ in jumps}))
            for place, expected, found in jumps:
                if (deleted := min(first[place], found) - expected) > 0:
                    lost[place] = lost.get(place, 0) + deleted
        return lost

    async def _between(self, place: TopicPartition, expected: int, found: int) -> bool:
        consumer = await self._consumer()
        consumer.assign([place])
        consumer.seek(place, expected)
        while await consumer.position(place) < found:
            for messages in (await consumer.getmany(timeout_ms=PEEK_MS, max_records=1)).values():
                return bool(messages[0].offset < found)
        return False

    async def _lags(self, reached: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        if not reached:
            return {}
        consumer = await self._consumer()
        ends = await consumer.end_offsets(list(reached))
        lags = {place: max(0, ends[place] - offset) for place, offset in reached.items()}
        for place, lag in lags.items():
            if 0 < lag <= FEW and await _empty(consumer, place, reached[place], ends[place]):
                lags[place] = 0
        return lags

    async def _consumer(self) -> AIOKafkaConsumer:
        if self._asking is None:
            consumer = AIOKafkaConsumer(
                **aio_client(self.settings),
                group_id=self.group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_poll_records=1,
            )
            try:
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            self._asking = consumer
        return self._asking


def _begin(committed: int | None, first: int) -> Begin:
    """A group that has committed nothing begins where the partition does, and has lost nothing."""
    offset = first if committed is None else committed
    return Begin(max(offset, first), max(0, first - offset))


async def _empty(consumer: AIOKafkaConsumer, place: TopicPartition, offset: int, end: int) -> bool:
    """Whether what lies there are no records, but the ends of a producer's transactions."""
    consumer.assign([place])
    consumer.seek(place, offset)
    return not await consumer.getmany(timeout_ms=PEEK_MS, max_records=1) and bool(await consumer.position(place) >= end)
