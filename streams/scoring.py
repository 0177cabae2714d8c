"""Files as a judge would find them on calls.sentiment: scored as they lie there, or scored now, block by block."""

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

from models.engine import Engine
from models.staged import Result
from streams.backtest import Placed
from streams.labelled import Opened
from streams.pipeline import Reading, Stamp, assemble, read
from streams.recording import NO_PARTITION
from streams.records import Model, Record, Rejected, Scored
from streams.settings import Settings
from streams.wire import decode_scored, partition_of

BLOCK = 256  # records: one block is judged while the next is scored


class Log:
    """The scored segments of files, in their order; use it as a context. The model is loaded when something is to be scored.
    `rejected` counts by reason what is no segment, or could not be scored."""

    def __init__(self, settings: Settings, load: Callable[[Settings], Any]) -> None:
        self.rejected: Counter[str] = Counter()
        self._settings, self._load, self._stack = settings, load, ExitStack()
        self._engine: Engine | None = None

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    def read(self, files: Iterable[Opened]) -> Iterator[Placed]:
        for file in files:
            for partition, result in self._decoded(file) if file.scored else self._scored(file):
                if isinstance(result, Scored):
                    yield partition, result
                else:
                    self.rejected[result.reason] += 1

    def _decoded(self, file: Opened) -> Iterator[tuple[int, Scored | Rejected]]:
        for record in file.records:
            scored = decode_scored(record.value)
            partition = record.partition
            if partition == NO_PARTITION and isinstance(scored, Scored):  # values alone, as a console consumer prints them
                partition = partition_of(scored.call_id, self._settings.partitions)
            yield partition, scored

    def _scored(self, file: Opened) -> Iterator[tuple[int, Scored | Rejected]]:
        """A lane a partition of the file. Raises ScoringError when the model has failed."""
        waiting = deque[tuple[Reading, Future[list[Result]]]]()
        for block in _blocks(file.records):
            reading = read(block, self._settings.policy)
            waiting.append((reading, self._started().submit(reading.texts)))
            if len(waiting) > 1:
                yield from self._assembled(file, *waiting.popleft())
        for pair in waiting:
            yield from self._assembled(file, *pair)

    def _started(self) -> Engine:
        if self._engine is None:
            self._engine = self._stack.enter_context(Engine(self._load(self._settings), cache=self._settings.cached_texts))
        return self._engine

    def _assembled(
        self, file: Opened, reading: Reading, results: "Future[list[Result]]"
    ) -> Iterator[tuple[int, Scored | Rejected]]:
        engine, scored = self._started(), results.result()
        model = Model(engine.name, engine.revision, engine.precision)
        stamp = Stamp(file.path, model, datetime.now(timezone.utc), self._settings.mask)
        return ((0, result) for result in assemble(reading, scored, stamp))


def _blocks(records: Iterable[Record]) -> Iterator[list[Record]]:
    rest = iter(records)
    while block := [*itertools.islice(rest, BLOCK)]:
        yield block
