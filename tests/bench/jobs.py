"""What a contender is told when it starts, and the table of all contenders. Pure: it is imported in both environments."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HERE = __package__


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the table. `module` and `kind` name its class (see contender.Contender); `peer`: it runs in the peers'
    environment (the others in the main one); `rival`: it is not ours; `warm`: how many texts it warms up with besides the
    sample, None for all of them."""

    name: str
    title: str
    module: str
    kind: str
    precision: str = "auto"
    batch: int = 1
    peer: bool = False
    rival: bool = False
    warm: int | None = None
    runtime: str = "eager"


@dataclass(frozen=True, slots=True)
class Lap:
    """One timed pass over the texts."""

    seconds: float
    cpu_seconds: float
    more: Mapping[str, Any] = field(default_factory=dict)


JOBS = (
    Job("engine", "callpulse engine, as it is by default", f"{HERE}.ours", "engine"),
    Job("engine_fp32", "callpulse engine, fp32", f"{HERE}.ours", "engine", "fp32"),
    Job("engine_compile", "callpulse engine, torch.compile", f"{HERE}.ours", "engine", runtime="compile"),
    Job("engine_onnx", "callpulse engine, ONNX Runtime, fp32", f"{HERE}.ours", "engine", runtime="onnx"),
    Job("bare_forward", "its bare forward pass: the limit", f"{HERE}.ours", "bare"),
    Job("pipeline", "transformers.pipeline, one by one", f"{HERE}.peers", "pipeline", "fp32", rival=True, warm=64),
    Job(
        "pipeline_batch32",
        "transformers.pipeline, batches of 32",
        f"{HERE}.peers",
        "pipeline",
        "fp32",
        32,
        rival=True,
        warm=256,
    ),
    Job("infinity_fp32", "infinity-emb classify, fp32", f"{HERE}.peers", "infinity", "fp32", peer=True, rival=True),
    Job("infinity_bf16", "infinity-emb classify, bf16", f"{HERE}.peers", "infinity", "bf16", peer=True, rival=True),
    Job("onnx_fp32", "ONNX Runtime, fp32, plain loop", f"{HERE}.peers", "onnx", "fp32", peer=True, rival=True),
    Job("onnx_int8", "ONNX Runtime, int8 (dynamic), plain loop", f"{HERE}.peers", "onnx", "int8", peer=True, rival=True),
    Job("compile_bf16", "torch.compile, bf16, plain loop", f"{HERE}.peers", "compiled", "bf16", rival=True),
)
ALWAYS = ("engine", "bare_forward")
REFERENCE = Job("reference", "transformers fp32, each text alone", f"{HERE}.peers", "pipeline", "fp32", warm=0)
CONSUMERS = (
    Job(
        "kafka_python_pipeline",
        "kafka-python consumer, pipeline one by one",
        f"{HERE}.consumer",
        "consumer",
        "fp32",
        rival=True,
    ),
    Job("kafka_python_batch32", "kafka-python consumer, batches of 32", f"{HERE}.consumer", "consumer", "fp32", 32, rival=True),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: distinct texts, rounds, texts that are compared with fp32; messages of the stream, of them those
    that the plain consumers get, and seconds of each paced run."""

    texts: int = 3000
    rounds: int = 5
    sample: int = 1000
    messages: int = 12_000
    plain: int = 1000
    paced_s: float = 15.0


QUICK = Plan(texts=400, rounds=1, sample=200, messages=2000, plain=100, paced_s=3.0)


def wanted(jobs: Sequence[Job], only: Sequence[str], without_peers: bool) -> list[Job]:
    """Those to run: all, or those named and what the others are measured by (`ALWAYS`); without peers ours alone."""
    chosen = [job for job in jobs if not only or job.name in only or job.name in ALWAYS]
    return [job for job in chosen if not (without_peers and job.rival)]


def order(names: Iterable[str], number: int) -> list[str]:
    """Who comes after whom in round `number`: mixed anew in each, so that nobody always follows the same neighbour, and always
    the same way."""
    given = list(names)
    return random.Random(number).sample(given, len(given))
