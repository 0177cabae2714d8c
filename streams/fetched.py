"""Faust's transport, handing a fetch over as one message: all that one poll brought of a partition.

Faust makes a message, an event and a turn of its event loop for every record: more than scoring it takes. Membership,
assignment, flow control and the agents' life stay as they are, each of them now once a fetch.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from faust.transport.drivers import aiokafka
from faust.types import TP, Message


class Fetch(Message):  # type: ignore[misc]
    """Records of a partition in their order, as aiokafka gives them; the offset is that of the last one."""

    __slots__ = ("records",)

    def __init__(self, tp: TP, records: Sequence[Any], generation_id: int) -> None:
        last = records[-1]
        super().__init__(
            tp.topic, tp.partition, last.offset, last.timestamp, last.timestamp_type, None, b"", b"", None, tp=tp,
            generation_id=generation_id,
        )  # fmt: skip
        self.records = records


class Consumer(aiokafka.Consumer):  # type: ignore[misc]
    """Gives up what it has fetched when partitions are taken away meanwhile, as Faust's does. It polls the transport's `pace_s`
    after it has found something, or later, so that under load more comes at once; what comes after a pause does not wait."""

    found_at = 0.0

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Fetch]]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self.found_at + self.transport.pace_s - loop.time()))
        fetched, active = await self._wait_next_records(timeout)
        if fetched:
            self.found_at = loop.time()
        if fetched is not None and not self.should_stop and not self.flow_active:
            await self._read_again()
            return
        generation = self.app.consumer_generation_id
        for tp, records in (fetched or {}).items():
            if self.should_stop or not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if records and (active is None or tp in active):
                yield tp, Fetch(tp, records, generation)

    async def _read_again(self) -> None:
        """What was fetched amid a rebalance comes again, as with Faust's."""
        try:
            await self.perform_seek()
        except Exception as error:
            self.log.warning("what was fetched amid a rebalance is not sought again: %r", error)

    def on_buffer_full(self, tp: TP) -> None:
        """A full queue is waited for, and that is all. Faust would leave the partition out until the queue is nearly empty: as
        the others keep it full, for as long as they have something; and were all left out, it would sleep for a second."""


class Transport(aiokafka.Transport):  # type: ignore[misc]
    Consumer = Consumer
    pace_s = 0.0
