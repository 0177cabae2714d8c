"""What the publisher promises: everything is there when it returns, in order; what is not taken is an error."""

import asyncio
from collections.abc import Sequence

import pytest

from streams import topics
from streams.delivery import Outgoing, Publisher
from streams.errors import DeliveryError
from streams.records import Record
from streams.settings import Settings

from .conftest import Cluster
from .messages import now_ms
from .running import laid_out, own

EVERY = 100  # the records of a batch
AT = now_ms() - 60_000


async def publish(settings: Settings, *batches: Sequence[Outgoing]) -> None:
    publisher = Publisher(settings)
    await publisher.start()
    try:
        for batch in batches:
            await publisher.publish(batch)
    finally:
        await publisher.stop()


def numbered(topic: str, begin: int, size: int = 1) -> list[Outgoing]:
    """Records for two partitions in turn; every tenth is a tombstone."""
    return [
        Outgoing(topic, n % 2, b"%d" % n, None if n % 10 == 5 else b"x" * size, (("n", b"%d" % n), ("null", None)), AT + n)
        for n in range(begin, begin + EVERY)
    ]


@pytest.mark.parametrize("size", [1, 9_000], ids=["small", "more than fits into one batch"])
def test_records_are_there_in_order_with_all_that_they_carry(cluster: Cluster, size: int) -> None:
    with laid_out(own(cluster)) as laid:
        topic = laid.settings.topic("sentiment")
        sent = [*numbered(topic, 0, size), *numbered(topic, EVERY, size)]
        asyncio.run(publish(laid.settings, sent[:EVERY], sent[EVERY:]))
        found = list(topics.tail(laid.settings, topic, follow=False))
    for partition in (0, 1):
        got = [record for record in found if record.partition == partition]
        assert [carried(record) for record in got] == [carried(record) for record in sent if record.partition == partition]
        assert [record.offset for record in got] == list(range(EVERY))
    assert len(found) == 2 * EVERY


def carried(record: Record | Outgoing) -> tuple[object, ...]:
    """A null header may come back as an empty one: the embedded broker has none."""
    headers = tuple((name, value or b"") for name, value in record.headers)
    return record.topic, record.key, record.value, headers, record.timestamp


def test_a_record_without_a_timestamp_gets_the_time_of_sending(cluster: Cluster) -> None:
    with laid_out(own(cluster)) as laid:
        topic = laid.settings.topic("alerts")
        asyncio.run(publish(laid.settings, [Outgoing(topic, 3, b"key", b"value")]))
        [record] = topics.tail(laid.settings, topic, follow=False)
    assert record.partition == 3
    assert AT + 60_000 <= record.timestamp <= now_ms()


def test_a_record_that_the_broker_does_not_take_is_an_error_that_names_the_topic(cluster: Cluster) -> None:
    if cluster.profile == "embedded":
        pytest.skip("the embedded broker takes any size")
    with laid_out(own(cluster)) as laid:
        topic = laid.settings.topic("alerts")
        with pytest.raises(DeliveryError, match=f"not delivered to {topic}: MessageSizeTooLargeError"):
            asyncio.run(publish(laid.settings, [Outgoing(topic, 0, b"key", b"x" * 2_000_000)]))
