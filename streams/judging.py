"""What the judge's agent does with a batch, as its lane calls it, and what it does between two. Faust is not known here."""

import asyncio
import collections
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import TopicPartition

from models.batching import take
from streams.agents import Context
from streams.backlog import ANSWER_S, Backlog
from streams.delivery import Event
from streams.errors import FencedError
from streams.metrics import Judge
from streams.outcome import Outcome
from streams.publisher import Publisher
from streams.records import Record
from streams.state import Judged

log = logging.getLogger("callpulse.worker")

JUDGE_BATCH = 512


class Judging:
    """The judge's work on one batch, partition by partition, and what falls due while nothing arrives. `member` says, by asking
    the broker, whether this worker is still in the group."""

    def __init__(self, context: Context, publisher: Publisher, member: Callable[[], Awaitable[bool]]) -> None:
        self.context, self.publisher, self.member = context, publisher, member
        self.judged: dict[int, Judged] = {}
        self.ready = asyncio.Event()
        self.loading: asyncio.Future[Any] | None = None
        self.closing: set[asyncio.Task[None]] = set()
        self.scored, self.judged_to = Backlog(context.settings, "score"), Backlog(context.settings, "judge")

    def own(self, partitions: Iterable[int]) -> None:
        """Starts to load what this worker now judges; another may have judged it meanwhile, so nothing is kept."""
        for judged in self.judged.values():
            self._close(judged)
        self.judged = {partition: self._opened(partition) for partition in partitions}
        self.loading = asyncio.gather(*(judged.loading for judged in self.judged.values()))
        self.loading.add_done_callback(self._loaded)

    def _opened(self, partition: int) -> Judged:
        context = self.context
        rules = context.rules.in_force  # not the newest: this may be amid a batch
        shared = context.topics, self.publisher, context.clock, context.skip, rules, context.tracer, context.metrics
        return Judged(context.settings, partition, *shared)

    def _take(self) -> None:
        """Changes the rules of all partitions, if there are newer ones. Only between two batches."""
        rules = self.context.rules.take()
        for judged in self.judged.values():
            judged.rules = rules

    def _loaded(self, waiting: "asyncio.Future[Any]") -> None:
        if waiting.cancelled() or isinstance(error := waiting.exception(), asyncio.CancelledError):
            return  # a partition was taken away before it was loaded
        if error is not None:
            self.context.failed(error, [])
        elif waiting is self.loading:
            self.ready.set()

    async def stop(self) -> None:
        self.own(())
        await asyncio.gather(*self.closing, self.scored.stop(), self.judged_to.stop())

    def came(self) -> None:
        """Judging begins with its batch."""

    def size(self, waiting: Iterable[Event]) -> int:
        return take((1 for _ in waiting), JUDGE_BATCH)

    async def work(self, batch: Sequence[Event]) -> Sequence[Event]:
        self._take()
        by_partition: dict[int, list[Record]] = collections.defaultdict(list)
        for event in batch:
            by_partition[event.partition].append(event)
        judging = (self._attempt(p, lambda j, r=records: j.judge(r)) for p, records in by_partition.items())  # type: ignore[misc]
        delivered = dict(zip(by_partition, await asyncio.gather(*judging), strict=True))
        return [event for event in batch if delivered[event.partition]]

    async def _attempt(self, partition: int, act: Callable[[Judged], Awaitable[Outcome]]) -> bool:
        """Acts on a partition; false where another worker has taken it over: then it is that one's to judge. A partition whose
        transaction the broker has given up, though it is still this worker's, is opened anew, from what is stored."""
        judged = self.judged.get(partition)
        while judged is not None:
            try:
                self._count(await act(judged))
                return True
            except FencedError as error:
                log.warning("partition %d: %s", partition, error, extra=judged.where)
            if self.judged.get(partition) is not judged or not await self.member():
                return False
            await self._close(judged)
            if self.judged.get(partition) is not judged:
                return False  # opened anew meanwhile, by a rebalance
            judged = self.judged[partition] = self._opened(partition)
        return False

    def _close(self, judged: Judged) -> "asyncio.Task[None]":
        closing = asyncio.create_task(judged.close())
        self.closing.add(closing)
        closing.add_done_callback(self.closing.discard)
        return closing

    async def tick(self) -> None:
        """What is due happens once the partition is drained, so that lag never ends a call early. Rules that are new, or new to
        a state that was stored, take over at once."""
        self._take()
        await asyncio.gather(*(self._attempt(p, Judged.take_over) for p, judged in self.judged.items() if judged.untaken))
        loaded = [judged for judged in self.judged.values() if judged.loading.done() and not judged.lost]
        due = [(judged, clocks) for judged in loaded if (clocks := await judged.due_clocks())]
        scored = await self._drained({lane for _, clocks in due for lane in clocks})
        for judged, clocks in due:
            drained = {lane: clock for lane, clock in clocks.items() if lane in scored}
            place = TopicPartition(judged.topic.name, judged.partition)
            if drained and await self.judged_to.done(place, judged.next_offset):
                await self._attempt(judged.partition, lambda j, clocks=drained: j.tick(clocks))  # type: ignore[misc]

    async def _drained(self, lanes: Iterable[str]) -> set[str]:
        """Those that the scorer's group is through with, as far as the broker says so soon: alerts must not wait for timers."""
        drained: set[str] = set()

        async def ask() -> None:
            for lane in lanes:
                if await self._scored(lane):
                    drained.add(lane)

        with suppress(asyncio.TimeoutError, TimeoutError):
            await asyncio.wait_for(ask(), ANSWER_S)
        return drained

    async def _scored(self, lane: str) -> bool:
        """Whether the scorer's group is through with a source partition; one of a former topic has nothing left."""
        segments = self.context.topics["segments"]
        topic_id, _, partition = lane.rpartition(":")
        return topic_id != segments.topic_id or await self.scored.done(TopicPartition(segments.name, int(partition)), None)

    def _count(self, outcome: Outcome) -> None:
        counts = self.context.counts
        counts.judged += outcome.judged
        counts.repeats += outcome.repeats
        counts.rejected += len(outcome.rejected)
        counts.alerts += len(outcome.alerts)
        counts.summaries += len(outcome.summaries)
        self.context.metrics.judged(outcome, self.context.clock())

    def seen(self) -> Judge:
        """For whoever scrapes the worker."""
        live: collections.Counter[str] = collections.Counter()
        alerts: collections.Counter[str] = collections.Counter()
        for judged in self.judged.values():
            if (calls := judged.loaded) is not None:
                live.update(calls.census.live)
                alerts.update(calls.census.open)
        rules = self.context.rules
        return Judge(live, alerts, rules.in_force, bool(rules.refused))
