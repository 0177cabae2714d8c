"""callpulse as a contender: the engine, and the bare forward pass that limits it."""

import gc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import models
from models.batching import plan
from models.engine import Engine
from models.packed import Pending
from models.transformer import Transformer
from tests.bench.contender import Setup
from tests.bench.jobs import Job


def _load(job: Job, setup: Setup) -> Transformer:
    options = {"budget": setup.budget, "threads": setup.threads}
    scorer = models.load(setup.model, precision=job.precision, runtime=job.runtime, **options)
    assert isinstance(scorer, Transformer)
    return scorer


class engine:  # noqa: N801 (named like the other kinds)
    """All texts at once through one engine, the cache off."""

    calibrated = True

    def __init__(self, job: Job, setup: Setup) -> None:
        self.engine = Engine(_load(job, setup), cache=0)
        gc.freeze()  # as a worker does

    def score(self, texts: Sequence[str]) -> list[list[float]]:
        return [[s.negative, s.neutral, s.positive] for s in self.engine.score(texts)]

    def run(self, texts: Sequence[str], told: Any) -> dict[str, Any]:
        self.engine.score(texts)
        return {"precision": self.engine.precision}


class bare(engine):  # noqa: N801
    """The forward passes alone, of rows tokenized and sorted beforehand, batch after batch under the engine's own budget, on as
    many threads as the engine computes on."""

    def __init__(self, job: Job, setup: Setup) -> None:
        self.scorer = _load(job, setup)
        self.engine = Engine(self.scorer, cache=0)
        self.threads = ThreadPoolExecutor(self.scorer.replicas, initializer=self.scorer.begin)
        rows, _ = self.scorer.tokenize(setup.read())
        batches = plan([self.scorer.length(row) for row in rows], self.scorer.budget)
        self.batches = [[rows[index] for index in batch] for batch in batches]

    def run(self, texts: Sequence[str], told: Any) -> dict[str, Any]:
        """Of all texts of the setup, whatever is given."""
        for result in list(self.threads.map(self.scorer.forward, self.batches)):
            if isinstance(result, Pending):  # on CUDA it may still be on its way
                result.wait()
        return {"precision": self.scorer.precision}
