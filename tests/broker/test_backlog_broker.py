"""What the broker says is left to do: where a group begins, how much lies behind, what retention has deleted unread."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import kafka
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from streams import backlog, topics
from streams.backlog import Backlog, Begin
from streams.mended import mend
from streams.settings import Settings

from .apache import free_ports
from .conftest import Cluster
from .running import Topics, laid_out, own

T = TypeVar("T")


@pytest.fixture
def laid(cluster: Cluster) -> Iterator[Topics]:
    with laid_out(own(cluster)) as laid:
        yield laid


@pytest.fixture
def apache(laid: Topics) -> Topics:
    if laid.settings.broker == "embedded":
        pytest.skip("the embedded broker deletes nothing and has no transactions")
    return laid


def asked(settings: Settings, question: Callable[[Backlog], Awaitable[T]]) -> T:
    async def answer() -> T:
        asking = Backlog(settings, "score")
        try:
            return await question(asking)
        finally:
            await asking.stop()

    return asyncio.run(answer())


def place(laid: Topics, partition: int) -> TopicPartition:
    return TopicPartition(laid.settings.topic("segments"), partition)


def put(laid: Topics, **counts: int) -> None:
    """So many records into partitions p0, p1, ..."""
    for name, count in counts.items():
        for _ in range(count):
            laid.producer.send(laid.settings.topic("segments"), b"{}", partition=int(name[1:]))
    laid.producer.flush()


def commit(laid: Topics, **offsets: int) -> None:
    """As the scorer's group."""
    group = topics.consumer(laid.settings, f"{laid.settings.group}-score")
    try:
        at = {kafka.TopicPartition(*place(laid, int(name[1:]))): offset for name, offset in offsets.items()}
        group.commit({place: OffsetAndMetadata(offset, "", -1) for place, offset in at.items()})
    finally:
        group.close()


def delete(laid: Topics, partition: int, before: int) -> None:
    """As retention would: a partition begins at that offset then."""
    with topics.admin(laid.settings) as client:
        client.delete_records({kafka.TopicPartition(*place(laid, partition)): before})


async def in_transactions(settings: Settings, topic: str, values: list[bytes]) -> None:
    """A transaction a record: the end of each takes an offset."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers, transactional_id=settings.group)
    await producer.start()
    try:
        for value in values:
            async with producer.transaction():
                await producer.send(topic, value, partition=0)
    finally:
        await producer.stop()


def begins(laid: Topics, *partitions: int) -> list[Begin]:
    places = [place(laid, partition) for partition in partitions]
    found = asked(laid.settings, lambda b: b.begins(places))
    return [found[place] for place in places]


def lags(laid: Topics, **reached: int) -> list[int]:
    """What lies behind these offsets of partitions p0, p1, ..."""
    given = {place(laid, int(name[1:])): offset for name, offset in reached.items()}
    return [*asked(laid.settings, lambda b: b.lags(given)).values()]


def done(laid: Topics, partition: int, reached: int | None) -> bool:
    return asked(laid.settings, lambda b: b.done(place(laid, partition), reached))


def test_a_group_begins_where_it_has_committed_and_else_where_the_partition_does(laid: Topics) -> None:
    put(laid, p0=5, p1=5)
    commit(laid, p0=3)
    assert begins(laid, 0, 1, 2) == [Begin(3, 0), Begin(0, 0), Begin(0, 0)]
    assert begins(laid) == []


def test_what_was_deleted_unread_is_lost_to_a_group_that_had_begun_and_to_no_other(apache: Topics) -> None:
    put(apache, p0=10, p1=10, p2=10)
    commit(apache, p0=3, p2=8)
    for partition in range(3):
        delete(apache, partition, before=7)
    assert begins(apache, 0, 1, 2) == [Begin(7, 4), Begin(7, 0), Begin(8, 0)]


def test_lag_counts_what_lies_at_or_behind_an_offset(laid: Topics) -> None:
    put(laid, p0=7, p1=1)
    assert lags(laid, p0=4, p1=1, p2=0) == [3, 0, 0]
    assert lags(laid, p0=9, p1=0) == [0, 1]
    assert lags(laid) == []


def test_the_ends_of_transactions_alone_are_no_lag(apache: Topics) -> None:
    asyncio.run(in_transactions(apache.settings, apache.settings.topic("segments"), [b"{}"] * 3))  # record, end, record, ...
    assert lags(apache, p0=5) == [0]
    assert lags(apache, p0=4) == [2]
    put(apache, p0=1)
    assert lags(apache, p0=5) == [2]


def test_only_what_was_deleted_of_the_offsets_that_were_jumped_over_is_lost(apache: Topics) -> None:
    asyncio.run(in_transactions(apache.settings, apache.settings.topic("segments"), [b"{}"] * 5))
    put(apache, p1=10, p2=10)
    delete(apache, 1, before=6)
    delete(apache, 2, before=9)
    jumps = [(0, 1, 2), (0, 3, 4), (1, 2, 6), (2, 1, 3), (2, 5, 9)]  # partition, expected, found
    given = [(place(apache, partition), expected, found) for partition, expected, found in jumps]
    assert asked(apache.settings, lambda b: b.deleted(given)) == {place(apache, 1): 4, place(apache, 2): 6}
    assert asked(apache.settings, lambda b: b.deleted([])) == {}


def test_done_is_a_partition_behind_which_nothing_lies(laid: Topics) -> None:
    put(laid, p0=5)
    assert [done(laid, 0, reached) for reached in (4, 5)] == [False, True]
    assert [done(laid, partition, None) for partition in (0, 1)] == [False, True]  # nothing is committed
    commit(laid, p0=4)
    assert not done(laid, 0, None)
    commit(laid, p0=5)
    assert done(laid, 0, None)


def test_one_that_asks_again_sees_what_has_come_since(laid: Topics) -> None:
    async def twice(backlog: Backlog) -> list[bool]:
        answers = []
        for committed in (2, 4):
            await asyncio.to_thread(put, laid, p0=2)
            answers.append(await backlog.done(place(laid, 0), None))
            await asyncio.to_thread(commit, laid, p0=committed)
            answers.append(await backlog.done(place(laid, 0), None))
        return answers

    assert asked(laid.settings, twice) == [False, True, False, True]


@contextmanager
def closed() -> Iterator[int]:
    yield free_ports(1)[0]


@contextmanager
def silent() -> Iterator[int]:
    """A port on which somebody listens and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("away", [closed, silent])
def test_when_no_broker_answers_nothing_is_done_and_that_is_known_in_seconds(
    away: Callable[[], AbstractContextManager[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "ANSWER_S", 1.0)
    somewhere, began = TopicPartition("calls.segments", 0), time.monotonic()
    with away() as port:
        settings = Settings(f"127.0.0.1:{port}")
        assert not asked(settings, lambda b: b.done(somewhere, None))
        assert not asked(settings, lambda b: b.done(somewhere, 0))
        with pytest.raises((KafkaError, asyncio.TimeoutError, TimeoutError)):
            asked(settings, lambda b: b.begins([somewhere]))
    assert time.monotonic() - began < 10


def test_records_between_two_offsets_are_told_from_ends_of_transactions_and_from_deleted_ones(apache: Topics) -> None:
    asyncio.run(in_transactions(apache.settings, apache.settings.topic("segments"), [b"{}"] * 3))  # record, end, record, ...
    put(apache, p1=10)
    delete(apache, 1, before=6)
    gaps = [(0, 1, 2), (0, 0, 2), (0, 2, 4), (1, 2, 6), (1, 2, 7), (1, 6, 9)]  # partition, expected, found
    answers = [
        asked(apache.settings, lambda b, gap=gap: b.between(place(apache, gap[0]), *gap[1:]))  # type: ignore[misc]
        for gap in gaps
    ]
    assert answers == [False, True, True, False, True, True]


def test_a_consumer_seeks_back_to_what_is_committed_also_where_that_is_nothing(laid: Topics) -> None:
    async def positions() -> list[int]:
        name = laid.settings.topic("segments")
        consumer = AIOKafkaConsumer(bootstrap_servers=laid.settings.bootstrap_servers, group_id=laid.settings.group)
        await consumer.start()
        try:
            consumer.assign([TopicPartition(name, 0)])
            found = []
            for committed in (0, 3):
                await consumer.commit({TopicPartition(name, 0): committed})
                consumer.seek(TopicPartition(name, 0), 5)
                await consumer.seek_to_committed()
                found.append(await consumer.position(TopicPartition(name, 0)))
            return found
        finally:
            await consumer.stop()

    put(laid, p0=5)
    mend()
    assert asyncio.run(positions()) == [0, 3]
