"""The engine's three stages, a thread each (of the forward stage one a replica), one handing on to the next.

All that they share is touched under one condition; no stage of the model runs under it.
"""

import logging
import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence, Sized
from contextlib import suppress
from typing import Any, TypeVar

from models.attempts import attempt, halves
from models.errors import ScoringError
from models.histogram import Histogram
from models.staged import Failure, Result, Staged
from models.waiting import Text, Waiting

log = logging.getLogger("callpulse.engine")

TEXTS = tuple(2**n for n in range(11))  # 1 to 1,024 a batch
TOKENS = tuple(2**n for n in range(4, 16))  # 16 to 32,768
AHEAD = 1  # batches that a device may have behind those that it computes. With more, they are cut too early
CLOSED, TOKENIZED, FORWARDED = 1, 2, 3
"""What is over: nothing comes in, nothing more becomes ready, nothing more gets under way."""
T = TypeVar("T")
Answer = Callable[[Sequence[Text], Sequence[Result]], None]


class Line:
    """Moves texts from `waiting` to `answer`. `changed` guards `waiting` and all of this; whoever puts something in notifies.

    `broken` is called once, on the thread concerned, when the line itself fails; then nothing more is answered. `batches`,
    `texts` and `tokens` count forward passes and what was in them, padding left out; `batch_texts` and `batch_tokens` how many
    were in each. `forward_s` and `busy_s`: see models.engine.Figures; `clock` gives seconds and never goes back.
    """

    def __init__(
        self,
        stages: Staged,
        waiting: Waiting,
        changed: threading.Condition,
        answer: Answer,
        broken: Callable[[BaseException], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.stages, self.waiting, self.changed, self.answer, self.broken = stages, waiting, changed, answer, broken
        self.over = 0
        self.batches = self.texts = self.tokens = 0
        self.batch_texts, self.batch_tokens = Histogram(TEXTS), Histogram(TOKENS)
        self.forward_s = self.busy_s = self.arrived_at = 0.0
        self.launched: deque[tuple[Sequence[Text], Any, float]] = deque()
        self.computing = 0  # in a forward pass
        self.under_way = 0  # launched and not there
        self.forwarding = stages.replicas  # threads in that stage
        self.said: set[str] = set()
        forwards = [("forward", self._forwarding)] * stages.replicas
        runs = [("tokenize", self._tokenizing), *forwards, ("decode", self._decoding)]
        self.threads = [threading.Thread(target=self._guarded, args=(run,), name=name, daemon=True) for name, run in runs]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def end(self, what: int = CLOSED) -> None:
        """Under the condition: lets the threads end once they are through with what there is."""
        self.over = max(self.over, what)
        self.changed.notify_all()

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:
            log.critical("the engine has failed: %s", described(error))
            with self.changed:
                self.launched.clear()
                self.end(FORWARDED)
            self.broken(error)

    def _tokenizing(self) -> None:
        while texts := self._next(lambda: self.waiting.untokenized, CLOSED, self.waiting.to_tokenize):
            for part, outcome in attempt(texts, self._tokenize, self._halves):
                if isinstance(outcome, Failure):
                    self.answer(part, [outcome] * len(part))
            with self.changed:
                self.waiting.make_ready([text for text in texts if text.length])
                self.changed.notify_all()
        with self.changed:
            self.end(TOKENIZED)

    def _forwarding(self) -> None:
        waiting = self.waiting
        self.stages.begin()
        while batch := self._next(lambda: waiting.planned or waiting.ready, TOKENIZED, self._taken, self._free):
            for part, outcome in attempt(batch, self._forward, self._parts):
                if isinstance(outcome, Failure):
                    self.answer(part, [outcome] * len(part))
                else:
                    self._launch(part, outcome)
            with self.changed:
                self.computing -= 1
                self.changed.notify_all()
        with self.changed:
            self.forwarding -= 1
            if not self.forwarding:
                self.end(FORWARDED)

    def _decoding(self) -> None:
        while launched := self._next(lambda: self.launched, FORWARDED, self.launched.popleft):
            texts, logits, launched_at = launched
            with suppress(Exception):  # decoding raises it again, and answers for it
                self.stages.wait(logits)
            with self.changed:
                now = self.clock()
                self.busy_s += now - max(launched_at, self.arrived_at)
                self.arrived_at = now
                self.under_way -= 1
                self.changed.notify_all()
            rows = list(enumerate(texts))
            for part, outcome in attempt(rows, lambda part, logits=logits: self._decode(part, logits), self._halves):  # type: ignore[misc]
                results = [outcome] * len(part) if isinstance(outcome, Failure) else outcome
                self.answer([text for _, text in part], results)

    def _taken(self) -> Sequence[Text]:
        batch = self.waiting.next_batch()
        self.computing += bool(batch)
        return batch

    def _free(self) -> bool:
        """A few texts are no reason for a pass beside another, with which the next ones would wait for it: together they take
        half the time. Nobody decodes any more where the line is broken: whoever waits for room then must not wait for ever."""
        there_is_room = self.under_way < self.stages.replicas + AHEAD
        return self.over >= FORWARDED or (there_is_room and (not self.computing or self.waiting.enough))

    def _next(
        self, left: Callable[[], Sized], before: int, take: Callable[[], T], free: Callable[[], bool] = lambda: True
    ) -> T | None:
        """Takes, as soon as something is left and the stage is free to; None when nothing is and the stage before is over."""
        with self.changed:
            self.changed.wait_for(lambda: free() if left() else self.over >= before)
            return take() if left() else None

    def _tokenize(self, texts: Sequence[Text]) -> None:
        rows, truncated = self.stages.tokenize([text.text for text in texts])
        for text, row, cut in zip(texts, rows, truncated, strict=True):
            text.row, text.truncated, text.length = row, cut, self.stages.length(row)

    def _forward(self, texts: Sequence[Text]) -> Any:
        began = self.clock()
        logits = self.stages.forward([text.row for text in texts])
        with self.changed:
            self.forward_s += self.clock() - began
        if len(logits) != len(texts):
            raise ScoringError(f"{len(logits)} rows of logits for {len(texts)} texts")
        return logits

    def _launch(self, texts: Sequence[Text], logits: Any) -> None:
        with self.changed:
            tokens = sum(text.length for text in texts)
            self.batches += 1
            self.texts += len(texts)
            self.tokens += tokens
            self.batch_texts.observe(len(texts))
            self.batch_tokens.observe(tokens)
            self.launched.append((texts, logits, self.clock()))
            self.under_way += 1
            self.changed.notify_all()

    def _decode(self, rows: Sequence[tuple[int, Text]], logits: Any) -> list[Result]:
        """`rows` are neighbours in the batch that the logits are of."""
        mine = logits[rows[0][0] : rows[-1][0] + 1]
        sentiments = self.stages.decode(mine, [text.truncated for _, text in rows])
        if len(sentiments) != len(rows):
            raise ScoringError(f"{len(sentiments)} sentiments for {len(rows)} texts")
        return [s if math.isfinite(s.score) else Failure("NaN") for s in sentiments]

    def _parts(self, batch: Sequence[Text], error: Exception) -> Sequence[Sequence[Text]]:
        """Of a batch whose forward pass has failed: such as the device has memory for, or halves."""
        if len(batch) == 1 or not isinstance(error, self.stages.exhausted):
            return self._halves(batch, error)
        with self.changed:
            before, parts, budget = self.waiting.budget, self.waiting.shrink(batch), self.waiting.budget
        if budget < before:
            log.warning("out of memory with %d texts: %d padded tokens a batch now (--batch-tokens)", len(batch), budget)
        return parts

    def _halves(self, part: Sequence[T], error: Exception) -> list[Sequence[T]]:
        if (what := described(error)) not in self.said:  # a broken model fails at every text
            self.said.add(what)
            log.warning("a batch of %d failed: %s. What fails alone is given up, the others are scored", len(part), what)
        return halves(part)


def described(error: BaseException) -> str:
    """What was raised and where, without its message: that may quote a text."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}" if frames else type(error).__name__
