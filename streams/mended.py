"""Two things of the libraries' that are mended in place, for as long as they need it (aiokafka 0.14, faust-streaming 0.15).

aiokafka's `seek_to_committed` does not seek where 0 is committed (`if offset and offset > 0`). Faust relies on it to read
again what it has thrown away at a rebalance: a group's first records would never be read.

Faust makes four tasks a message, to hand it to an agent that nearly always has room for it: half of what its event loop did.
Here they are made only where the agent has none. What becomes of a message is the same.
"""

import asyncio
import functools
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.transport.drivers.aiokafka import Consumer
from mode.services import WaitResults

T = TypeVar("T")


async def seek_to_committed(consumer: Any, *partitions: TopicPartition) -> dict[TopicPartition, int | None]:
    """Seeks to what is committed, or to 0 where nothing is; returns what is."""
    committed = {place: await consumer.committed(place) for place in partitions or consumer.assignment()}
    for place, offset in committed.items():
        consumer.seek(place, offset or 0)
    return committed


@types.coroutine
def _going_on(begun: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """What is left of a coroutine that has been begun, and now waits for this."""
    while True:
        try:
            got = yield waits_for
        except BaseException as error:
            go_on = functools.partial(begun.throw, error)
        else:
            go_on = functools.partial(begun.send, got)
        try:
            waits_for = go_on()
        except StopIteration as done:
            return cast(T, done.value)


async def _rest(begun: Coroutine[Any, Any, T], waits_for: Any) -> T:
    return await _going_on(begun, waits_for)


async def wait_first(service: Any, first: Any, *others: Any, **given: Any) -> WaitResults:
    """As Faust's: waits for the first of these that is done, or for the service's end. A first one that need not wait at all
    is done without a task."""
    if not asyncio.iscoroutine(first):
        return cast(WaitResults, await _wait_first(service, first, *others, **given))
    try:
        waits_for = first.send(None)
    except BaseException as done:
        for other in filter(asyncio.iscoroutine, others):
            other.close()
        if isinstance(done, StopIteration):
            return WaitResults([first], [done.value], False)
        raise
    return cast(WaitResults, await _wait_first(service, _rest(first, waits_for), *others, **given))


_wait_first = Consumer.wait_first


def mend() -> None:
    """For the whole process; a second time changes nothing."""
    AIOKafkaConsumer.seek_to_committed = seek_to_committed
    Consumer.wait_first = wait_first
