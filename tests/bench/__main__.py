"""`make bench`: the engine, its limit, its peers and the whole stream, on the same checkpoint, texts and threads, in one run.

Every contender is a process of its own, started once and warm; each round, each has its turn at the same texts, in a changing
order, and the others stand still meanwhile. Figures are medians of the rounds; no cache anywhere. A contender counts as a peer
where its scores agree with fp32 (99.5 % of the labels, 0.01 of the score). The whole stream and its delays are measured on
Apache Kafka, where KAFKA_HOME names a download. Where CALLPULSE_DATA names a folder with dev/*.jsonl.gz, agreement is taken
on those texts.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

import models
from models.batching import BUDGETS
from models.report import Agreement, agree
from models.sentiment import Sentiment
from tests.bench import streaming
from tests.bench.contender import Setup
from tests.bench.jobs import CONSUMERS, JOBS, QUICK, REFERENCE, Job, Plan, wanted
from tests.bench.race import ContenderError, Lineup, Process, tell
from tests.bench.table import Calibration, Row, flat, lines
from tests.bench.texts import bars, compared, drawn, histogram, turns


def folder_of(model: str) -> Path:
    return Path(models.__file__).parent / "default" if model == "default" else Path(model).expanduser().resolve()


def calibration_of(folder: Path) -> Calibration:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names, stored = config["id2label"], config.get("callpulse", {})
    return Calibration([names[str(index)] for index in range(len(names))], **stored)


def token_lengths(folder: Path, texts: Sequence[str]) -> list[int]:
    """Special tokens included."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]


@dataclass
class Compared:
    """Agreement with the same model in fp32, each text by itself, by transformers."""

    sample: Sequence[str]
    calibration: Calibration
    reference: Sequence[Sentiment]

    def of(self, process: Process) -> Agreement:
        return agree(process.job.name, self.reference, scored(process, self.sample, self.calibration))


def scored(process: Process, texts: Sequence[str], calibration: Calibration) -> list[Sentiment]:
    answer = process.ask("score", texts=list(texts))
    return calibration.sentiments(answer["rows"], answer["calibrated"])


def compared_with(setup: Setup, folder: Path, sample: Sequence[str]) -> Compared:
    calibration = calibration_of(Path(setup.model))
    tell(f"the reference: {REFERENCE.title}")
    process = Process(REFERENCE, setup, folder / "reference.log")
    try:
        return Compared(sample, calibration, scored(process, sample, calibration))
    finally:
        process.end()


def measure(options: argparse.Namespace, plan: Plan, folder: Path) -> tuple[dict[str, object], list[str]]:
    """The flat object, and the lines to print."""
    texts = drawn(turns(), plan.texts)
    data = Path(os.environ["CALLPULSE_DATA"]) if os.environ.get("CALLPULSE_DATA") else None
    setup = Setup(str(folder_of(options.model)), str(folder / "texts.json"), options.threads, BUDGETS["cpu"])
    Path(setup.texts).write_text(json.dumps(texts), encoding="utf-8")
    lengths, sample = token_lengths(Path(setup.model), texts), compared(texts, data, plan.sample)
    figures: dict[str, object] = {
        "distinct_texts": len(texts),
        "tokens": sum(lengths),
        "tokens_a_text": round(sum(lengths) / len(texts), 2),
        "rounds": plan.rounds,
        "threads": setup.threads,
        "batch_tokens": setup.budget,
        "model": options.model,
        "compared_texts": len(sample),
        "compared_with": "dev/*.jsonl.gz of CALLPULSE_DATA" if data else "the texts",
    }
    shown = ["tokens a text, special ones included:", *bars(histogram(lengths)), ""]
    comparing, agreements = compared_with(setup, folder, sample), dict[str, Agreement]()

    def warm(process: Process) -> None:
        agreements[process.job.name] = comparing.of(process)
        process.ask("warm")

    jobs = wanted(JOBS, options.only, options.without_peers)
    with Lineup(setup, folder) as lineup:
        lineup.start(jobs, warm)
        race(lineup, jobs, plan.rounds)
        rows = [
            Row(job, lineup.laps[job.name], len(texts), sum(lengths), agreements.get(job.name)) for job in ran(lineup, jobs)
        ]
        figures |= flat(rows)
        figures["engine_precision"] = rows[0].laps[-1].more.get("precision") if rows else None
        shown += [f"the engine by default: {figures['engine_precision']}", *lines(rows, lineup.left_out)]
        if not options.without_stream:
            streamed, told = streaming.measure(lineup, plan, texts, options)
            figures |= streamed
            shown += ["", *told]
        figures |= {f"{name}_left_out": why for name, why in lineup.left_out.items()}
    return figures, shown


def ran(lineup: Lineup, jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if lineup.laps.get(job.name)]


def race(lineup: Lineup, jobs: Sequence[Job], rounds: int) -> None:
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        lineup.round(number, lineup.races([job.name for job in jobs]))


def options_of(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Plan]:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add, full = parser.add_argument, Plan()
    add("--quick", action="store_true", help="some three minutes, to see that all runs: the figures are no results")
    add("--texts", type=int, help=f"distinct texts (default: {full.texts})")
    add("--rounds", type=int, help=f"rounds, of which medians are taken (default: {full.rounds})")
    add("--messages", type=int, help=f"messages in each run of the stream (default: {full.messages})")
    add(
        "--only",
        type=lambda names: names.split(","),
        default=[],
        help="these rows, and engine and bare_forward: pipeline,onnx_int8",
    )
    add("--without-peers", action="store_true", help="ours alone")
    add("--without-stream", action="store_true", help="the model alone, no Kafka")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
    add("--model", default="default", help="default, or a folder with a checkpoint")
    add("--out", type=Path, default=Path("bench.json"))
    given = parser.parse_args(arguments)
    if unknown := set(given.only) - {job.name for job in (*JOBS, *CONSUMERS)}:
        parser.error(
            f"--only: no row is called {', '.join(sorted(unknown))}; there are {', '.join(j.name for j in (*JOBS, *CONSUMERS))}"
        )
    base = QUICK if given.quick else full
    said = {name: value for name in ("texts", "rounds", "messages") if (value := getattr(given, name)) is not None}
    return given, Plan(**{name: getattr(base, name) for name in Plan.__slots__} | said)


def main(arguments: Sequence[str] | None = None) -> None:
    options, plan = options_of(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            figures, shown = measure(options, plan, Path(folder))
    except ContenderError as error:
        sys.exit(f"make bench: {error}")
    options.out.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join(shown))


if __name__ == "__main__":
    main()
