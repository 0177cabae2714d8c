"""Contenders for the tests of the bench: they load nothing."""

from collections.abc import Sequence
from typing import Any

from tests.bench.contender import Setup
from tests.bench.jobs import Job


class Echo:
    """Says what it is asked, and prints as libraries do."""

    calibrated = True

    def __init__(self, job: Job, setup: Setup) -> None:
        print("loading", job.name)
        self.texts = setup.read()

    def score(self, texts: Sequence[str]) -> list[list[float]]:
        return [[0.0, 0.0, float(len(text))] for text in texts]

    def run(self, texts: Sequence[str], told: Any) -> dict[str, Any]:
        print("running")
        return {"texts": len(texts), "told": told}


class Broken(Echo):
    """Loads, and fails when it is run."""

    def run(self, texts: Sequence[str], told: Any) -> dict[str, Any]:
        raise RuntimeError("out of order\nand more")


class Dying(Echo):
    """Ends its process when it is run."""

    def run(self, texts: Sequence[str], told: Any) -> dict[str, Any]:
        raise SystemExit("gone")
