"""A scorer in stages that fails as it is told, and remembers what it was asked: no torch."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from models.sentiment import LexiconScorer, Sentiment

STAGES = ("tokenize", "forward", "decode")


class OutOfMemoryError(RuntimeError):
    """As torch.cuda.OutOfMemoryError."""


@dataclass
class Staged(LexiconScorer):
    """A token is a word; a text's answer is the lexicon's. `poison` says at which words a stage raises; a batch of more than
    `memory` padded tokens does not fit the device. While `gate` is not set, no forward pass begins."""

    budget: int = 64
    memory: int = 10**9
    poison: dict[str, str] = field(default_factory=dict)
    replicas: int = 1
    exhausted: tuple[type[Exception], ...] = (OutOfMemoryError,)
    batches: list[list[str]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    threads: set[int] = field(default_factory=set)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self.gate.set()

    def begin(self) -> None:
        self.threads.add(threading.get_ident())

    def _check(self, stage: str, texts: Sequence[str]) -> None:
        word = self.poison.get(stage)
        if word is not None and any(word in text.split() for text in texts):
            raise ValueError(f"the secret is {texts}")

    def tokenize(self, texts: Sequence[str]) -> tuple[list[str], list[bool]]:
        self._check("tokenize", texts)
        return list(texts), ["long" in text for text in texts]

    def length(self, row: str) -> int:
        return max(1, len(row.split()))

    def forward(self, rows: Sequence[str]) -> list[str]:
        self.begun.release()
        assert self.gate.wait(20)
        self.batches.append(list(rows))
        if len(rows) * max(map(self.length, rows)) > self.memory:
            raise OutOfMemoryError(f"no room for {rows}")
        self._check("forward", rows)
        return list(rows)

    def wait(self, logits: Sequence[str]) -> None:
        self._check("wait", logits)

    def decode(self, logits: Sequence[str], truncated: Sequence[bool]) -> list[Sentiment]:
        self._check("decode", logits)
        assert list(truncated) == ["long" in text for text in logits]
        return LexiconScorer().score(logits)

    def score(self, texts: Sequence[str]) -> list[Sentiment]:
        rows, truncated = self.tokenize(texts)
        return self.decode(self.forward(rows), truncated) if rows else []
