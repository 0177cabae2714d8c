"""What only a real Kafka brings: records too large for any topic, times ahead, transactions, a broker that dies."""

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from streams import topics
from streams.settings import Settings

from .apache import apache_kafka
from .conftest import Cluster
from .messages import Sent, call, now_ms
from .running import Topics, header, laid_out, own, running, side_by_side

DAY_MS = 86_400_000


def too_large(cluster: Cluster) -> Topics:
    """A record of almost what a broker takes, without our headers; a compressed one that holds more; a good call."""
    with laid_out(own(cluster), segments=1) as laid, running(laid.settings):
        asyncio.run(send_one(laid.settings, b"x" * 1_048_400, compression=None))
        asyncio.run(send_one(laid.settings, b"x" * 5_000_000, compression="gzip"))
        laid.send(call("behind", range(3), now_ms() - 60_000))
        laid.calls_over(1)
        laid.read_to_the_end()
        return laid


async def send_one(settings: Settings, value: bytes, compression: str | None) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers, compression_type=compression, max_request_size=10_000_000
    )
    await producer.start()
    try:
        await producer.send_and_wait(settings.topic("segments"), value, b"key", headers=[("trace", b"1")])
    finally:
        await producer.stop()


def ahead(cluster: Cluster) -> Topics:
    """A call from tomorrow, which calls.segments takes and calls.sentiment would not."""
    with laid_out(own(cluster), segments=1) as laid, running(laid.settings):
        far = {"message.timestamp.after.max.ms": str(9 * DAY_MS)}
        with topics.admin(laid.settings) as client:
            client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, laid.settings.topic("segments"), far)])
        laid.send(call("ahead", range(3), now_ms() + DAY_MS))
        laid.calls_over(1)
        laid.read_to_the_end()
        return laid


def paid(cluster: Cluster) -> Topics:
    """A transaction a message, so that the end of one is the last thing in the partition."""
    with laid_out(own(cluster)) as laid, running(laid.settings):
        asyncio.run(send_in_transactions(laid.settings, call("paid", range(5), now_ms() - 60_000)))
        laid.calls_over(1)
        laid.read_to_the_end()
        return laid


async def send_in_transactions(settings: Settings, messages: list[Sent]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers, transactional_id=settings.group)
    await producer.start()
    try:
        for key, value, at in messages:
            async with producer.transaction():
                await producer.send(settings.topic("segments"), value, key, timestamp_ms=at)
    finally:
        await producer.stop()


def outlived(_: Cluster) -> Topics:
    """A broker of its own that is killed amid a call, and comes back. Nobody else calls it meanwhile: kafka-python would
    leave sockets behind."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node = stack.enter_context(apache_kafka(Path(os.environ["KAFKA_HOME"]), folder))
        settings = own(Cluster(node.bootstrap, "kafka"))
        with laid_out(settings) as laid:
            worker = stack.enter_context(running(settings))
            laid.send([*call("before", range(20), now_ms() - 300_000), *call("amid", range(10), now_ms() - 300_000, end=False)])
            laid.until(lambda records: len(records["sentiment"]) > 5, "some are scored")
        node.kill()
        node.start()
        with laid_out(settings) as laid:
            laid.send(call("amid", range(10, 20), now_ms() - 300_000))
            laid.calls_over(2)
            laid.read_to_the_end()
        assert worker.process.poll() is None
        return laid


Play = Callable[[Cluster], Topics]


@pytest.fixture(scope="module")
def left(cluster: Cluster) -> Iterator[Callable[[Play], Topics]]:
    if cluster.profile == "embedded":
        pytest.skip("the embedded broker has none of this")
    with side_by_side((too_large, ahead, paid, outlived), cluster) as played:
        yield played


def test_of_a_record_too_large_for_any_topic_the_place_is_rejected_and_the_stream_goes_on(
    left: Callable[[Play], Topics],
) -> None:
    first, second = left(too_large).records["rejected"]
    for offset, record in enumerate((first, second)):
        assert (record.key, record.value, len(record.headers)) == (None, None, 6)
        assert header(record, "callpulse-offset") == b"%d" % offset
        assert header(record, "callpulse-reason") == b"too_large"
    assert header(second, "callpulse-detail").startswith(b"5000000 bytes")
    assert len(left(too_large).records["sentiment"]) == 4


def test_records_may_be_further_ahead_of_the_clock_than_the_outputs_take(left: Callable[[Play], Topics]) -> None:
    records = left(ahead).records
    [scored] = [partition for partition in left(ahead).scored if partition]
    assert [s.source.timestamp for s in scored] == [record.timestamp for record in records["segments"]]
    assert all(
        record.timestamp < segment.timestamp for record, segment in zip(records["sentiment"], records["segments"], strict=True)
    )


def test_a_call_that_was_sent_in_transactions_ends_though_nothing_else_arrives(left: Callable[[Play], Topics]) -> None:
    laid = left(paid)
    assert len(laid.records["segments"]) == 6
    assert max(record.offset for record in laid.records["segments"]) == 10
    assert laid.events("summaries") == laid.expected().summaries


def test_a_worker_outlives_its_broker_s_death_and_loses_nothing(left: Callable[[Play], Topics]) -> None:
    laid, expected = left(outlived), left(outlived).expected()
    assert sum(map(len, laid.scored)) == 42
    assert (laid.events("alerts"), laid.events("summaries")) == (expected.alerts, expected.summaries)
    assert laid.states() == expected.states
