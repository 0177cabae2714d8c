"""The Faust apps: two thin agents joined by a topic. The only module that imports faust.

`score_segments` takes raw bytes from calls.segments, scores them on a thread of its own and publishes to calls.sentiment;
`judge_calls` takes those, advances the calls and publishes alerts, summaries and states. Each is an app with a consumer
group of its own; `run` starts one or both in this process. How a batch is delivered and acknowledged: `delivery`.
"""

import asyncio
import collections
import contextlib
import logging
import os
import signal
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import faust

from models.batching import take
from models.sentiment import Scorer
from streams.conversation import epoch_ms
from streams.delivery import Event, Lane, Message, Outgoing, Publisher, rejected_record
from streams.metrics import Counts
from streams.pipeline import Outcome, score
from streams.records import Record, Rejected, Scored
from streams.settings import Settings
from streams.state import Backlog, Judged
from streams.topics import Found
from streams.wire import encode, partition_of

log = logging.getLogger("callpulse.worker")

JUDGE_BATCH = 512
BYTES_A_TOKEN = 4  # of a whole message: an estimate of its text's tokens that needs no tokenizer
BATCHES = 4  # how many of the model's batches are taken at once, so that texts of similar length meet
STOP_S = 4.0  # for what is under way when the worker is told to stop
PROGRESS_S = 10.0
RAW = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}


@dataclass
class Context:
    """What the roles of one worker share. `failure` is what stopped it, None after a signal."""

    settings: Settings
    topics: Mapping[str, Found]
    counts: Counts = field(default_factory=Counts)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    failure: BaseException | None = None

    def failed(self, error: BaseException, message: Message | None) -> None:
        """Stops the worker, after a line that says where it stood."""
        place = (
            f"{message.topic} partition {message.partition} offset {message.offset}"
            if message
            else "no record: between batches"
        )
        log.critical("stopping on an unexpected error in the batch that begins at %s", place, exc_info=error)
        self.failure = error
        self.stop.set()


@dataclass
class Role:
    """One agent with what it needs: started and stopped together."""

    app: faust.App
    lane: Lane
    publisher: Publisher
    ready: asyncio.Event
    backlog: Backlog | None = None

    async def start(self) -> None:
        await self.publisher.start()
        self.lane.start()
        await self.app.start()

    async def stop(self) -> None:
        await self.lane.close()
        await self.app.stop()
        await self.publisher.stop()
        if self.backlog is not None:
            await self.backlog.stop()


def make_app(settings: Settings, role: str, web: bool) -> faust.App:
    """A Faust app without tables, leader topic and automatic topics: membership, assignment, flow control, web server."""
    profile = settings.profile
    return faust.App(
        f"{settings.group}-{role}",
        broker="kafka://" + settings.bootstrap_servers.replace(",", ";kafka://"),
        store="memory://",
        datadir=tempfile.gettempdir(),
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=profile.session_timeout,
        broker_heartbeat_interval=profile.heartbeat,
        broker_rebalance_timeout=30.0,
        broker_request_timeout=40.0,
        broker_commit_interval=1.0,
        broker_max_poll_records=2000,
        stream_buffer_maxsize=8192,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        web_enabled=web and settings.web_port > 0,
        web_bind=settings.web_host,
        web_host=settings.web_host,
        web_port=settings.web_port or 6066,
    )


def record_of(message: Message) -> Record:
    """Faust's message, whose timestamp is in seconds, as ours."""
    return Record(
        message.topic,
        message.partition,
        message.offset,
        round((message.timestamp or 0) * 1000),
        message.key,
        message.value,
        tuple(message.headers or ()),
    )


def score_app(context: Context, scorer: Scorer) -> Role:
    """calls.segments -> calls.sentiment. Stateless."""
    settings, ready = context.settings, asyncio.Event()
    app = make_app(settings, "score", web=True)
    publisher = Publisher(settings)
    lane = Lane(app, Scoring(context, scorer, publisher), context.failed)

    @app.agent(app.topic(settings.topic("segments"), **RAW))
    async def score_segments(stream: Any) -> None:
        await lane.feed(stream.noack().events())

    @app.on_partitions_revoked.connect(weak=False)
    async def revoked(*_: Any, **__: Any) -> None:
        await lane.settle()

    @app.on_partitions_assigned.connect(weak=False)
    async def assigned(*_: Any, **__: Any) -> None:
        lane.resume()
        ready.set()

    return Role(app, lane, publisher, ready)


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Scoring:
    """The scorer's work on one batch: the model runs off the event loop, on one thread."""

    tick = None

    def __init__(self, context: Context, scorer: Scorer, publisher: Publisher) -> None:
        self.settings, self.counts = context.settings, context.counts
        self.source, self.sentiment, self.rejected = (context.topics[n] for n in ("segments", "sentiment", "rejected"))
        self.scorer, self.publisher = scorer, publisher
        self.thread = ThreadPoolExecutor(1, "model")

    def size(self, waiting: Iterable[Event]) -> int:
        lengths = (len(event.message.value or b"") // BYTES_A_TOKEN for event in waiting)
        return take(lengths, BATCHES * self.settings.batch_tokens)

    async def work(self, batch: Sequence[Event]) -> None:
        records = [record_of(event.message) for event in batch]
        results = await asyncio.get_running_loop().run_in_executor(
            self.thread, score, records, self.scorer, self.settings.policy, self.source.topic_id, utc_now
        )
        await self.publisher.publish(self._outgoing(*pair) for pair in zip(records, results, strict=True))

    def _outgoing(self, record: Record, result: Scored | Rejected) -> Outgoing:
        self.counts.received += 1
        if isinstance(result, Rejected):
            self.counts.rejected += 1
            return rejected_record(self.rejected.name, self.rejected.partitions, record, result, "score")
        self.counts.scored += result.sentiment is not None
        self.counts.skipped += result.sentiment is None
        key = result.call_id.encode()
        self.counts.mis_keyed += key != record.key
        partition = partition_of(result.call_id, self.sentiment.partitions)
        timestamp = min(record.timestamp, epoch_ms(result.scored_at))  # this topic need not take as much ahead as the input
        return Outgoing(self.sentiment.name, partition, key, encode(result), timestamp=timestamp)


def judge_app(context: Context, web: bool) -> Role:
    """calls.sentiment -> calls.alerts, calls.summaries, calls.state. Keyed by call."""
    settings = context.settings
    app = make_app(settings, "judge", web)
    publisher = Publisher(settings)
    judging = Judging(context, publisher)
    lane = Lane(app, judging, context.failed)

    @app.agent(app.topic(settings.topic("sentiment"), **RAW))
    async def judge_calls(stream: Any) -> None:
        await lane.feed(stream.noack().events())

    @app.on_partitions_revoked.connect(weak=False)
    async def revoked(_app: Any, partitions: Iterable[Any], **_: Any) -> None:
        await lane.settle()
        judging.drop(tp.partition for tp in partitions)

    @app.on_partitions_assigned.connect(weak=False)
    async def assigned(_app: Any, partitions: Iterable[Any], **_: Any) -> None:
        judging.own(tp.partition for tp in partitions if tp.topic == settings.topic("sentiment"))
        lane.resume()

    return Role(app, lane, publisher, judging.ready, judging.backlog)


class Judging:
    """The judge's work on one batch, partition by partition, and what falls due while nothing arrives."""

    def __init__(self, context: Context, publisher: Publisher) -> None:
        self.context, self.publisher = context, publisher
        self.judged: dict[int, Judged] = {}
        self.ready = asyncio.Event()
        self.backlog = Backlog(context.settings, context.topics)

    def own(self, partitions: Iterable[int]) -> None:
        """Starts to load what this worker now judges; another may have judged it meanwhile, so nothing is kept."""
        for partition in partitions:
            self.judged[partition] = Judged(self.context.settings, partition, self.context.topics, self.publisher)
        waiting = asyncio.gather(*(judged.loading for judged in self.judged.values()))
        waiting.add_done_callback(self._loaded)

    def _loaded(self, waiting: "asyncio.Future[Any]") -> None:
        if waiting.cancelled() or isinstance(error := waiting.exception(), asyncio.CancelledError):
            return  # a partition was taken away before it was loaded
        if error is not None:
            self.context.failed(error, None)
        self.ready.set()

    def drop(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            if judged := self.judged.pop(partition, None):
                judged.loading.cancel()

    def size(self, waiting: Iterable[Event]) -> int:
        return take((1 for _ in waiting), JUDGE_BATCH)

    async def work(self, batch: Sequence[Event]) -> None:
        by_partition: dict[int, list[Record]] = collections.defaultdict(list)
        for event in batch:
            by_partition[event.message.partition].append(record_of(event.message))
        outcomes = await asyncio.gather(*(self.judged[p].judge(records) for p, records in by_partition.items()))
        self._count(outcomes)

    async def tick(self) -> None:
        """What is due happens once the partition is drained, so that lag never ends a call early."""
        loaded = [judged for judged in self.judged.values() if judged.loading.done()]
        due = [(judged, clocks) for judged in loaded if (clocks := await judged.due_clocks())]
        for judged, clocks in due:
            drained = {lane: clock for lane, clock in clocks.items() if await self.backlog.scored(lane)}
            if drained and await self.backlog.judged(judged):
                self._count([await judged.tick(drained)])

    def _count(self, outcomes: Iterable[Outcome]) -> None:
        counts = self.context.counts
        for outcome in outcomes:
            counts.judged += outcome.judged
            counts.repeats += outcome.repeats
            counts.rejected += outcome.rejected
            counts.alerts += len(outcome.alerts)
            counts.summaries += len(outcome.summaries)


def run(settings: Settings, found: Mapping[str, Found], scorer: Scorer | None, judge: bool) -> int:
    """Runs the scorer (when one is given) and the judge until a signal or a failure. Returns the exit code: 0 after SIGTERM,
    130 after SIGINT, 1 after a failure."""
    return asyncio.run(_run(settings, found, scorer, judge))


async def _run(settings: Settings, found: Mapping[str, Found], scorer: Scorer | None, judge: bool) -> int:
    context = Context(settings, found)
    roles = [score_app(context, scorer)] if scorer is not None else []
    roles += [judge_app(context, web=scorer is None)] if judge else []
    with _signals(context.stop) as received:
        tasks = [asyncio.create_task(_supervised(role, context)) for role in roles]
        tasks.append(asyncio.create_task(_report(context, roles)))
        await context.stop.wait()
    for task in tasks:
        task.cancel()
    in_time = await _stopped(roles)
    log.info("stopped: %s", context.counts)
    code = 1 if context.failure is not None else 130 if signal.SIGINT in received else 0
    if not in_time:
        logging.shutdown()
        os._exit(code)  # a thread of Faust's that still waits for the broker would hold the process
    return code


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[list[int]]:
    received: list[int] = []

    def stopped(number: int) -> None:
        received.append(number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped, number)
    yield received


async def _supervised(role: Role, context: Context) -> None:
    """Starts a role and waits; a crash inside Faust is a failure like any other."""
    try:
        await role.start()
        await role.app.wait_until_stopped()
        if not context.stop.is_set():
            raise role.app.crash_reason or RuntimeError("Faust has stopped by itself")
    except Exception as error:
        context.failed(error, None)


async def _report(context: Context, roles: Sequence[Role]) -> None:
    """One line when the worker is ready, then one every ten seconds in which something came."""
    for role in roles:
        await role.ready.wait()
    log.info("ready")
    before = ""
    while True:
        await asyncio.sleep(PROGRESS_S)
        if str(context.counts) != before:
            before = str(context.counts)
            log.info("%s", before)


async def _stopped(roles: Sequence[Role]) -> bool:
    """Stops them all; whether that was done within STOP_S."""
    stops = [asyncio.create_task(role.stop()) for role in roles]
    if not stops:
        return True
    _, late = await asyncio.wait(stops, timeout=STOP_S)
    for stop in stops:
        if stop.done() and (error := stop.exception()) is not None:
            log.error("not stopped cleanly; what was under way will be redelivered: %r", error)
            late.add(stop)
    if any(not stop.done() for stop in late):
        log.warning("gave up waiting after %.0f s; what was under way will be redelivered", STOP_S)
    return not late
