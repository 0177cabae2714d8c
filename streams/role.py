"""One agent's life in a worker: started, given its share of the partitions, watched, stopped. `worker` makes it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.agents import Context
from streams.backlog import Backlog
from streams.delivery import Lane
from streams.health import Progress
from streams.publisher import Publisher

log = logging.getLogger("callpulse.worker")

RETRY_S = 1.0
T = TypeVar("T")


@dataclass
class Role:
    """One agent with what it needs: started and stopped together. `ready` is set while it takes part with all it needs."""

    name: str
    app: Any
    lane: Lane
    publisher: Publisher
    ready: asyncio.Event
    backlog: Backlog
    stopped: Callable[[], Awaitable[None]] | None = None
    beginning: "asyncio.Task[None] | None" = None
    progress: Progress = field(default_factory=lambda: Progress(time.monotonic()))
    lags: dict[TopicPartition, int] = field(default_factory=dict)

    async def start(self) -> None:
        await self.publisher.start()
        self.lane.start()
        await self.app.start()

    async def stop(self) -> None:
        await self.lane.close()
        await self.app.stop()
        if self.stopped is not None:
            await self.stopped()
        await self.publisher.stop()
        await self.backlog.stop()

    async def revoked(self) -> None:
        """Returns when the lane has settled. An answer that comes meanwhile must not let it go on: what it takes in then would
        follow on nothing. To cancel is not enough: before Python 3.12, wait_for gives an answer that is just there."""
        if self.beginning is not None:
            self.beginning.cancel()
        await self.lane.settle()

    def assigned(self, context: Context, partitions: Iterable[Any]) -> None:
        """Goes on in the background, for the group does not wait for long."""
        self.lane.passed_over = self.passed_over
        self.beginning = asyncio.create_task(self._begun(context, partitions))

    async def _begun(self, context: Context, partitions: Iterable[Any]) -> None:
        try:
            await self.begin(context, partitions)
        except Exception as error:
            context.failed(error, [])

    async def begin(self, context: Context, partitions: Iterable[Any]) -> None:
        """Lets the lane go on with the partitions that are assigned now, once the broker says from where. What retention has
        deleted unread is said and counted."""
        places, assignment = [TopicPartition(tp.topic, tp.partition) for tp in partitions], self.lane.assignment
        begins = await self._answer(lambda: self.backlog.begins(places))
        if assignment == self.lane.assignment and not self.lane.settling:
            self.missed(context, {place: begin.lost for place, begin in begins.items()})
            offsets = {place: begin.offset for place, begin in begins.items()}
            self.lane.resume(offsets, {place: offset - begins[place].lost for place, offset in offsets.items()})

    async def passed_over(self, place: TopicPartition, expected: int, found: int) -> bool:
        """Whether records lie between these offsets."""
        return await self._answer(lambda: self.backlog.between(place, expected, found))

    async def _answer(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What the broker says, whenever it does."""
        while True:
            try:
                return await ask()
            except (KafkaError, asyncio.TimeoutError, TimeoutError) as error:
                log.warning("%s: the broker does not answer: %r", self.name, error)
                await asyncio.sleep(RETRY_S)

    @staticmethod
    def missed(context: Context, lost: Mapping[TopicPartition, int]) -> None:
        for place, count in lost.items():
            if count:
                context.counts.lost += count
                said = "%s partition %d: %d records were deleted by retention unread"
                log.error(said, *place, count, extra=place._asdict())

    async def watch(self, context: Context) -> None:
        """Looks once how far the lane is, and what lies behind."""
        jumps, reached = list(self.lane.jumps), dict(self.lane.done)
        try:
            self.missed(context, await self.backlog.deleted(jumps))
            for _ in jumps:
                self.lane.jumps.popleft()
            self.lags = lags = await self.backlog.lags(reached)
        except (KafkaError, asyncio.TimeoutError, TimeoutError) as error:
            log.warning("%s: the broker does not say what is left to do: %r", self.name, error)
            lags = {"as before": self.progress.lag}  # what has moved is known all the same
        if self.lane.running.is_set():
            self.progress.observe(reached, sum(lags.values()), self.lane.paused, time.monotonic())
        else:
            self.progress.unassigned()
