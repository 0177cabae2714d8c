"""A contender's process: it loads once, and then does as it is told, one JSON object a line in and one out.

{"job", "setup"} -> {"ready": SECONDS} | {"error"}; {"do": "score", "texts"} -> {"rows", "calibrated"};
{"do": "warm"} -> {}; {"do": "run"} -> {"seconds", "cpu_seconds"}: of one pass over the texts. What libraries print goes to
standard error.
"""

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.bench.jobs import Job


@dataclass(frozen=True, slots=True)
class Setup:
    """The same for all contenders. `texts` is a JSON file with a list; `budget` the padded tokens in a batch."""

    model: str
    texts: str
    threads: int
    budget: int

    def read(self) -> list[str]:
        texts: list[str] = json.loads(Path(self.texts).read_text(encoding="utf-8"))
        return texts


class Contender(Protocol):
    """`calibrated`: whether the rows of `score` are probabilities of LABELS after temperature; else they are the softmax of
    the checkpoint's classes, in the order of their ids."""

    calibrated: bool

    def score(self, texts: Sequence[str]) -> list[list[float]]:
        """A row a text, in order; not timed."""

    def run(self, texts: Sequence[str], told: Any) -> dict[str, Any]:
        """What is timed; `told` is the whole request. Returns more to say."""


def serve(inward: Any, outward: Any) -> None:
    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=outward, flush=True)

    try:
        began, first = time.perf_counter(), json.loads(inward.readline())
        job, setup = Job(**first["job"]), Setup(**first["setup"])
        contender: Contender = getattr(importlib.import_module(job.module), job.kind)(job, setup)
        texts = setup.read()
        say({"ready": time.perf_counter() - began})
        for line in inward:
            say(answer(contender, texts, job, json.loads(line)))
    except Exception as error:
        traceback.print_exc()
        say({"error": f"{type(error).__name__}: {error}".splitlines()[0]})


def answer(contender: Contender, texts: Sequence[str], job: Job, told: dict[str, Any]) -> dict[str, Any]:
    if told["do"] == "score":
        return {"rows": contender.score(told["texts"]), "calibrated": contender.calibrated}
    if told["do"] == "warm":
        warm = texts if job.warm is None else texts[: job.warm]
        return contender.run(warm, told) if warm else {}
    cpu, began = time.process_time(), time.perf_counter()
    more = contender.run(texts, told)
    return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu} | more


def main() -> None:
    outward = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, outward)
    outward.flush()
    os._exit(0)  # threads of libraries would hold it


if __name__ == "__main__":
    main()
