"""The second half of `make bench`: the whole stream on Apache Kafka, against the engine, its limit and a plain consumer.

The input is loaded beforehand and every turn is scored. Rounds go in turn as in the first half; engine and bare forward run
again beside it, so that a ratio compares figures of the same minutes.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from kafka.errors import KafkaError

from streams.records import Record
from streams.settings import Settings
from tests.bench import hosted, paced
from tests.bench.jobs import CONSUMERS, Lap, Plan, wanted
from tests.bench.race import ContenderError, Lineup, Process, environment, tell
from tests.bench.stream import WORKER, StreamError, prepare, streamed, turns_of
from tests.broker.apache import Node, apache_kafka

HOSTED = (WORKER[0], "-m", "tests.bench.hosted", "worker")


def measure(
    lineup: Lineup, plan: Plan, texts: Sequence[str], options: argparse.Namespace
) -> tuple[dict[str, object], list[str]]:
    """Figures for bench.json, and lines to print."""
    home = os.environ.get("KAFKA_HOME")
    if not home:
        return {"stream_left_out": "KAFKA_HOME is not set"}, [
            "the stream: left out: set KAFKA_HOME to a download of Apache Kafka"
        ]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tell("starting Apache Kafka")
        node = stack.enter_context(apache_kafka(Path(home), folder))
        settings = Settings(
            node.bootstrap,
            model=options.model if options.model == "default" else lineup.setup.model,
            threads=lineup.setup.threads,
            start="earliest",
            web_port=0,
            log_level="warning",
            cached_texts=0,
        )
        return _measured(Stage(lineup, plan, texts, settings, node, folder), options)


@dataclass
class Stage:
    """What the rounds of the stream need, and what they leave: the parts' processor time and the broker's, in us a message."""

    lineup: Lineup
    plan: Plan
    texts: Sequence[str]
    settings: Settings
    node: Node
    folder: Path
    parts_us: list[Mapping[str, float]] = field(default_factory=list)
    broker_us: list[float] = field(default_factory=list)

    def round(self, number: int) -> None:
        settings = replace(self.settings, prefix=f"bench-{number}.", group=f"bench-{number}")
        prepare(settings, self._records())
        running = self.lineup.running
        races: dict[str, Callable[[], Lap]] = {"stream": lambda: self._stream(settings)}
        for name in ("engine", "bare_forward"):
            if name in running:
                races[f"{name}_beside"] = running[name].lap
        for job in CONSUMERS:
            if job.name in running:
                races[job.name] = lambda name=job.name: running[name].lap(**self._told(settings, name))  # type: ignore[misc]
        self.lineup.round(number, races)

    def _records(self) -> list[Record]:
        return turns_of(self.texts, self.plan.messages)

    def _told(self, settings: Settings, name: str) -> dict[str, object]:
        return {
            "bootstrap": settings.bootstrap_servers,
            "topic": settings.topic("segments"),
            "out": settings.topic("rejected"),  # a topic that is there, and that nobody reads
            "group": f"{settings.group}-{name}",
            "count": self.plan.plain,
        }

    def _stream(self, settings: Settings) -> Lap:
        """One run of a worker; raises ContenderError where it fails."""
        notes, seen = self.folder / f"{settings.group}.threads", list[tuple[int, float]]()
        added = environment(self.lineup.setup.threads) | {hosted.FILE: str(notes)}
        try:
            run = streamed(settings, self.plan.messages, HOSTED, lambda done: seen.append((done, self._broker())), added)
        except (StreamError, KafkaError) as error:
            raise ContenderError(str(error)) from error
        parts = hosted.spent(hosted.read(notes), run.begun, run.ended)
        self.parts_us.append({name: 1e6 * seconds / run.messages for name, seconds in parts.items()})
        self.broker_us.append(1e6 * per_message(seen))
        return Lap(run.seconds * self.plan.messages / run.messages, sum(parts.values()))

    def _broker(self) -> float:
        assert self.node.process
        return process_seconds(self.node.process.pid)


def process_seconds(pid: int) -> float:
    """The processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def per_message(seen: Sequence[tuple[int, float]]) -> float:
    """Processor seconds a message, from (messages done, processor seconds so far), from when the first were done."""
    begun = [pair for pair in seen if pair[0]]
    if len(begun) < 2 or begun[-1][0] == begun[0][0]:
        return 0.0
    return (begun[-1][1] - begun[0][1]) / (begun[-1][0] - begun[0][0])


def _measured(stage: Stage, options: argparse.Namespace) -> tuple[dict[str, object], list[str]]:
    lineup, plan = stage.lineup, stage.plan

    def warm(process: Process) -> None:
        process.ask("score", texts=list(stage.texts[:64]))

    lineup.start(wanted(CONSUMERS, options.only, options.without_peers), warm)
    for number in range(plan.rounds):
        tell(f"stream, round {number + 1} of {plan.rounds}")
        stage.round(number)
    figures = found(lineup.laps, plan, len(stage.texts)) | costs(stage.parts_us, stage.broker_us)
    if per_s := figures.get("stream_per_s"):
        for name in list(lineup.running):
            lineup.drop(name)
        settings = replace(stage.settings, prefix="paced.", group="paced")
        try:
            figures |= paced.measure(settings, per_s, stage.texts, plan.paced_s)
        except (StreamError, KafkaError) as error:
            lineup.left_out["paced"] = str(error)
    return dict(figures), told(figures)


def found(laps: Mapping[str, Sequence[Lap]], plan: Plan, texts: int) -> dict[str, float]:
    """Throughputs, medians of the rounds, and ratios; without those who did not run."""
    sizes = {"stream": plan.messages, "engine_beside": texts, "bare_forward_beside": texts}
    sizes |= {job.name: plan.plain for job in CONSUMERS}
    per_s = {n: size / median(lap.seconds for lap in laps[n]) for n, size in sizes.items() if laps.get(n)}
    ratios = {
        f"stream_of_{n.removesuffix('_beside')}": per_s["stream"] / v
        for n, v in per_s.items()
        if n != "stream" and "stream" in per_s
    }
    return {f"{n}_per_s": round(v, 1) for n, v in per_s.items()} | {n: round(v, 3) for n, v in ratios.items()}


def costs(parts: Sequence[Mapping[str, float]], broker: Sequence[float]) -> dict[str, float]:
    """Processor time a message in us, medians of the rounds: outside of the model, and where it goes."""
    if not parts:
        return {}
    names = sorted({name for one in parts for name in one})
    by_part = {f"stream_us_{name}": round(median(one.get(name, 0.0) for one in parts), 1) for name in names}
    total = round(median(map(hosted.outside, parts)), 1)
    return {"stream_us_outside_model": total} | by_part | {"broker_us": round(median(broker), 1)}


def told(figures: Mapping[str, float]) -> list[str]:
    width = max(map(len, figures), default=0)
    return ["the whole stream on Apache Kafka:", *(f"  {name.ljust(width)}  {value:,}" for name, value in figures.items())]
