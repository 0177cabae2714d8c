"""The states of live calls on calls.state: load a judged partition, write what changed.

A partition's records are one state a call (key: call_id) and one positions record. They are written in this order, each
delivered before the next: alerts, summaries and rejections; states; positions. A state carries the positions that it
contains, so a crash between two steps neither loses nor doubles: what a stored state contains is not judged again, and
what is judged again gives the same alert ids.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.conversation import Conversation, Positions
from streams.delivery import Outgoing, Publisher, rejected_record
from streams.errors import TopicsError
from streams.pipeline import Calls, Outcome
from streams.records import Alert, Record, Rejected, Scored, Summary
from streams.settings import Settings
from streams.topics import Found
from streams.wire import (
    POSITIONS_KEY,
    Header,
    cloud_event,
    decode_positions,
    decode_scored,
    decode_state,
    encode,
)

PEEK_MS = 200


async def load(settings: Settings, partition: int, partitions: int) -> Calls:
    """Reads a partition of calls.state to its end. Raises TopicsError when it was written with another number of
    partitions: its calls would be looked for in the wrong places."""
    states: dict[bytes, Conversation] = {}
    positions = Positions(partitions)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers, enable_auto_commit=False, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        place = TopicPartition(settings.topic("state"), partition)
        end = (await consumer.end_offsets([place]))[place]
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        while await consumer.position(place) < end:
            for message in (await consumer.getmany(timeout_ms=500)).get(place, []):
                if message.key == POSITIONS_KEY:
                    positions = decode_positions(message.value)
                elif message.value is None:
                    states.pop(message.key, None)
                else:
                    states[message.key] = decode_state(message.value)
    finally:
        await consumer.stop()
    if positions.partitions != partitions:
        raise TopicsError(
            f"{place.topic} was written with {positions.partitions} partitions and now has {partitions}: let the worker drain, "
            "then start afresh with a new --prefix"
        )
    return Calls(settings.limits, partitions, states.values(), positions)


class Judged:
    """One judged partition: its calls, loaded in the background from the assignment on, and how its effects are written."""

    def __init__(
        self,
        settings: Settings,
        partition: int,
        topics: Mapping[str, Found],
        publisher: Publisher,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self.partition, self.publisher, self.clock = settings, partition, publisher, clock
        self.rejected = topics["rejected"]
        self.next_offset: int | None = None
        self.seen_at: dict[str, int] = {}
        self.loading = asyncio.create_task(load(settings, partition, topics["sentiment"].partitions))

    async def judge(self, records: Sequence[Record]) -> Outcome:
        """Judges records of calls.sentiment in order; returns when all effects are delivered."""
        calls, outcome = await self.loading, Outcome()
        rejections: list[tuple[Record, Rejected]] = []
        for record in records:
            scored = decode_scored(record.value)
            if isinstance(scored, Scored):
                self.seen_at[scored.source.lane] = self.now_ms()
                scored = calls.judge(scored, outcome) or scored
            if isinstance(scored, Rejected):
                rejections.append((record, scored))
        outcome.rejected = len(rejections)
        await self._write(calls, outcome, rejections)
        self.next_offset = records[-1].offset + 1
        return outcome

    def now_ms(self) -> int:
        return int(self.clock() * 1000)

    async def due_clocks(self) -> dict[str, int]:
        """The clocks of the lanes on which something is due, if the partition is drained.

        A drained lane's clock is the wall's, or the highest timestamp of the lane's records plus the time since it came,
        whichever is later: the second serves a replay, whose timestamps run ahead of the wall's.
        """
        calls, now, clocks = await self.loading, self.now_ms(), {}
        for lane, due in calls.next_due().items():
            since = now - self.seen_at.setdefault(lane, now)
            clock = max(now, calls.lanes[lane].clock + since) if lane in calls.lanes else now
            if due <= clock:
                clocks[lane] = clock
        return clocks

    async def tick(self, clocks: dict[str, int]) -> Outcome:
        """Lets happen what is due by these clocks; returns when all effects are delivered."""
        calls, outcome = await self.loading, Outcome()
        calls.tick(clocks, outcome)
        await self._write(calls, outcome, [])
        return outcome

    async def _write(self, calls: Calls, outcome: Outcome, rejections: Sequence[tuple[Record, Rejected]]) -> None:
        """Publishes in the order that the module's docstring promises."""
        effects = [self._rejection(*pair) for pair in rejections]
        effects += [self._event("alerts", self._linked(alert)) for alert in outcome.alerts]
        effects += [self._event("summaries", summary) for summary in outcome.summaries]
        states = [
            self._out("state", call_id.encode(), encode(call) if call else None) for call_id, call in outcome.changed.items()
        ]
        positions = [self._out("state", POSITIONS_KEY, encode(calls.positions))] if outcome.judged or states else []
        for step in (effects, states, positions):
            if step:
                await self.publisher.publish(step)

    def _out(self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[Header] = ()) -> Outgoing:
        return Outgoing(self.settings.topic(topic), self.partition, key, value, tuple(headers))

    def _event(self, topic: str, record: Alert | Summary) -> Outgoing:
        return self._out(topic, record.call_id.encode(), encode(record), cloud_event(record))

    def _linked(self, alert: Alert) -> Alert:
        url = self.settings.call_url.replace("{call_id}", quote(alert.call_id, safe=""))
        return replace(alert, call_url=url or None)

    def _rejection(self, record: Record, rejected: Rejected) -> Outgoing:
        return rejected_record(self.rejected.name, self.rejected.partitions, record, rejected, "judge")


class Backlog:
    """Whether what lay in calls.segments and calls.sentiment a moment ago has been judged, whoever scores it."""

    def __init__(self, settings: Settings, topics: Mapping[str, Found]) -> None:
        self.settings, self.topics = settings, topics
        self.consumers: dict[str, AIOKafkaConsumer] = {}

    async def scored(self, lane: str) -> bool:
        """Whether the scorer's group has committed a source partition; one of a former topic has nothing left."""
        segments = self.topics["segments"]
        topic_id, _, partition = lane.rpartition(":")
        if topic_id != segments.topic_id:
            return True
        return await self._done("score", TopicPartition(segments.name, int(partition)), None)

    async def judged(self, judged: Judged) -> bool:
        """Whether a partition of calls.sentiment is judged to its end."""
        place = TopicPartition(self.topics["sentiment"].name, judged.partition)
        return await self._done("judge", place, judged.next_offset)

    async def _done(self, role: str, place: TopicPartition, next_offset: int | None) -> bool:
        """Whether no record lies at or behind `next_offset` (None: what the role's group has committed). False as well when
        no broker answers: then it is asked again at the next tick."""
        try:
            consumer = await self._consumer(role)
            offset = next_offset if next_offset is not None else await consumer.committed(place) or 0
            end = (await consumer.end_offsets([place]))[place]
            return offset >= end or await _empty(consumer, place, offset, end)
        except KafkaError:
            return False

    async def _consumer(self, role: str) -> AIOKafkaConsumer:
        """A consumer that only asks about the role's group and never joins it."""
        if role not in self.consumers:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.settings.bootstrap_servers,
                group_id=f"{self.settings.group}-{role}",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
            )
            try:
                await consumer.start()
            except KafkaError:
                await consumer.stop()
                raise
            self.consumers[role] = consumer
        return self.consumers[role]

    async def stop(self) -> None:
        for consumer in self.consumers.values():
            await consumer.stop()


async def _empty(consumer: AIOKafkaConsumer, place: TopicPartition, offset: int, end: int) -> bool:
    """Whether what lies there are no records, but the ends of a producer's transactions."""
    consumer.assign([place])
    consumer.seek(place, offset)
    return not await consumer.getmany(timeout_ms=PEEK_MS, max_records=1) and bool(await consumer.position(place) >= end)
