"""What is ours of Faust's transport, on a consumer whose broker is a list; the rest of it runs in tests/broker."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from faust.transport.conductor import ConductorCompiler
from faust.types import TP
from mode.utils.queues import FlowControlEvent, ThrowableQueue

from streams.fetched import Consumer, Fetch

Polled = dict[TP, list[ConsumerRecord]]


def record(offset: int, partition: int = 0) -> ConsumerRecord:
    return ConsumerRecord("calls.segments", partition, offset, 1_000, 0, b"c", b"{}", None, 1, 2, ())


class Listed(Consumer):
    """Polls give these, one after the other; `polled_at` has their times."""

    flow_active, should_stop = True, False

    def __init__(self, polls: Sequence[Polled], active: set[TP] | None = None, pace_s: float = 0.0) -> None:
        self.polls, self.active, self.polled_at = iter(polls), active, list[float]()
        self.app, self.transport = SimpleNamespace(consumer_generation_id=3), SimpleNamespace(pace_s=pace_s)

    async def _wait_next_records(self, timeout: float) -> tuple[Polled, set[TP] | None]:
        self.polled_at.append(asyncio.get_running_loop().time())
        return next(self.polls), self.active


def got(consumer: Listed, polls: int = 1, meanwhile: Any = lambda: None) -> list[tuple[TP, list[int], int | None]]:
    async def scene() -> Iterator[tuple[TP, Fetch]]:
        found = []
        for _ in range(polls):
            async for pair in consumer.getmany(1.0):
                found.append(pair)
                meanwhile()
        return iter(found)

    return [(tp, [r.offset for r in fetch.records], fetch.generation_id) for tp, fetch in asyncio.run(scene())]


A, B = TP("calls.segments", 0), TP("calls.segments", 1)


def test_a_poll_gives_a_message_a_partition_with_all_its_records() -> None:
    consumer = Listed([{A: [record(4), record(6)], B: [record(0, 1)]}])
    assert got(consumer) == [(A, [4, 6], 3), (B, [0], 3)]
    fetch = Fetch(A, [record(4), record(6)], 3)
    assert (fetch.topic, fetch.partition, fetch.offset, fetch.tp, fetch.value) == ("calls.segments", 0, 6, A, b"")


def test_partitions_that_are_paused_are_left_out() -> None:
    assert got(Listed([{A: [record(4)], B: [record(0, 1)]}], active={B})) == [(B, [0], 3)]
    assert got(Listed([{}])) == []


def test_what_is_left_of_a_poll_is_given_up_when_the_group_has_moved_on() -> None:
    consumer = Listed([{A: [record(4)], B: [record(0, 1)]}])
    moved = lambda: setattr(consumer.app, "consumer_generation_id", 4)  # noqa: E731
    assert got(consumer, meanwhile=moved) == [(A, [4], 3)]
    consumer = Listed([{A: [record(4)], B: [record(0, 1)]}])
    assert got(consumer, meanwhile=lambda: setattr(consumer, "flow_active", False)) == [(A, [4], 3)]


@pytest.mark.parametrize("broken", [False, True])
def test_what_was_fetched_amid_a_rebalance_comes_again(broken: bool, caplog: pytest.LogCaptureFixture) -> None:
    consumer, sought = Listed([{A: [record(4)]}]), []

    async def perform_seek() -> None:
        sought.append(True)
        if broken:
            raise ConnectionError("the broker is away")

    consumer.flow_active, consumer.log, consumer.perform_seek = False, logging.getLogger(), perform_seek
    assert got(consumer) == []
    assert sought == [True]
    assert ("the broker is away" in caplog.text) == broken


def test_it_polls_at_its_pace_once_it_has_found_something() -> None:
    consumer = Listed([{}, {A: [record(4)]}, {A: [record(5)]}], pace_s=0.2)
    assert len(got(consumer, polls=3)) == 2
    first, second, third = consumer.polled_at
    assert second - first < 0.2 <= third - second + 0.001


class Endless(Consumer):
    """Every poll has a record of each partition that is asked for."""

    flow_active, should_stop = True, False

    def __init__(self, app: Any, partitions: Sequence[TP]) -> None:
        self.app, self.transport = app, SimpleNamespace(pace_s=0.0)
        self._active_partitions, self._buffered_partitions = set(partitions), set()
        self.not_waiting_next_records, self.polls = asyncio.Event(), 0

    async def sleep(self, _seconds: float) -> None:
        raise AssertionError("no partition is left to poll")

    async def _getmany(self, active_partitions: set[TP], timeout: float) -> Polled:
        await asyncio.sleep(0)
        self.polls += 1
        return {tp: [record(self.polls, tp.partition)] for tp in sorted(active_partitions)}


class Topic:
    """One that an agent reads, as Faust's conductor sees it."""

    key_type = value_type = bytes

    def __init__(self, flow: FlowControlEvent) -> None:
        self.queue: ThrowableQueue[Fetch] = ThrowableQueue(maxsize=4, flow_control=flow)
        self.put = self.queue.put

    async def decode(self, message: Fetch, propagate: bool = False) -> Fetch:
        return message


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_an_agent_that_is_behind_is_given_of_all_partitions_alike(count: int) -> None:
    partitions = [TP("calls.segments", number) for number in range(count)]
    taken: Counter[int] = Counter()

    async def scene() -> None:
        flow = FlowControlEvent()
        flow.resume()
        app = SimpleNamespace(
            sensors=SimpleNamespace(on_topic_buffer_full=lambda tp: None),
            producer=SimpleNamespace(buffer=SimpleNamespace(wait_until_ebb=lambda: asyncio.sleep(0))),
            flow_control=flow,
            in_recovery=False,
            client_only=False,
            consumer_generation_id=3,
        )
        app.consumer, topic = Endless(app, partitions), Topic(flow)
        hand = {tp: ConductorCompiler().build(SimpleNamespace(app=app), tp, {topic}) for tp in partitions}

        async def drained() -> None:
            while True:
                async for tp, fetch in app.consumer.getmany(1.0):
                    await hand[tp](fetch)

        draining = asyncio.create_task(drained())
        while taken.total() < 20 * count and not draining.done():
            await asyncio.sleep(0)
            if topic.queue.full():
                taken[topic.queue.get_nowait().partition] += 1
        if draining.done():
            await draining
        draining.cancel()

    asyncio.run(scene())
    assert taken == dict.fromkeys(range(count), 20)
