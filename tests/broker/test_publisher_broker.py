"""What the publishers promise: everything is there when they return, in order; what is not taken is an error. In one
transaction: all of it or nothing, and nobody else's under the same id."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from aiokafka.errors import KafkaError

from streams import publisher, topics
from streams.errors import DeliveryError, FencedError
from streams.publisher import GONE, Outgoing, Publisher, Transactions
from streams.records import Record
from streams.settings import Settings

from .apache import Node, apache_kafka
from .conftest import Cluster
from .messages import now_ms
from .running import Topics, environment, laid_out, own

EVERY = 100  # the records of a step
AT = now_ms() - 60_000
OUTAGE_S = 15.0
T = TypeVar("T", bound=Publisher)
Make = Callable[[Settings], Publisher]


def one_by_one(settings: Settings) -> Publisher:
    return Publisher(settings)


def in_a_transaction(settings: Settings) -> Transactions:
    return Transactions(settings, settings.group)


@pytest.fixture(params=[one_by_one, in_a_transaction])
def make(request: pytest.FixtureRequest, cluster: Cluster) -> Make:
    made: Make = request.param
    if made is in_a_transaction and cluster.profile == "embedded":
        pytest.skip("the embedded broker has no transactions")
    return made


@pytest.fixture
def laid(cluster: Cluster) -> Iterator[Topics]:
    with laid_out(own(cluster)) as laid:
        yield laid


@pytest.fixture
def kafka(laid: Topics) -> Topics:
    if laid.settings.broker == "embedded":
        pytest.skip("the embedded broker has no transactions")
    return laid


@asynccontextmanager
async def using(made: T) -> AsyncIterator[T]:
    """A publisher that is started, and stopped at the end."""
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def publish(make: Make, settings: Settings, *calls: Iterable[Iterable[Outgoing]]) -> None:
    async with using(make(settings)) as made:
        for steps in calls:
            await made.publish(*steps)


def numbered(topic: str, begin: int, size: int = 1) -> list[Outgoing]:
    """Records for two partitions in turn; every tenth is a tombstone."""
    return [
        Outgoing(topic, n % 2, b"%d" % n, None if n % 10 == 5 else b"x" * size, (("n", b"%d" % n), ("null", None)), AT + n)
        for n in range(begin, begin + EVERY)
    ]


def one(settings: Settings, name: str, value: bytes, partition: int = 0) -> Outgoing:
    return Outgoing(settings.topic(name), partition, b"key", value)


def committed(settings: Settings, *names: str) -> list[bytes | None]:
    """What readers of committed records find in these topics."""
    return [record.value for name in names for record in topics.tail(settings, settings.topic(name), follow=False)]


@pytest.mark.parametrize("size", [1, 9_000], ids=["small", "more than fits into one batch"])
def test_records_are_there_in_order_with_all_that_they_carry(laid: Topics, make: Make, size: int) -> None:
    topic, settings = laid.settings.topic("sentiment"), laid.settings
    sent = [record for begin in (0, EVERY, 2 * EVERY) for record in numbered(topic, begin, size)]
    asyncio.run(publish(make, settings, [sent[:EVERY]], [sent[EVERY : 2 * EVERY], [], sent[2 * EVERY :]]))
    found = list(topics.tail(settings, topic, follow=False))
    for partition in (0, 1):
        got = [record for record in found if record.partition == partition]
        assert [carried(record) for record in got] == [carried(record) for record in sent if record.partition == partition]
    assert len(found) == 3 * EVERY


def carried(record: Record | Outgoing) -> tuple[object, ...]:
    """A null header may come back as an empty one: the embedded broker has none."""
    headers = tuple((name, value or b"") for name, value in record.headers)
    return record.topic, record.key, record.value, headers, record.timestamp


def test_a_record_without_a_timestamp_gets_the_time_of_sending(laid: Topics, make: Make) -> None:
    settings = laid.settings
    asyncio.run(publish(make, settings, [[one(settings, "alerts", b"value", partition=3)]]))
    [record] = topics.tail(settings, settings.topic("alerts"), follow=False)
    assert record.partition == 3
    assert AT + 60_000 <= record.timestamp <= now_ms()


def test_a_record_that_the_broker_does_not_take_is_an_error_that_names_the_topic_and_nothing_comes_after_it(
    laid: Topics, make: Make
) -> None:
    settings = laid.settings
    if settings.broker == "embedded":
        pytest.skip("the embedded broker takes any size")
    steps = (
        [one(settings, "alerts", b"fine")],
        [one(settings, "summaries", b"x" * 2_000_000)],
        [one(settings, "state", b"late")],
    )
    with pytest.raises(DeliveryError, match=f"not delivered to .*{settings.topic('summaries')}: MessageSizeTooLarge") as caught:
        asyncio.run(publish(make, settings, steps))
    assert not isinstance(caught.value, FencedError)
    assert committed(settings, "summaries", "state") == []
    assert committed(settings, "alerts") == ([b"fine"] if make is one_by_one else [])


def test_who_takes_an_id_over_fences_its_former_owner(kafka: Topics) -> None:
    settings = kafka.settings

    async def taken_over() -> None:
        async with using(in_a_transaction(settings)) as first:
            await first.publish([one(settings, "alerts", b"first")])
            async with using(in_a_transaction(settings)) as second:
                with pytest.raises(FencedError):
                    await first.publish([one(settings, "alerts", b"late")])
                await second.publish([one(settings, "alerts", b"second")])

    asyncio.run(taken_over())
    assert committed(settings, "alerts") == [b"first", b"second"]


def test_nothing_is_seen_of_a_transaction_that_was_open_when_the_id_was_taken_over(kafka: Topics) -> None:
    settings = kafka.settings

    async def taken_over() -> BaseException | None:
        async with using(in_a_transaction(settings)) as first:
            await first._producer.begin_transaction()
            await first._deliver([one(settings, "alerts", b"open"), one(settings, "state", b"open")])
            async with using(in_a_transaction(settings)) as second:
                with pytest.raises(KafkaError) as caught:
                    await first._producer.commit_transaction()
                await second.publish([one(settings, "alerts", b"second")], [one(settings, "state", b"second")])
            return caught.value

    assert isinstance(asyncio.run(taken_over()), GONE)
    assert committed(settings, "alerts", "state") == [b"second", b"second"]


def test_ids_of_other_partitions_do_not_fence_each_other(kafka: Topics) -> None:
    settings = kafka.settings

    async def side_by_side() -> None:
        ids = (f"{settings.group}-{partition}" for partition in range(2))
        first, second = (Transactions(settings, name) for name in ids)
        async with using(first), using(second):
            await asyncio.gather(*(p.publish([one(settings, "alerts", b"fine")]) for p in (first, second)))

    asyncio.run(side_by_side())
    assert committed(settings, "alerts") == [b"fine", b"fine"]


DYING = """
import asyncio, os, sys
from streams.publisher import Outgoing, Transactions
from streams.settings import from_mapping

async def die(settings):
    publisher = Transactions(settings, settings.group)
    await publisher.start()
    await publisher.publish([Outgoing(settings.topic(n), 0, b"key", b"before") for n in ("alerts", "state")])
    await publisher._producer.begin_transaction()
    for name in ("alerts", "state"):
        await publisher._deliver([Outgoing(settings.topic(name), 0, b"key", b"amid")])
    print("delivered", flush=True)
    await asyncio.sleep(60)

asyncio.run(die(from_mapping({}, os.environ)))
"""


def test_of_a_process_that_dies_in_a_transaction_readers_see_nothing_until_the_next_owner_writes(kafka: Topics) -> None:
    settings = kafka.settings
    command = [sys.executable, "-c", DYING]
    with subprocess.Popen(command, env=environment(settings), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "delivered\n"
        process.send_signal(signal.SIGKILL)
    assert committed(settings, "alerts", "state") == [b"before", b"before"]
    asyncio.run(publish(in_a_transaction, settings, [[one(settings, name, b"after")] for name in ("alerts", "state")]))
    assert committed(settings, "alerts", "state") == [b"before", b"after", b"before", b"after"]


CLEANING = "transaction.abort.timed.out.transaction.cleanup.interval.ms=500\n"


@pytest.fixture(scope="module")
def own_node(kafka_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with apache_kafka(kafka_home, tmp_path_factory.mktemp("kafka"), CLEANING) as node:
        yield node


@pytest.fixture
def there(own_node: Node) -> Settings:
    """Nobody else calls the broker while it is away: kafka-python would leave sockets behind."""
    with laid_out(own(Cluster(own_node.bootstrap, "kafka"))) as laid:
        return laid.settings


def test_a_broker_that_is_away_is_waited_for_and_everything_is_published_once(own_node: Node, there: Settings) -> None:
    async def outlives() -> None:
        publishers = {"alerts": one_by_one(there), "state": in_a_transaction(there)}
        steps = {name: [[one(there, name, b"%d" % n)] for n in range(9)] for name in publishers}
        async with using(publishers["alerts"]), using(publishers["state"]):
            await asyncio.gather(*(p.publish(steps[name][0]) for name, p in publishers.items()))
            await asyncio.to_thread(own_node.stop)
            under_way = [asyncio.create_task(p.publish(*steps[name][1:])) for name, p in publishers.items()]
            await asyncio.wait(under_way, timeout=OUTAGE_S, return_when=asyncio.FIRST_COMPLETED)
            assert not any(task.done() for task in under_way)
            await asyncio.to_thread(own_node.start)
            await asyncio.gather(*under_way)

    asyncio.run(outlives())
    for name in ("alerts", "state"):
        assert committed(there, name) == [b"%d" % n for n in range(9)]


def test_a_transaction_that_the_broker_has_given_up_is_refused_and_nothing_of_it_is_there(
    there: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "TRANSACTION_S", 1.0)

    async def takes_too_long() -> BaseException | None:
        async with using(in_a_transaction(there)) as slow:
            await slow._producer.begin_transaction()
            await slow._deliver([one(there, "alerts", b"too late")])
            await asyncio.sleep(3)
            with pytest.raises(KafkaError) as caught:
                await slow._producer.commit_transaction()
            return caught.value

    assert isinstance(asyncio.run(takes_too_long()), GONE)
    assert committed(there, "alerts") == []
