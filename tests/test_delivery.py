"""A lane over real asyncio and a fake of what it uses of Faust: what is worked, when it is acknowledged, how it ends; and
what is kept of a rejected record."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import Any, TypeVar

import pytest

from streams import delivery
from streams.delivery import Event, Lane, Message, Outgoing, rejected_record
from streams.records import Record, Rejected

PATIENCE = 5.0  # seconds before a condition counts as never met
T = TypeVar("T")


@dataclass
class FakeMessage:
    offset: int
    generation_id: int = 1
    topic: str = "calls.segments"
    partition: int = 0
    timestamp: float = 0.0
    key: bytes | None = None
    value: bytes | None = None
    headers: Any = ()


@dataclass
class FakeEvent:
    message: Message
    acknowledged: list[int]

    def ack(self) -> bool:
        self.acknowledged.append(self.message.offset)
        return True


@dataclass
class FakeApp:
    """As an app is its own consumer here, `consumer` is the app; `committed` is what was acknowledged at each commit."""

    consumer_generation_id: int = 1
    acknowledged: list[int] = field(default_factory=list)
    committed: list[list[int]] = field(default_factory=list)

    @property
    def consumer(self) -> "FakeApp":
        return self

    async def commit(self) -> None:
        self.committed.append(list(self.acknowledged))

    def event(self, offset: int, generation: int = 1) -> FakeEvent:
        return FakeEvent(FakeMessage(offset, generation), self.acknowledged)


@dataclass
class FakeWork:
    """Notes its batches; each waits for its turn while `gated`. Raises at offset `broken`."""

    app: FakeApp
    most: int = 100
    broken: int = -1
    gated: bool = False
    ticking: bool = False
    broken_tick: bool = False
    begun: list[list[int]] = field(default_factory=list)
    acknowledged_before: list[list[int]] = field(default_factory=list)
    ticks: list[float] = field(default_factory=list)
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    @property
    def tick(self) -> Callable[[], Awaitable[None]] | None:
        return self._tick if self.ticking else None

    async def _tick(self) -> None:
        if self.broken_tick:
            raise ValueError("the clock is broken")
        self.ticks.append(asyncio.get_running_loop().time())

    def size(self, waiting: Iterable[Event]) -> int:
        return min(self.most, len(list(waiting)))

    async def work(self, batch: Sequence[Event]) -> None:
        offsets = [event.message.offset for event in batch]
        self.begun.append(offsets)
        self.acknowledged_before.append(list(self.app.acknowledged))
        if self.gated:
            await self.gate.acquire()
        await asyncio.sleep(0)
        if self.broken in offsets:
            raise ValueError("the model is broken")


class Line:
    """A lane with its fakes, fed from a queue as an agent would feed it."""

    def __init__(self, **work: Any) -> None:
        self.app = FakeApp()
        self.work = FakeWork(self.app, **work)
        self.failures: list[tuple[BaseException, Message | None]] = []
        self.lane = Lane(self.app, self.work, lambda error, message: self.failures.append((error, message)))
        self.queue: asyncio.Queue[Event] = asyncio.Queue()
        self.taken = 0
        self.feeding = asyncio.create_task(self.lane.feed(self._events()))
        self.lane.start()

    async def _events(self) -> AsyncIterator[Event]:
        while True:
            event = await self.queue.get()
            self.taken += 1
            yield event

    def put(self, *offsets: int, generation: int = 1) -> None:
        for offset in offsets:
            self.queue.put_nowait(self.app.event(offset, generation))

    async def stop(self) -> None:
        for task in (self.feeding, self.lane.task):
            assert task is not None
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def run(scene: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(asyncio.wait_for(scene(), 2 * PATIENCE))


async def until(condition: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "never met"
        await asyncio.sleep(0.001)


async def turns(count: int = 50) -> None:
    """Lets everything that can go on go on."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_batches_come_in_order_and_are_acknowledged_in_order_once_their_work_has_returned() -> None:
    async def scene() -> FakeWork:
        line = Line(most=3, gated=True)
        line.put(*range(8))
        for batches in (1, 2, 3):
            await until(lambda n=batches: len(line.work.begun) == n)  # type: ignore[misc]
            await turns()
            assert len(line.work.begun) == batches  # the next waits until this one has been acknowledged
            line.work.gate.release()
        await until(lambda: line.app.acknowledged == list(range(8)))
        await line.stop()
        return line.work

    work = run(scene)
    assert work.begun == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert work.acknowledged_before == [[], [0, 1, 2], [0, 1, 2, 3, 4, 5]]


def test_what_comes_while_a_batch_is_under_way_is_the_next_batch() -> None:
    async def scene() -> FakeWork:
        line = Line(gated=True)
        line.put(0)
        await until(lambda: line.work.begun == [[0]])  # one event is enough: nothing is waited for
        line.put(1, 2, 3, 4)
        await turns()
        line.work.gate.release()
        await until(lambda: len(line.work.begun) == 2)
        await line.stop()
        return line.work

    assert run(scene).begun == [[0], [1, 2, 3, 4]]


def test_work_that_raises_acknowledges_nothing_of_its_batch_nor_after_it() -> None:
    async def scene() -> Line:
        line = Line(most=2, broken=5)
        line.put(*range(20))
        await until(lambda: bool(line.failures))
        line.put(*range(20, 30))
        await turns()
        await line.stop()
        return line

    line = run(scene)
    assert line.work.begun == [[0, 1], [2, 3], [4, 5]]
    assert line.app.acknowledged == [0, 1, 2, 3]
    [(error, message)] = line.failures
    assert str(error) == "the model is broken"
    assert message is not None
    assert message.offset == 4


def test_a_tick_that_raises_is_a_failure_between_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "TICK_S", 0.01)

    async def scene() -> Line:
        line = Line(ticking=True, broken_tick=True)
        await until(lambda: bool(line.failures))
        await line.stop()
        return line

    [(error, message)] = run(scene).failures
    assert str(error) == "the clock is broken"
    assert message is None


def test_after_a_failure_settling_does_not_hang() -> None:
    async def scene() -> Line:
        line = Line(broken=0)
        line.put(0)
        await until(lambda: bool(line.failures))
        await asyncio.wait_for(line.lane.settle(), PATIENCE)
        await asyncio.wait_for(line.lane.close(), PATIENCE)
        await line.stop()
        return line

    assert run(scene).app.committed == [[], []]


def test_events_of_an_old_generation_are_neither_worked_nor_acknowledged() -> None:
    async def scene() -> Line:
        line = Line()
        line.app.consumer_generation_id = 2
        line.put(0, 1, generation=1)
        line.put(0, 1, 2, generation=2)
        await until(lambda: len(line.app.acknowledged) == 3)
        await line.stop()
        return line

    line = run(scene)
    assert [*chain(*line.work.begun)] == [0, 1, 2]
    assert line.app.acknowledged == [0, 1, 2]


def test_a_batch_that_a_rebalance_overtakes_is_not_acknowledged() -> None:
    async def scene() -> Line:
        line = Line(gated=True)
        line.put(0, 1)
        await until(lambda: bool(line.work.begun))
        line.app.consumer_generation_id = 2
        line.work.gate.release()
        await line.lane.settle()
        await line.stop()
        return line

    assert run(scene).app.acknowledged == []


def test_settling_gives_up_what_waits_and_finishes_and_commits_what_is_under_way() -> None:
    async def scene() -> Line:
        line = Line(most=2, gated=True)
        line.put(*range(6))
        await until(lambda: bool(line.work.begun))
        settling = asyncio.create_task(line.lane.settle())
        await turns()
        assert not settling.done()
        line.work.gate.release()
        await settling
        await turns()
        await line.stop()
        return line

    line = run(scene)
    assert line.work.begun == [[0, 1]]
    assert line.app.committed == [[0, 1]]


def test_a_settled_lane_begins_nothing_until_it_is_resumed() -> None:
    async def scene() -> Line:
        line = Line()
        line.put(0)
        await until(lambda: line.app.acknowledged == [0])
        await line.lane.settle()
        line.put(1)
        await until(lambda: line.taken == 2)
        await turns()
        assert [*chain(*line.work.begun)] == [0]
        line.lane.resume()
        await until(lambda: line.app.acknowledged == [0, 1])
        await line.stop()
        return line

    assert run(scene).app.committed == [[0]]


def test_a_closed_lane_takes_nothing_more() -> None:
    async def scene() -> Line:
        line = Line()
        await line.lane.close()
        line.put(0)
        await until(lambda: line.taken == 1)
        await turns()
        await line.stop()
        return line

    line = run(scene)
    assert line.work.begun == []
    assert list(line.lane.waiting) == []


def test_a_full_lane_takes_no_more_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "CAPACITY", 4)

    async def scene() -> Line:
        line = Line(most=2, gated=True)
        line.put(*range(50))
        await until(lambda: bool(line.work.begun))
        await turns()
        assert len(line.lane.waiting) <= 4
        assert line.taken <= 4 + 2
        for _ in range(25):
            line.work.gate.release()
            await turns()
            assert len(line.lane.waiting) <= 4
        await until(lambda: len(line.app.acknowledged) == 50)
        await line.stop()
        return line

    assert run(scene).app.acknowledged == list(range(50))


def test_settling_a_full_lane_lets_its_feeder_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "CAPACITY", 2)

    async def scene() -> Line:
        line = Line(most=1, gated=True)
        line.put(*range(9))
        await until(lambda: len(line.lane.waiting) == 2)
        line.app.consumer_generation_id = 2
        line.work.gate.release()
        await line.lane.settle()
        line.work.gated = False
        line.lane.resume()
        line.put(0, 1, generation=2)
        await until(lambda: line.app.acknowledged == [0, 1])
        await line.stop()
        return line

    assert [*chain(*run(scene).work.begun)] == [0, 0, 1]


@pytest.mark.parametrize("loaded", [False, True], ids=["idle", "loaded"])
def test_ticks_come_at_their_pace_whether_anything_arrives_or_not(monkeypatch: pytest.MonkeyPatch, loaded: bool) -> None:
    monkeypatch.setattr(delivery, "TICK_S", 0.05)

    async def scene() -> list[float]:
        line, sent = Line(ticking=True, most=1), 0
        while len(line.work.ticks) < 5:
            if loaded and line.taken == sent:
                line.put(*range(sent, sent + 50))  # 50 batches: something always waits
                sent += 50
            await asyncio.sleep(0)
        assert bool(line.app.acknowledged) == loaded
        await line.stop()
        return line.work.ticks

    ticks = run(scene)
    gaps = [later - earlier for earlier, later in pairwise(ticks)]
    assert min(gaps) >= 0.05
    assert sorted(gaps)[len(gaps) // 2] < 0.1


RECORD = Record("calls.segments", 5, 7, 0, b"key", b"value", (("trace", b"\xff"), ("nothing", None)))
PLACE = (("callpulse-topic", b"calls.segments"), ("callpulse-partition", b"5"), ("callpulse-offset", b"7"))


def test_a_rejected_record_is_kept_as_it_was_with_where_and_why() -> None:
    kept = rejected_record("calls.rejected", 4, RECORD, Rejected("not_json", "detail"), "score")
    why = (("callpulse-stage", b"score"), ("callpulse-reason", b"not_json"), ("callpulse-detail", b"detail"))
    assert kept == Outgoing("calls.rejected", 1, b"key", b"value", (*RECORD.headers, *PLACE, *why))


@pytest.mark.parametrize("large", ["key", "value", "headers"])
def test_of_a_rejected_record_that_no_topic_takes_only_where_and_why_are_kept(large: str) -> None:
    much = b"x" * 1_000_000
    record = replace(RECORD, **{large: (("much", much),) if large == "headers" else much})  # type: ignore[arg-type]
    kept = rejected_record("calls.rejected", 1, record, Rejected("too_large", "detail"), "score")
    assert (kept.partition, kept.key, kept.value) == (0, None, None)
    assert kept.headers[:3] == PLACE
    assert len(kept.headers) == 6
