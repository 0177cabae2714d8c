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


class bare(engine):  # noqa: N801
    """The forward passes alone, of rows tokenized and sorted beforehand, batch after batch under the engine's own budget.

    The engine is there, idle: OpenMP waits otherwise where a process has no more threads than the machine has processors
    (libgomp spins, and sleeps where it has more), and the limit must be measured as the engine computes.
    """

    def __init__(self, job: Job, setup: Setup) -> None:
        super().__init__(job, setup)
        self.scorer: Transformer = self.engine.scorer  # type: ignore[assignment]
        rows, _ = self.scorer.tokenize(setup.read())
        batches = plan([self.scorer.length(row) for row in rows], self.scorer.budget)
        self.batches = [[rows[index] for index in batch] for batch in batches]

    def run(self, texts: Sequence[str], told: Any) -> dict[str, Any]:
        """Of all texts of the setup, whatever is given."""
        for result in [self.scorer.forward(batch) for batch in self.batches]:
            if wait := getattr(result, "wait", None):  # on CUDA it may still be on its way
                wait()
        return {"precision": self.scorer.precision}
