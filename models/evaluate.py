"""Measure a sentiment checkpoint on labelled text: `python -m models.evaluate --help`, or `callpulse evaluate --help`.

Data files are JSON Lines as models.examples reads them. Labels are measured as they are shipped (Sentiment.label, which may be
neutral for want of evidence); calibration is that of the most probable class, before that band. A set without neutral rows is
measured as negative or positive: P(positive) against P(negative), negative where they are equal.
"""

import argparse
import importlib
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import models
from models.engine import Engine
from models.errors import ModelError
from models.examples import read_examples
from models.measures import expected_calibration_error, percentile
from models.report import (
    NEUTRAL,
    Agreement,
    LabelledSet,
    Report,
    SetReport,
    Size,
    Speed,
    agree,
    calibrate,
    calibration_interval,
    figures,
    to_text,
    wrong,
)
from models.sentiment import Label, Scorer, Sentiment

CHUNK = 500  # texts scored between two lines of progress
TIMED = 200  # texts scored one by one, at most
EXAMPLES = """examples:
  python -m models.evaluate held_out.jsonl
  python -m models.evaluate turns.jsonl reviews.jsonl.gz --model checkpoint/ --vader --plot reliability.png --json"""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What to load, and how: the arguments of models.load."""

    name: str = "default"
    device: str = "auto"
    labels: Sequence[str] | None = None
    budget: int | None = None
    threads: int | None = None
    precision: str = "auto"
    runtime: str = "eager"

    def load(self) -> Scorer:
        """The scorer. Raises ModelError."""
        options = {"labels": self.labels, "budget": self.budget, "threads": self.threads}
        return models.load(self.name, self.device, precision=self.precision, runtime=self.runtime, **options)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to do beyond measuring labels. `agreement`: a precision to compare with eager's fp32; `errors`: how many wrong
    rows of a set to show; `plot`: a PNG file to write."""

    vader: bool = False
    agreement: str | None = None
    errors: int = 0
    plot: Path | None = None


class VaderScorer:
    """VADER (Hutto and Gilbert 2014, ICWSM), a lexicon of English: the floor. `score` is its compound, and the label turns
    where its authors say, at .05 and -.05; the probabilities are made up from the compound. Raises ModelError where the
    package is missing."""

    name = "vader"
    precision = "exact"

    def __init__(self) -> None:
        self._analyser = needed("vaderSentiment.vaderSentiment", "--vader").SentimentIntensityAnalyzer()
        self.revision = metadata.version("vaderSentiment")

    def score(self, texts: Sequence[str]) -> list[Sentiment]:
        return [self._score(self._analyser.polarity_scores(text)["compound"]) for text in texts]

    def _score(self, compound: float) -> Sentiment:
        label: Label = "positive" if compound >= 0.05 else "negative" if compound <= -0.05 else "neutral"
        return Sentiment(label, compound, max(-compound, 0.0), 1 - abs(compound), max(compound, 0.0))


def needed(module: str, by: str) -> Any:
    """A module of the extra `evaluate`, imported; raises ModelError with the way out where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelError(f"{by} needs {module.split('.')[0]}: pip install '.[evaluate]' ({error})") from error


def read_sets(files: Iterable[Path], binary: bool = False) -> list[LabelledSet]:
    """The files as sets; raises ValueError, naming the file, and the line where there is one, for what cannot be measured."""
    return [_read_set(path, binary) for path in files]


def _read_set(path: Path, binary: bool) -> LabelledSet:
    try:
        rows = read_examples(path)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:  # these do not say which file
        raise ValueError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    seen = {row.label for row in rows}
    if not seen:
        raise ValueError(f"{path}: no rows")
    if binary and seen == {NEUTRAL}:
        raise ValueError(f"{path}: only neutral rows, of which --binary leaves none")
    return LabelledSet(str(path), rows, binary or NEUTRAL not in seen)


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Scorers:
    """The scorer to measure, and those to set beside it: VADER, and the same checkpoint in eager's fp32 and in another
    precision."""

    model: Scorer
    vader: Scorer | None
    pair: tuple[Scorer, Scorer] | None


def evaluate(
    checkpoint: Checkpoint, sets: Sequence[LabelledSet], wanted: Wanted, clock: Callable[[], float] = time.perf_counter
) -> Report:
    """The checkpoint on sets from read_sets, at least one; `clock` is in seconds. Raises ModelError."""
    if wanted.plot:
        needed("matplotlib.figure", "--plot")  # before the work, not after it
    scorers = load(checkpoint, wanted)
    times = one_by_one(scorers.model, [text for one in sets for text in one.texts], clock)
    reports = [measure(one, scorers, wanted, clock) for one in sets]
    if wanted.plot:
        plot(reports, wanted.plot)
    bulk = sum(len(one.rows) for one in sets) / max(sum(one.seconds for one in reports), 1e-9)
    speed = Speed(len(times), percentile(times, 0.5), percentile(times, 0.99), bulk)
    model = scorers.model
    return Report(model.name, model.revision, model.precision, getattr(model, "device", "cpu"), size(model), speed, reports)


def load(checkpoint: Checkpoint, wanted: Wanted) -> Scorers:
    """All that is wanted, before any work; a scorer that is one of the two to compare is not loaded again."""
    vader = VaderScorer() if wanted.vader else None
    model = checkpoint.load()
    if wanted.agreement is None:
        return Scorers(model, vader, None)
    own = replace(checkpoint, precision=model.precision.partition("-")[0])
    pair = replace(checkpoint, precision="fp32", runtime="eager"), replace(checkpoint, precision=wanted.agreement)
    fp32, other = (model if one == own else one.load() for one in pair)
    return Scorers(model, vader, (fp32, other))


def one_by_one(scorer: Scorer, texts: Sequence[str], clock: Callable[[], float]) -> list[float]:
    """Milliseconds that each of at most 200 texts takes by itself; they are spread over all of the texts."""
    times = []
    with Engine(scorer, cache=0) as engine:
        engine.score(texts[:1])  # the first call pays for what is set up once
        for text in texts[:: -(-len(texts) // TIMED)]:
            began = clock()
            engine.score([text])
            times.append(1000 * (clock() - began))
    return times


def size(scorer: Scorer) -> Size | None:
    """Of a loaded checkpoint; None for a scorer without weights."""
    model: Any = getattr(scorer, "model", None)
    if model is None:
        return None
    files = Path(model.name_or_path).glob("*.safetensors")
    return Size(sum(p.numel() for p in model.parameters()), sum(path.stat().st_size for path in files) / 1e6)


def measure(one: LabelledSet, scorers: Scorers, wanted: Wanted, clock: Callable[[], float]) -> SetReport:
    """All that is wanted of one set."""
    began = clock()
    scores = score(scorers.model, one)
    seconds = clock() - began
    bins = calibrate(one, scores)
    return SetReport(
        name=one.name,
        binary=one.binary,
        seconds=seconds,
        model=figures(scorers.model.name, one, scores),
        expected_calibration_error=expected_calibration_error(bins),
        expected_calibration_error_interval=calibration_interval(one, scores),
        calibration=bins,
        vader=figures(scorers.vader.name, one, score(scorers.vader, one)) if scorers.vader else None,
        agreement=agreement(scorers, one, scores),
        errors=wrong(one, scores)[: max(wanted.errors, 0)],
    )


def agreement(scorers: Scorers, one: LabelledSet, scores: Sequence[Sentiment]) -> Agreement | None:
    """Of the pair, where there is one; `scores` are those of the model, which may be one of the two."""
    if scorers.pair is None:
        return None
    fp32, other = (scores if scorer is scorers.model else score(scorer, one) for scorer in scorers.pair)
    return agree(scorers.pair[1].precision, fp32, other)


def score(scorer: Scorer, one: LabelledSet) -> list[Sentiment]:
    """The scores of all rows; progress of a long set goes to standard error."""
    scores: list[Sentiment] = []
    with Engine(scorer, cache=0) as engine:
        for start in range(0, len(one.rows), CHUNK):
            scores += engine.score(one.texts[start : start + CHUNK])
            if len(one.rows) > CHUNK:
                tell(f"{one.name}: {scorer.name} {scorer.precision} {len(scores):,} of {len(one.rows):,} rows")
    return scores


def plot(reports: Sequence[SetReport], path: Path) -> None:
    """Writes a reliability diagram (Guo et al. 2017, figure 1), a line a set, as PNG; raises ModelError."""
    figure = needed("matplotlib.figure", "--plot").Figure(figsize=(6, 6), layout="constrained")
    needed("matplotlib.backends.backend_agg", "--plot").FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="confidence", ylabel="share that is right", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", label="perfect calibration")
    for one in reports:
        bins = [b for b in one.calibration if b.rows]
        name = Path(one.name).name.replace("$", r"\$")  # dollars would be read as mathematics
        label = f"{name}, ECE {one.expected_calibration_error:.3f}"
        axes.plot([b.confidence for b in bins], [b.accuracy for b in bins], marker="o", label=label)
    figure.legend(loc="outside upper center")
    try:
        figure.savefig(path, format="png", dpi=150)
    except OSError as error:
        raise ModelError(f"--plot: {path}: {error.strerror}") from error


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.evaluate",
        description="Measure a sentiment checkpoint on labelled JSON Lines: F1, accuracy, calibration, speed and size.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("files", type=Path, nargs="+", metavar="FILE", help='lines {"text": ..., "label": negative, neutral or positive}')
    add("--model", default="default", help="checkpoint: default, a folder, a hub name or lexicon (default: %(default)s)")
    add("--labels", type=lambda text: text.split(","), help="the checkpoint's classes in order, separated by commas")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    add("--binary", action="store_true", help="leave neutral rows out, compare P(positive) with P(negative)")
    add("--vader", action="store_true", help="the lexicon VADER beside it, as the floor (English only)")
    add("--agreement", choices=["fp32", "bf16"], help="compare eager's scores in fp32 with those in this precision")
    add("--errors", type=int, default=0, metavar="N", help="show the text of the N most confident wrong rows of each set")
    add("--plot", type=Path, metavar="PNG", help="write a reliability diagram")
    add("--json", action="store_true", help="print one object with all figures")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit codes: 0 done, 1 a model or an extra that cannot be used, 2 wrong usage or a file that cannot be measured."""
    given = parser().parse_args(arguments)
    try:
        sets = read_sets(given.files, given.binary)
    except ValueError as error:
        fail(error, 2)
    try:
        wanted = Wanted(given.vader, given.agreement, given.errors, given.plot)
        report = evaluate(Checkpoint(given.model, given.device, given.labels), sets, wanted)
    except ModelError as error:
        fail(error, 1)
    print(json.dumps(asdict(report), ensure_ascii=False) if given.json else to_text(report))


def fail(error: Exception, code: int) -> NoReturn:
    tell(f"{Path(sys.argv[0]).stem}: {error}")
    sys.exit(code)


if __name__ == "__main__":
    main()
