"""A lane among all that can happen to it, in any order: what is committed was delivered, and in the end all of it is."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lanes import FakeWork, Line, Offsets, place, run, turns

from streams import delivery
from streams.delivery import Event

Step = tuple[str, int]
KINDS = ("put", "put", "finish", "finish", "commit", "settle", "overtake", "resume", "stray")
steps = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2)), max_size=60)


class Book(FakeWork):
    """Work that keeps book of what is finished, by generation: offsets behind what was delivered without a gap."""

    def __init__(self) -> None:
        super().__init__(most=3, gated=True)
        self.finished_to: dict[tuple[int, int], int] = {}
        self.begun_to: dict[tuple[int, int], int] = {}

    async def work(self, batch: Sequence[Event]) -> Sequence[Event]:
        for event in batch:
            at = event.generation, event.partition
            assert event.offset == self.begun_to[at]  # in order, none left out, none twice
            self.begun_to[at] += 1
        done = await super().work(batch)
        for event in done:
            self.finished_to[event.generation, event.partition] = event.offset + 1
        return done


class Group:
    """A topic of three partitions and the group's memory of them, around a line that has all three."""

    def __init__(self) -> None:
        self.ends, self.committed, self.read = [0] * 3, [0] * 3, [0] * 3
        self.book = Book()
        self.line = Line(self.book)
        self.line.app._commit = self._commit  # type: ignore[method-assign]
        self.settled = True

    async def _commit(self, offsets: Offsets) -> bool:
        await asyncio.sleep(0)
        for (_, partition), offset in offsets.items():
            assert self.committed[partition] <= offset <= self.book.finished_to[self.generation, partition]
            self.committed[partition] = offset
        return True

    @property
    def generation(self) -> int:
        return self.line.app.consumer_generation_id

    async def put(self, partition: int) -> None:
        self.ends[partition] += 1
        self._deliver()

    def _deliver(self) -> None:
        for partition in range(3):
            if not self.settled:
                new = range(self.read[partition], self.ends[partition])
                self.line.put(*new, partition=partition, at_once=1 + partition)
                self.read[partition] = self.ends[partition]

    async def finish(self, _: int) -> None:
        if self.book.gate.locked() and len(self.book.begun) > len(self.book.finished):
            self.book.gate.release()

    async def commit(self, again: int) -> None:
        if not self.settled:  # as the lane itself does it
            await self.line.lane.commit(again=again == 0)

    async def settle(self, _: int) -> None:
        """Afterwards all that was begun since the last assignment is committed."""
        settling = asyncio.create_task(self.line.lane.settle())
        while not settling.done():
            await self.finish(0)
            await asyncio.sleep(0)
        await settling
        assert self.settled or self.committed == [
            self.book.begun_to.get((self.generation, partition), 0) for partition in range(3)
        ]
        self.settled = True

    async def overtake(self, _: int) -> None:
        """The next assignment comes while a batch is still under way."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(delivery, "SETTLE_S", 0)
            await self.line.lane.settle()
        self.settled = True
        await self.resume(0)

    async def resume(self, _: int) -> None:
        if self.settled:
            self.settled, self.read = False, list(self.committed)
            now = {(self.generation + 1, partition): offset for partition, offset in enumerate(self.committed)}
            self.book.begun_to |= now
            self.book.finished_to |= now
            self.line.reassigned(**{f"p{partition}": offset for partition, offset in enumerate(self.committed)})
            self._deliver()

    async def stray(self, partition: int) -> None:
        """An event of the former generation that was on its way."""
        self.line.put(self.read[partition], partition=partition, generation=self.generation - 1)

    async def over(self) -> None:
        await self.settle(0)
        await self.resume(0)
        while self.line.lane.done != {place(partition): end for partition, end in enumerate(self.ends)}:
            await self.finish(0)
            await asyncio.sleep(0)
        await self.settle(0)


@settings(max_examples=300)
@given(steps)
def test_whatever_happens_what_is_committed_is_delivered_and_what_is_settled_is_committed(played: list[Step]) -> None:
    async def scene() -> Group:
        group = Group()
        await group.resume(0)
        for name, argument in played:
            step: Coroutine[Any, Any, None] = getattr(group, name)(argument)
            await step
            await turns(3)
        await group.over()
        await group.line.stop()
        return group

    group = run(scene)
    assert group.committed == group.ends
    assert group.line.failures == []
