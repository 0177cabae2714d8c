"""The scoring engine: texts in, answers in their order out, with the model never idle while something waits.

    submit -> [cache] -> untokenized -> |tokenize| -> ready -> |forward| -> under way -> |decode| -> the submission's future

The three stages run on threads of their own and overlap (`line`). When the model is free it takes what waits, up to a budget of
padded tokens; there is no tick. Who is next is decided in `waiting`, what is tried again in `attempts`.
"""

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from types import TracebackType

from models import cache as caching
from models.cache import Cache
from models.errors import BusyError, ClosedError, ScoringError
from models.histogram import Histogram
from models.line import Line, described
from models.sentiment import Scorer, Sentiment
from models.staged import Failure, Result, Staged, Whole, has_stages
from models.waiting import Submission, Text, Waiting

BOUND = 8192


@dataclass(frozen=True, slots=True)
class Figures:
    """Since the engine's start: forward passes, texts and their tokens in them (without padding), texts that failed, texts
    that the cache knew; and how many wait now. `forward_s`: seconds in forward passes, added up over the threads in them;
    `busy_s`: seconds in which a pass was launched and its logits not there, which is how long a device computes behind the
    threads."""

    batches: int = 0
    texts: int = 0
    tokens: int = 0
    failed: int = 0
    cached: int = 0
    waiting: int = 0
    forward_s: float = 0.0
    busy_s: float = 0.0


class Engine:
    """A Scorer that may be asked from any thread, and that answers in the background as well.

    At most `bound` texts wait: `submit` raises BusyError where there is no room, `score` waits for it. `cache` is how many
    texts' scores are remembered (0: none). Use it as a context, or close it.
    """

    def __init__(self, scorer: Scorer | Staged, *, bound: int = BOUND, cache: int = caching.SIZE) -> None:
        self.scorer: Scorer | Staged = scorer
        stages: Staged = scorer if has_stages(scorer) else Whole(scorer)  # type: ignore[arg-type]
        self._waiting, self._cache = Waiting(bound, stages.budget, stages.replicas), Cache(cache)
        self._failed = 0
        self._broken: BaseException | None = None
        self._changed = threading.Condition()
        self._line = Line(stages, self._waiting, self._changed, self._answer, self._break)
        self._line.start()

    @property
    def name(self) -> str:
        return self.scorer.name

    @property
    def revision(self) -> str:
        return self.scorer.revision

    @property
    def precision(self) -> str:
        return self.scorer.precision

    @property
    def budget(self) -> int:
        """The most padded tokens in a batch, now: less than the scorer's where the device had no memory for them."""
        return self._waiting.budget

    @property
    def figures(self) -> Figures:
        with self._changed:
            line = self._line
            texts = line.texts, line.tokens, self._failed, self._cache.hits, self._waiting.unanswered
            return Figures(line.batches, *texts, line.forward_s, line.busy_s)

    @property
    def batch_texts(self) -> Histogram:
        """Texts a forward pass."""
        return self._line.batch_texts

    @property
    def batch_tokens(self) -> Histogram:
        """Tokens a forward pass, without padding."""
        return self._line.batch_tokens

    def submit(self, texts: Sequence[str], *, fresh: bool = False) -> "Future[list[Result]]":
        """Takes the texts in and returns at once; the future has a result a text, in their order, and may be cancelled.

        Submissions may finish in another order than they came. `fresh` asks the model, whatever the cache knows. An event
        loop awaits `asyncio.wrap_future(...)` of it, and has no more under way than fits. Raises BusyError where there is no
        room for all of them, ClosedError after `close`. Results may hold a Failure; the future itself raises ScoringError
        only when the engine has failed.
        """
        return self._take_in(texts, fresh)

    def score(self, texts: Sequence[str]) -> list[Sentiment]:
        """One sentiment a text, in the order given; waits for room. May be called from any thread. Raises ScoringError where
        a text could not be scored."""
        step = max(1, self._waiting.bound // 4)
        pieces = [self._take_in(texts[start : start + step], patient=True) for start in range(0, len(texts), step)]
        try:
            results = [result for piece in pieces for result in piece.result()]
        except CancelledError as error:
            raise ClosedError("the engine was closed before all texts were scored") from error
        if reasons := sorted({result.reason for result in results if isinstance(result, Failure)}):
            raise ScoringError(f"not every text could be scored: {', '.join(reasons)}")
        return [result for result in results if isinstance(result, Sentiment)]

    def close(self, *, finish: bool = True) -> None:
        """Takes nothing more in and returns when all threads have ended. What waits is scored or, without `finish`, its
        futures are cancelled; what the model is at is finished."""
        with self._changed:
            self._line.end()
        for thread in self._line.threads:  # what one stage was at goes on to the next
            if not finish:
                self._give_up()
            thread.join()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(finish=error is None)

    def _take_in(self, texts: Sequence[str], fresh: bool = False, patient: bool = False) -> "Future[list[Result]]":
        with self._changed:
            if patient:
                self._changed.wait_for(lambda: self._line.over or self._waiting.fits(len(texts)))
            self._check(len(texts))
            known = [None] * len(texts) if fresh or not self._cache.size else [self._cache.get(text) for text in texts]
            submission = self._waiting.enter(texts, known)
            whole = not submission.left
            self._changed.notify_all()
        if whole:
            self._finish([submission])
        return submission.future

    def _check(self, texts: int) -> None:
        if self._broken is not None:
            raise _failed(self._broken)
        if self._line.over:
            raise ClosedError("the engine is closed")
        if not self._waiting.fits(texts):
            raise BusyError(f"{texts} texts are too many: {self._waiting.unanswered} of {self._waiting.bound} wait")

    def _give_up(self) -> None:
        with self._changed:
            dropped = self._waiting.drop()
        for submission in dropped:
            if submission.future.cancel():
                submission.future.set_running_or_notify_cancel()  # or concurrent.futures.wait would wait for it

    def _answer(self, texts: Sequence[Text], results: Sequence[Result]) -> None:
        with self._changed:
            if self._broken is not None:
                return
            finished = self._waiting.answer(texts, results)
            self._failed += sum(isinstance(result, Failure) for result in results)
            for text, result in zip(texts, results, strict=True):
                if isinstance(result, Sentiment):
                    self._cache.put(text.text, result)
            self._changed.notify_all()
        self._finish(finished)

    def _break(self, error: BaseException) -> None:
        """Tells whoever waits for an answer; nothing more comes in."""
        with self._changed:
            self._broken = error
            stranded = list(self._waiting.open)
            self._waiting.drop()
            self._waiting.open.clear()
        for submission in stranded:
            if submission.future.set_running_or_notify_cancel():
                submission.future.set_exception(_failed(error))

    @staticmethod
    def _finish(submissions: Iterable[Submission]) -> None:
        for submission in submissions:
            if submission.future.set_running_or_notify_cancel():
                submission.future.set_result([answer for answer in submission.answers if answer is not None])


def _failed(cause: BaseException) -> ScoringError:
    error = ScoringError(f"the engine has failed: {described(cause)}")
    error.__cause__ = cause
    return error
