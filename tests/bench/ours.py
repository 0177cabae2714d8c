"""callpulse as a contender: the engine, and the bare forward pass that limits it."""

from collections.abc import Sequence
from typing import Any

import models
from models.batching import plan
from models.engine import Engine
from models.transformer import Transformer
from tests.bench.contender import Setup
from tests.bench.jobs import Job


def _load(job: Job, setup: Setup) -> Transformer:
    scorer = models.load(setup.model, budget=setup.budget, threads=setup.threads, precision=job.precision)
    assert isinstance(scorer, Transformer)
    return scorer


class engine:  # noqa: N801 (named like the other kinds)
    """All texts at once through one engine, the cache off."""

    calibrated = True

    def __init__(self, job: Job, setup: Setup) -> None:
        self.engine = Engine(_load(job, setup), cache=0)

    def score(self, texts: Sequence[str]) -> list[list[float]]:
        return [[s.negative, s.neutral, s.positive] for s in self.engine.score(texts)]

    def run(self, texts: Sequence[str], told: Any) -> dict[str, Any]:
        self.engine.score(texts)
        return {"precision": self.engine.precision}


class bare:  # noqa: N801
    """The forward passes alone, of rows tokenized and sorted beforehand, batch after batch under the engine's own budget."""

    calibrated = True

    def __init__(self, job: Job, setup: Setup) -> None:
        self.scorer = _load(job, setup)
        texts = setup.read()
        self.batches, self.size = self._batches(texts), len(texts)

    def _batches(self, texts: Sequence[str]) -> list[list[Any]]:
        rows, _ = self.scorer.tokenize(texts)
        return [[rows[i] for i in batch] for batch in plan([self.scorer.length(r) for r in rows], self.scorer.budget)]

    def score(self, texts: Sequence[str]) -> list[list[float]]:
        return [[s.negative, s.neutral, s.positive] for s in self.scorer.score(texts)]

    def run(self, texts: Sequence[str], told: Any) -> dict[str, Any]:
        if len(texts) != self.size:
            raise ValueError("the bare forward pass has its texts already")
        results = [self.scorer.forward(batch) for batch in self.batches]
        for result in results:
            if wait := getattr(result, "wait", None):  # on CUDA it may still be on its way
                wait()
        return {"precision": self.scorer.precision}
