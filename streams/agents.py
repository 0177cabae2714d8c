"""What the agents share, and what the scorer's does with a batch, as its lane calls it. Faust is not known here."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice, takewhile

from models.batching import take
from models.device import use
from models.engine import Engine
from models.errors import ScoringError
from models.sentiment import Scorer
from models.staged import Failure, Result
from streams.access import denied
from streams.conversation import epoch_ms
from streams.delivery import CAPACITY, Event
from streams.errors import PoisonError
from streams.metrics import Computing, Counts, Metrics, spoken_ms
from streams.pipeline import Reading, Stamp, assemble, at, read
from streams.publisher import Outgoing, Publisher, rejected_record
from streams.records import Model, Record, Rejected, Scored
from streams.reload import Rules
from streams.settings import Settings
from streams.state import SKIPPED
from streams.topics import Found
from streams.traced import UNTRACED, Batch, Tracer, trace_id
from streams.wire import encode, partition_of

log = logging.getLogger("callpulse.worker")

ENVELOPE = 200  # bytes of a message that are ids, times and names
BYTES_A_TOKEN = 4  # of the others: an estimate of a text's tokens that needs no tokenizer
LEAST = 8  # tokens of a message, however short
BATCHES = 4  # of the model's that are begun ahead of what is published, so that texts of similar length meet
HARMLESS = "hello"  # a scorer that fails on this fails on everything


def anchored() -> Callable[[], float]:
    """A clock in seconds since 1970 that goes on evenly when the wall's is set forward or back: read once, then counted."""
    anchor = time.time() - time.monotonic()
    return lambda: anchor + time.monotonic()


@dataclass
class Context:
    """What the agents of one worker share. `failure` is what stopped it, None after a signal; `skip` has the places of records
    that go to calls.rejected unseen."""

    settings: Settings
    topics: Mapping[str, Found]
    skip: frozenset[str] = frozenset()
    counts: Counts = field(default_factory=Counts)
    metrics: Metrics = field(default_factory=Metrics)
    clock: Callable[[], float] = field(default_factory=anchored)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    failure: BaseException | None = None
    rules: Rules = field(default_factory=Rules)
    tracer: Tracer = UNTRACED

    def failed(self, error: BaseException, batch: Sequence[Record]) -> None:
        """Stops the worker, after a line that says where it stood."""
        if isinstance(error, PoisonError):
            log.critical(
                "stopping on an unexpected error at %s; `callpulse worker --skip %s` sends that record to %s instead",
                error,
                error.place,
                self.topics["rejected"].name,
                exc_info=_wordless(error.__cause__),
                extra=_poison(error, batch),
            )
        elif right := denied(error):
            log.critical("stopping %s: %s. %s", _described(batch), right, error, extra=_first(batch))
        else:
            log.critical("stopping on an unexpected error %s", _described(batch), exc_info=error, extra=_first(batch))
        self.failure = error
        self.stop.set()


def _described(batch: Sequence[Record]) -> str:
    if not batch:
        return "between batches"
    first = batch[0]
    return f"in a batch of {len(batch)} that begins at {first.topic} partition {first.partition} offset {first.offset}"


def _wordless(error: BaseException | None) -> BaseException | None:
    """The same kind of error from the same place, without its message: that may quote what was said."""
    return error and type(type(error).__name__, (Exception,), {})().with_traceback(error.__traceback__)


def _first(batch: Sequence[Record]) -> dict[str, object]:
    return batch[0].where if batch else {}


def _poison(error: PoisonError, batch: Iterable[Record]) -> dict[str, object]:
    """The record's place and, as it is of the batch, its trace."""
    place = (error.topic, error.partition, error.offset)
    headers = next((m.headers for m in batch if (m.topic, m.partition, m.offset) == place), ())
    return {"topic": error.topic, "partition": error.partition, "offset": error.offset, "trace_id": trace_id(headers)}


@dataclass(slots=True)
class Begun:
    """Events whose texts are with the engine, from `taken_at` on: so many tokens, as is thought. `reading` is of those that are
    not skipped unseen."""

    events: Sequence[Event]
    tokens: int
    reading: Reading
    results: "asyncio.Future[list[Result]]"
    taken_at: float


class Scoring:
    """The scorer's work on one batch: the engine's threads score, this publishes.

    The engine is given what waits (`behind`: oldest first) as soon as it has come, as far as it is worth sorting, so that the
    model goes on while a batch is published. The lane knows nothing of it and has one batch at a time: what has its scores by
    then, or what is next to have them. It is published when its batch has its turn, which is after the one before is
    delivered. What the lane has given up by then is thrown away; it was never sent.

    A text that the scorer fails on is rejected (`scoring_failed`), and the stream goes on.
    """

    tick = None

    def __init__(
        self, context: Context, scorer: Scorer, publisher: Publisher, behind: Callable[[], Sequence[Event]] = tuple
    ) -> None:
        self.settings, self.counts, self.skip, self.clock = context.settings, context.counts, context.skip, context.clock
        self.metrics, self.device = context.metrics, str(getattr(scorer, "device", "cpu"))
        self.source, self.sentiment, self.rejected = (context.topics[n] for n in ("segments", "sentiment", "rejected"))
        self.publisher, self.behind, self.tracer = publisher, behind, context.tracer
        self.mask, self.policy = self.settings.mask, self.settings.policy
        self.engine = Engine(scorer, bound=3 * CAPACITY, cache=self.settings.cached_texts)  # a batch, the next, one given up
        self.model = Model(scorer.name, scorer.revision, scorer.precision)
        self.ahead: list[Begun] = []

    async def stop(self) -> None:
        await asyncio.to_thread(self.engine.close, finish=False)

    def seen(self) -> Computing:
        """For whoever scrapes the worker."""
        done, model, device = self.engine.figures, self.model, self.device
        seconds = done.busy_s if device.startswith("cuda") else done.forward_s
        sizes = self.engine.batch_texts, self.engine.batch_tokens
        return Computing(model.name, model.revision, model.precision, device, *use(device), seconds, *sizes)

    def came(self) -> None:
        """Begins what has come, as far as there is room for its tokens."""
        waiting = self.behind()
        if self.ahead and not (waiting and waiting[0] is self.ahead[0].events[0]):
            self.ahead = []  # the lane has given them up
        known = sum(len(part.events) for part in self.ahead)
        room = BATCHES * self.engine.budget - sum(part.tokens for part in self.ahead)
        if known < len(waiting) and room > 0:
            coming = list(islice(waiting, known, known + take(map(_tokens, islice(waiting, known, None)), room)))
            with suppress(PoisonError):  # it stops the worker when its own batch has its turn, and not this one
                self.ahead.append(self._begin(coming))

    def size(self, waiting: Iterable[Event]) -> int:
        self.came()
        scored = sum(1 for _ in takewhile(lambda part: part.results.done(), self.ahead))
        begun = sum(len(part.events) for part in self.ahead[: max(1, scored)])
        return begun or take(map(_tokens, waiting), BATCHES * self.engine.budget)

    async def work(self, batch: Sequence[Event]) -> Sequence[Event]:
        """Raises PoisonError at a record that our own code fails on, ScoringError when the scorer fails on everything."""
        parts = self._begun(batch)
        self.came()
        await self._check([result for part in parts for result in await part.results])
        scored_at = self.clock()
        results = {id(event): result for part in parts for event, result in self._results(part, scored_at)}
        taken = _taken(batch, parts)
        with self.tracer.batch("score", self.clock, min(taken)) as traced:
            await self.publisher.publish([self._outgoing(event, results[id(event)], traced) for event in batch])
        for taken_at, segments in taken.items():
            self.metrics.published(segments, taken_at, scored_at, self.clock())
        done = self.engine.figures
        self.counts.cached, self.counts.batches, self.counts.tokens = done.cached, done.batches, done.tokens
        return batch

    def _begun(self, batch: Sequence[Event]) -> list[Begun]:
        """The parts that hold the batch, in its order."""
        events = set(map(id, batch))
        parts = list(takewhile(lambda part: any(id(event) in events for event in part.events), self.ahead))
        del self.ahead[: len(parts)]
        left = _without(batch, parts)
        return [*parts, self._begin(left)] if left else parts

    def _begin(self, events: Sequence[Event]) -> Begun:
        reading = read([event for event in events if not self._skips(event)], self.policy)
        results, now = asyncio.wrap_future(self.engine.submit(reading.texts)), self.clock()
        self.metrics.stages["consumed"].observe_all([now - event.timestamp / 1000 for event in events])
        return Begun(events, sum(map(_tokens, events)), reading, results, now)

    async def _check(self, results: Sequence[Result]) -> None:
        """Where no text could be scored, it may be the scorer: then the worker must stop and not reject the whole stream."""
        if not results or not all(isinstance(result, Failure) for result in results):
            return
        [result] = await asyncio.wrap_future(self.engine.submit([HARMLESS], fresh=True))
        if isinstance(result, Failure):
            raise ScoringError(f"the scorer fails on every text: {result.reason}")

    def _skips(self, record: Record) -> bool:
        return bool(self.skip) and record.place in self.skip

    def _results(self, part: Begun, scored_at: float) -> Iterator[tuple[Event, Scored | Rejected]]:
        now = datetime.fromtimestamp(scored_at, timezone.utc)
        scored = iter(assemble(part.reading, part.results.result(), Stamp(self.source.topic_id, self.model, now, self.mask)))
        for event in part.events:
            yield event, SKIPPED if self._skips(event) else next(scored)

    def _outgoing(self, record: Record, result: Scored | Rejected, traced: Batch) -> Outgoing:
        self.counts.received += 1
        if isinstance(result, Rejected):
            self.counts.rejected += 1
            traced.rejected(record, result)
            self.metrics.rejected["score", result.reason] += 1
            return rejected_record(self.rejected.name, self.rejected.partitions, record, result, "score")
        self.counts.scored += result.sentiment is not None
        self.counts.skipped += result.sentiment is None
        self.metrics.spoken_ms += spoken_ms(result)
        key = result.call_id.encode()
        self.counts.mis_keyed += key != record.key
        partition = partition_of(result.call_id, self.sentiment.partitions)
        timestamp = min(record.timestamp, epoch_ms(result.scored_at))  # this topic need not take as much ahead as the input
        headers = traced.scored(record, result, partition)
        return Outgoing(self.sentiment.name, partition, key, at(record, encode, result), headers, timestamp)


def _tokens(event: Event) -> int:
    return max(LEAST, (len(event.value or b"") - ENVELOPE) // BYTES_A_TOKEN)


def _taken(batch: Iterable[Event], begun: Iterable[Begun]) -> Counter[float]:
    """How many of the batch were taken in when; what was begun and given up since is in no batch."""
    taken_at = {id(event): part.taken_at for part in begun for event in part.events}
    return Counter(taken_at[id(event)] for event in batch)


def _without(events: Sequence[Event], begun: Iterable[Begun]) -> list[Event]:
    taken = {id(event) for part in begun for event in part.events}
    return [event for event in events if id(event) not in taken]
