"""Calibrate a checkpoint on development sets: `python -m models.calibrate --help`.

One temperature divides the logits (Guo et al. 2017, arXiv:1706.04599): the one with the least negative log-likelihood, each set
weighing the same. Then the neutral band: a label other than neutral needs at least the share `least` of the probability that it
and neutral have together. Of the bands with
which at most `--routine` of the routine turns are called something, the one with the best mean macro-F1 over the sets with
neutral rows is taken. Both are stored in the checkpoint's config.json, where models.load finds them.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from models import transformer
from models.errors import ModelError
from models.measures import expected_calibration_error, macro_f1
from models.report import LabelledSet, calibrate, predicted
from models.sentiment import Sentiment, decide

BANDS = [0.0, *(round(0.50 + 0.01 * n, 2) for n in range(1, 46))]
SMALLEST = 1e-12
Rows = list[list[float]]  # probabilities of LABELS, [rows, 3]


@dataclass(frozen=True, slots=True)
class Choice:
    """A temperature and a band with what they give: the mean macro-F1, and the share of routine turns called something."""

    temperature: float
    least: float
    macro_f1: float
    routine: float


def tempered(probabilities: Sequence[float], temperature: float) -> list[float]:
    """The probabilities as they are when the logits are divided by a temperature: powers, normalised."""
    powers = [max(p, SMALLEST) ** (1 / temperature) for p in probabilities]
    return [power / math.fsum(powers) for power in powers]


def loss(one: LabelledSet, rows: Rows, temperature: float) -> float:
    """Mean negative log-likelihood of the labels; in a set without neutral rows of negative against positive."""
    losses = []
    for row, probabilities in zip(one.rows, rows, strict=True):
        if row.label is not None and not (one.binary and row.label == 1):
            p = tempered(probabilities, temperature)
            losses.append(-math.log(p[row.label] / (p[0] + p[2] if one.binary else 1)))
    return math.fsum(losses) / len(losses)


def fit(sets: Sequence[LabelledSet], rows: Sequence[Rows], low: float = 0.25, high: float = 4.0) -> float:
    """The temperature with the least mean loss, by golden sections: the loss has one minimum. Rounded to a hundredth."""
    golden = (math.sqrt(5) - 1) / 2

    def mean(temperature: float) -> float:
        return math.fsum(loss(one, r, temperature) for one, r in zip(sets, rows, strict=True))

    while high - low > 0.005:
        inner, outer = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, outer) if mean(inner) < mean(outer) else (inner, high)
    return round((low + high) / 2, 2)


def choose(sets: Sequence[LabelledSet], rows: Sequence[Rows], temperature: float, most: float) -> Choice:
    """The band; where none keeps the routine turns within `most`, the one that comes nearest to it."""
    scaled = [[tempered(p, temperature) for p in r] for r in rows]
    choices = [_with_band(sets, scaled, temperature, least) for least in BANDS]
    good = [choice for choice in choices if choice.routine <= most]
    return max(good, key=lambda choice: choice.macro_f1) if good else min(choices, key=lambda choice: choice.routine)


def _with_band(sets: Sequence[LabelledSet], scaled: Sequence[Rows], temperature: float, least: float) -> Choice:
    scores, routine, said = [], 0, 0
    for one, rows in zip(sets, scaled, strict=True):
        labels = [decide(p, least=least) for p in rows]
        if not one.binary:
            rows_of_it = [(gold, predicted(s, binary=False)) for gold, s, _ in one.measured(labels)]
            scores.append(macro_f1([gold for gold, _ in rows_of_it], [said for _, said in rows_of_it]))
        of_routine = [s.label != "neutral" for row, s in zip(one.rows, labels, strict=True) if row.routine]
        routine, said = routine + len(of_routine), said + sum(of_routine)
    return Choice(temperature, least, round(math.fsum(scores) / max(1, len(scores)), 4), round(said / max(1, routine), 4))


def errors(one: LabelledSet, rows: Rows, temperature: float) -> float:
    """The expected calibration error at a temperature."""
    scores: list[Sentiment] = [decide(tempered(p, temperature)) for p in rows]
    return expected_calibration_error(calibrate(one, scores))


def store(folder: Path, choice: Choice) -> None:
    """Into config.json; the checkpoint's revision changes with it."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["callpulse"] = {"temperature": choice.temperature, "least": choice.least}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    from models.evaluate import fail, read_sets, tell

    parser = argparse.ArgumentParser(
        prog="python -m models.calibrate",
        description="Fit a checkpoint's temperature and neutral band on development sets, and store them in its config.json.",
        epilog="example:\n  python -m models.calibrate checkpoint/ turns_dev.jsonl reviews_dev.jsonl.gz --binary films.jsonl",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="labelled JSON Lines")
    parser.add_argument("--binary", type=Path, action="append", default=[], metavar="FILE", help="without its neutral rows")
    parser.add_argument("--routine", type=float, default=0.04, help="share of routine turns called something (%(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="store nothing")
    asked = parser.parse_args(arguments)
    try:
        sets = [*read_sets(asked.files), *read_sets(asked.binary, binary=True)]
    except ValueError as error:
        fail(error, 2)
    try:
        scorer = transformer.load(asked.checkpoint, "auto")
    except ModelError as error:
        fail(error, 1)
    if len(set(scorer.classes)) < len(scorer.classes):
        fail(ValueError(f"{asked.checkpoint}: several classes mean one label, whose logits no temperature can be fitted to"), 1)
    if not any(row.routine for one in sets for row in one.rows):
        tell("no routine turns in these files: --routine bounds nothing")
    rows = []
    for one in sets:
        tell(f"{one.name}: {len(one.rows):,} rows")
        rows.append([[s.negative, s.neutral, s.positive] for s in scorer.score(one.texts)])
    rows = [[tempered(p, 1 / scorer.temperature) for p in r] for r in rows]  # what is stored already is taken away
    temperature = fit(sets, rows)
    choice = choose(sets, rows, temperature, asked.routine)
    if not asked.dry_run:
        store(asked.checkpoint, choice)
    before_after = {
        one.name: [round(errors(one, r, t), 4) for t in (1.0, temperature)] for one, r in zip(sets, rows, strict=True)
    }
    print(json.dumps({**asdict(choice), "expected_calibration_error": before_after}))


if __name__ == "__main__":
    main()
