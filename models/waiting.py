"""What has been submitted to the engine and is not answered yet: who is next, and who has all answers. Pure: no threads.

A text is first untokenized, then ready, then part of a planned batch, then under way (with the engine), then answered.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from models.batching import plan
from models.staged import Result

LEAST = 128  # tokens that are not shared out among replicas: a pass over fewer takes hardly less time
CHUNK = 256  # texts tokenized at a time: some milliseconds, so that the model never waits long for the first


@dataclass(slots=True, eq=False)
class Submission:
    """Some texts that were submitted together: `answers` in their order, None where there is none yet; `left` of them."""

    answers: list[Result | None]
    left: int
    future: "Future[list[Result]]" = field(default_factory=Future)


@dataclass(slots=True, eq=False)
class Text:
    """One text on its way; `number` counts all texts. Once it is tokenized it has a row of `length` tokens."""

    number: int
    text: str
    submission: Submission
    index: int
    row: Any = None
    length: int = 0
    truncated: bool = False


class Waiting:
    """At most `bound` texts at a time. Batches hold texts of similar length, `budget` padded tokens at most (or one text).

    All that is ready is planned at once, shared out among the `replicas` that compute, and all that was planned goes before
    what comes later: a text waits for those that were ready before it and no longer, however well others would fit. The batch
    with the oldest text goes first.
    """

    def __init__(self, bound: int, budget: int, replicas: int = 1) -> None:
        self.bound, self.budget, self.replicas = bound, budget, replicas
        self.unanswered = 0
        self.untokenized: deque[Text] = deque()
        self.ready: list[Text] = []
        self.ready_tokens = 0
        self.planned: deque[list[Text]] = deque()
        self.open: dict[Submission, None] = {}  # in the order they came
        self._numbers = 0

    def fits(self, texts: int) -> bool:
        return self.unanswered + texts <= self.bound

    def enter(self, texts: Sequence[str], known: Sequence[Result | None]) -> Submission:
        """Takes them in, but for those whose answer is known already. There must be room."""
        unknown = [index for index, answer in enumerate(known) if answer is None]
        submission = Submission(list(known), len(unknown))
        for index in unknown:
            self._numbers += 1
            self.untokenized.append(Text(self._numbers, texts[index], submission, index))
        self.unanswered += len(unknown)
        if unknown:
            self.open[submission] = None
        return submission

    def to_tokenize(self) -> list[Text]:
        """The oldest that are to be tokenized now; the others wait."""
        return [self.untokenized.popleft() for _ in range(min(CHUNK, len(self.untokenized)))]

    def make_ready(self, texts: Sequence[Text]) -> None:
        """They are tokenized."""
        self.ready += texts
        self.ready_tokens += sum(text.length for text in texts)

    @property
    def enough(self) -> bool:
        """Whether what is there is worth a pass beside another one."""
        return bool(self.planned) or self.ready_tokens >= LEAST

    def next_batch(self) -> list[Text]:
        """What the model should do next; nothing where nothing is ready."""
        if not self.planned:
            lengths = [text.length for text in self.ready]
            share = max(LEAST, -(-sum(lengths) // self.replicas))
            batches = plan(lengths, min(self.budget, share))
            for batch in sorted(map(sorted, batches)):
                self.planned.append([self.ready[index] for index in batch])
            self.ready.clear()
            self.ready_tokens = 0
        return self.planned.popleft() if self.planned else []

    def shrink(self, batch: Sequence[Text]) -> list[list[Text]]:
        """The parts of a batch that was too much, under a budget of half of it, or of less where another batch has shrunk it
        meanwhile. What is planned is planned anew."""
        cost = len(batch) * max(text.length for text in batch)
        self.budget = min(self.budget, max(1, cost // 2))
        waiting = self.ready
        again = sorted((text for planned in self.planned for text in planned), key=lambda text: text.number)
        self.planned.clear()
        self.ready, self.ready_tokens = [], 0
        self.make_ready(again + waiting)
        return [[batch[index] for index in part] for part in plan([text.length for text in batch], self.budget)]

    def answer(self, texts: Iterable[Text], results: Iterable[Result]) -> list[Submission]:
        """Notes the answers; those submissions that now have all of theirs."""
        finished = []
        for text, result in zip(texts, results, strict=True):
            submission = text.submission
            submission.answers[text.index] = result
            submission.left -= 1
            self.unanswered -= 1
            if not submission.left:
                finished.append(submission)
                self.open.pop(submission, None)
        return finished

    def drop(self) -> list[Submission]:
        """Gives up all that is not under way; the submissions that will not get all answers, each once."""
        dropped = [*self.untokenized, *self.ready, *(text for batch in self.planned for text in batch)]
        self.unanswered -= len(dropped)
        self.untokenized.clear()
        self.ready.clear()
        self.ready_tokens = 0
        self.planned.clear()
        given_up = list(dict.fromkeys(text.submission for text in dropped if text.submission in self.open))
        for submission in given_up:
            self.open.pop(submission, None)
        return given_up
