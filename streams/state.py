"""The states of live calls on calls.state: load a judged partition, write what changed.

A partition's records are one state a call (key: call_id) and one positions record. They go out with the alerts, summaries
and rejections that they belong to in one transaction, by a producer whose transactional id names the partition: starting it
fences off whoever judged the partition before; only then are the states loaded. On a broker without transactions each step is
delivered before the next: alerts, summaries and rejections; states; positions. A state carries the positions that it
contains, so a crash between two steps neither loses nor doubles: what a stored state contains is not judged again, and
what is judged again gives the same alert ids.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError
from msgspec.structs import replace

from streams.census import Queues
from streams.conversation import Positions
from streams.errors import FencedError, PoisonError, TopicsError
from streams.metrics import Metrics
from streams.outcome import Outcome
from streams.pipeline import Calls
from streams.publisher import Outgoing, Publisher, Transactions, rejected_record
from streams.records import Alert, Record, Rejected, Summary
from streams.rules import RuleSet
from streams.rules import load as rules_of
from streams.security import aio_client
from streams.settings import Settings
from streams.topics import Found
from streams.traced import UNTRACED, Batch, Carrying, Tracer, trace_id
from streams.wire import POSITIONS_KEY, Header, cloud_event, decode_positions, decode_scored, encode

SKIPPED = Rejected("skipped", "by --skip")
UNCAUSED = Carrying()  # what a due time gives, or other rules, comes of no record

log = logging.getLogger("callpulse.state")

RETRY_S = 1.0
STOP_S = 3.0
BEHIND_MS = 1_000
STEP = 500  # records read, or states taken in, before others have their turn: some milliseconds
FETCH_BYTES = 4 << 20


async def load(
    settings: Settings, partition: int, partitions: int, rules: RuleSet | None = None, queues: Queues | None = None
) -> Calls:
    """Reads a partition of calls.state to its end, in small steps, so that what shares the event loop goes on. Raises
    TopicsError when it was written with another number of partitions: its calls would be looked for in the wrong places."""
    place = TopicPartition(settings.topic("state"), partition)
    newest = await _newest(settings, place)
    value = newest.pop(POSITIONS_KEY, None)
    positions = decode_positions(value) if value is not None else Positions(partitions)
    if positions.partitions != partitions:
        raise TopicsError(
            f"{place.topic} was written with {positions.partitions} partitions and now has {partitions}: let the worker drain, "
            "then start afresh with a new --prefix"
        )
    calls = Calls(settings.limits, partitions, positions=positions, rules=rules, mask=settings.mask, queues=queues)
    while newest:
        calls.load([newest.popitem()[1] for _ in range(min(STEP, len(newest)))])
        await asyncio.sleep(0)
    return calls


async def _newest(settings: Settings, place: TopicPartition) -> dict[bytes, bytes]:
    """The last value of each key; none where that was a tombstone."""
    newest: dict[bytes, bytes] = {}
    consumer = AIOKafkaConsumer(
        **aio_client(settings),
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    try:
        await consumer.start()
        end = (await consumer.end_offsets([place]))[place]
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        while await consumer.position(place) < end:
            for message in (await consumer.getmany(timeout_ms=500, max_records=STEP)).get(place, []):
                if message.value is None:
                    newest.pop(message.key, None)
                else:
                    newest[message.key] = message.value
            await asyncio.sleep(0)
    finally:
        await consumer.stop()
    return newest


class Judged:
    """One judged partition: its calls, loaded in the background from the assignment on, and how its effects are written.

    `shared` publishes where the broker has no transactions. Nothing is written after `close`, nor after the partition was
    taken over by another worker (`lost`). `rules` may be replaced between two batches; before anything is judged by them, they
    take over all calls that others have judged, here or before a restart: what that resolves is delivered with the batch, or
    by `take_over`.
    """

    def __init__(
        self,
        settings: Settings,
        partition: int,
        topics: Mapping[str, Found],
        shared: Publisher,
        clock: Callable[[], float],
        skip: frozenset[str] = frozenset(),
        rules: RuleSet | None = None,
        tracer: Tracer = UNTRACED,
        metrics: Metrics | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self.settings, self.partition, self.clock, self.skip, self.tracer = settings, partition, clock, skip, tracer
        self.rules = rules if rules is not None else rules_of(None)
        self.topic, self.rejected = topics["sentiment"], topics["rejected"]
        self.transactions = self._transactions() if settings.profile.transactions else None
        self.publisher = self.transactions or shared
        self.next_offset: int | None = None
        self.seen_at: dict[str, int] = {}
        self.lost = False
        self.writing = asyncio.Lock()  # a producer is not stopped amid its transaction: the commit would wait for ever
        self.loading = asyncio.create_task(self._load())

    @property
    def where(self) -> dict[str, object]:
        """What is judged here, for a log line, beside its message."""
        return {"topic": self.topic.name, "partition": self.partition}

    def _transactions(self) -> Transactions:
        name = f"{self.settings.group}-judge-{self.topic.name}-{self.partition}"
        return Transactions(self.settings, name, self.metrics.sent)

    async def _load(self) -> Calls:
        """First the fence, then the states: nobody else writes any after that. Waits for a broker that does not answer."""
        if self.transactions is not None:
            await self.transactions.start()
        while True:
            try:
                return await load(self.settings, self.partition, self.topic.partitions, self.rules, self.metrics.queues)
            except KafkaError as error:
                if not error.retriable and not isinstance(error, KafkaTimeoutError):
                    raise
                log.warning("the states of partition %d are not loaded yet: %r", self.partition, error, extra=self.where)
                await asyncio.sleep(RETRY_S)

    async def close(self) -> None:
        """Gives the partition up."""
        self.lost = True
        self.loading.cancel()
        if self.transactions is not None:
            try:
                await asyncio.wait_for(self._stop(self.transactions), STOP_S)
            except (asyncio.TimeoutError, TimeoutError):
                log.warning("partition %d: a transaction is left to the broker to abort", self.partition, extra=self.where)

    async def _stop(self, transactions: Transactions) -> None:
        async with self.writing:
            await transactions.stop()

    async def judge(self, records: Sequence[Record]) -> Outcome:
        """Judges records of calls.sentiment in order; returns when all effects are delivered. Raises FencedError when
        another worker has taken the partition over, PoisonError at a record that the code fails on."""
        calls, outcome = await self._taken()
        rejections: list[tuple[Record, Rejected]] = []
        traced = self.tracer.batch("judge", self.clock, self.clock())
        for record in records:
            try:
                rejected = self._judge(calls, record, outcome, traced)
            except Exception as error:
                raise PoisonError(record.topic, record.partition, record.offset) from error
            if rejected is not None:
                rejections.append((record, rejected))
                traced.rejected(record, rejected)
        outcome.rejected = [rejected.reason for _, rejected in rejections]
        with traced:
            await self._write(calls, outcome, rejections, traced)
        self.next_offset = records[-1].offset + 1
        return outcome

    async def _calls(self) -> Calls:
        """Once they are loaded. Raises FencedError when the partition is given up before that."""
        try:
            return await self.loading
        except asyncio.CancelledError as error:
            if not self.lost:
                raise
            raise FencedError("given up before its states were loaded") from error

    @property
    def loaded(self) -> Calls | None:
        """The calls, if they are here and this worker's."""
        here = self.loading.done() and not self.lost and self.loading.exception() is None
        return self.loading.result() if here else None

    @property
    def untaken(self) -> bool:
        """Whether calls are here, loaded, that the rules have not taken over."""
        calls = self.loaded
        return calls is not None and (bool(calls.untaken) or calls.rules.hash != self.rules.hash)

    async def take_over(self) -> Outcome:
        """Lets the rules take over what others have judged; returns when all effects are delivered. Raises FencedError."""
        calls, outcome = await self._taken()
        await self._write(calls, outcome, [])
        return outcome

    async def _taken(self) -> tuple[Calls, Outcome]:
        """The calls, once the rules have taken them over, in small steps; and what that gave."""
        calls, outcome = await self._calls(), Outcome()
        calls.take(self.rules)
        while calls.untaken:
            calls.take_over(STEP, outcome)
            await asyncio.sleep(0)
        return calls, outcome

    def _judge(self, calls: Calls, record: Record, outcome: Outcome, traced: Batch) -> Rejected | None:
        if self.skip and record.place in self.skip:
            return SKIPPED
        scored = decode_scored(record.value)
        if isinstance(scored, Rejected):
            return scored
        self.seen_at[scored.source.lane] = self.now_ms()
        alerts = len(outcome.alerts)
        if (rejected := calls.judge(scored, outcome)) is None:
            traced.judged(record, scored, outcome.alerts[alerts:])
        return rejected

    def now_ms(self) -> int:
        return int(self.clock() * 1000)

    async def due_clocks(self) -> dict[str, int]:
        """The clocks of the lanes on which something is due, if the partition is drained.

        A drained lane's clock is the wall's, or the highest timestamp of the lane's records plus the time since it came,
        whichever is later: the second serves a replay, whose timestamps run ahead of the wall's. Both stay BEHIND_MS behind, so
        that what is on its way when something falls due comes before it, as it lies in the log.
        """
        calls, now, clocks = await self._calls(), self.now_ms() - BEHIND_MS, {}
        for lane, due in calls.next_due().items():
            since = now - self.seen_at.setdefault(lane, now)
            clock = max(now, calls.lanes[lane].clock + since) if lane in calls.lanes else now
            if due <= clock:
                clocks[lane] = clock
        return clocks

    async def tick(self, clocks: dict[str, int]) -> Outcome:
        """Lets happen what is due by these clocks; returns when all effects are delivered. Raises FencedError."""
        calls, outcome = await self._taken()
        calls.tick(clocks, outcome)
        await self._write(calls, outcome, [])
        return outcome

    async def _write(
        self, calls: Calls, outcome: Outcome, rejections: Sequence[tuple[Record, Rejected]], traced: Batch = UNCAUSED
    ) -> None:
        """Publishes in the order that the module's docstring promises."""
        if self.lost:
            raise FencedError("the partition was given up")
        effects = [self._rejection(*pair) for pair in rejections]
        effects += [self._event("alerts", self._linked(alert), traced.raised(alert)) for alert in outcome.alerts]
        effects += [self._event("summaries", summary) for summary in outcome.summaries]
        states = [
            self._out("state", call_id.encode(), encode(call) if call else None) for call_id, call in outcome.changed.items()
        ]
        positions = [self._out("state", POSITIONS_KEY, encode(calls.positions))] if outcome.judged or states else []
        if effects or positions:
            try:
                async with self.writing:
                    await self.publisher.publish(effects, states, positions)
            except BaseException:
                self.lost = True  # what is in memory is ahead of what is stored
                raise
        if log.isEnabledFor(logging.DEBUG):
            for alert in outcome.alerts:
                _say(alert, traced.raised(alert))

    def _out(self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[Header] = ()) -> Outgoing:
        return Outgoing(self.settings.topic(topic), self.partition, key, value, tuple(headers))

    def _event(self, topic: str, record: Alert | Summary, headers: Sequence[Header] = ()) -> Outgoing:
        return self._out(topic, record.call_id.encode(), encode(record), [*cloud_event(record), *headers])

    def _linked(self, alert: Alert) -> Alert:
        url = self.settings.call_url.replace("{call_id}", quote(alert.call_id, safe=""))
        return replace(alert, call_url=url or None)

    def _rejection(self, record: Record, rejected: Rejected) -> Outgoing:
        return rejected_record(self.rejected.name, self.rejected.partitions, record, rejected, "judge")


def _say(alert: Alert, headers: Sequence[Header]) -> None:
    """A line about an alert that is delivered, without its evidence's text."""
    said = {"call_id": alert.call_id, "alert_id": alert.alert_id, "rule": alert.rule.name, "trace_id": trace_id(headers)}
    segment_id = alert.evidence[-1].segment_id if alert.evidence else None
    log.debug("alert: %s %s %s", alert.event, alert.severity, alert.rule.name, extra=said | {"segment_id": segment_id})
