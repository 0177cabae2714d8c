"""From the scores of labelled rows to figures, and from figures to plain text. Pure; models.evaluate gets the scores.

Shares, F1 and probabilities are in [0, 1]. The only text of a row is in `Wrong`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models import measures
from models.examples import Example
from models.measures import Bin, ClassFigures, Interval
from models.sentiment import LABELS, Label, Sentiment

SMALL = 700  # a set with fewer rows gets intervals
NEGATIVE, NEUTRAL, POSITIVE = range(len(LABELS))


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """The rows of a file. Where `binary`, neutral rows are left out, but for the figure of routine turns."""

    name: str
    rows: Sequence[Example]
    binary: bool

    @property
    def texts(self) -> list[str]:
        return [row.text for row in self.rows]

    def measured(self, scores: Sequence[Sentiment]) -> list[tuple[int, Sentiment, str]]:
        """Gold label, score and text of each row that counts."""
        rows = ((row.label, score, row.text) for row, score in zip(self.rows, scores, strict=True))
        return [(gold, s, text) for gold, s, text in rows if gold is not None and not (self.binary and gold == NEUTRAL)]


@dataclass(frozen=True, slots=True)
class Routine:
    """Turns in which nothing happens (Example.routine), and the shares of them that are called something all the same."""

    rows: int
    negative: float
    positive: float


@dataclass(frozen=True, slots=True)
class Figures:
    """A scorer on a set, by the labels as shipped. `confusion` counts rows by [gold][predicted], in the order of LABELS; the
    intervals are of 95 %, and None for a set that is large enough without; `routine` is None for a set without such turns."""

    scorer: str
    rows: int
    macro_f1: float
    macro_f1_interval: Interval | None
    accuracy: float
    accuracy_interval: Interval | None
    classes: list[ClassFigures]
    confusion: list[list[int]]
    routine: Routine | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """fp32 beside another precision, over all rows of a set: the share of equal labels, and the mean distance of the scores,
    in [0, 2]."""

    precision: str
    equal_labels: float
    mean_score_difference: float


@dataclass(frozen=True, slots=True)
class Wrong:
    """A row whose label is wrong; `confidence` is the probability of the label that was predicted."""

    text: str
    gold: Label
    predicted: Label
    confidence: float


@dataclass(frozen=True, slots=True)
class SetReport:
    """A set. `binary`: negative against positive only. Calibration is the model's, from its probabilities before any band of
    neutral. `vader`, `agreement` and `errors` are there where they were asked for. The model took `seconds`."""

    name: str
    binary: bool
    seconds: float
    model: Figures
    expected_calibration_error: float
    expected_calibration_error_interval: Interval | None
    calibration: list[Bin]
    vader: Figures | None
    agreement: Agreement | None
    errors: list[Wrong]


@dataclass(frozen=True, slots=True)
class Speed:
    """Milliseconds a text for `texts` texts one by one, and texts a second in bulk."""

    texts: int
    p50_ms: float
    p99_ms: float
    bulk_texts_per_s: float


@dataclass(frozen=True, slots=True)
class Size:
    """`megabytes` are 1e6 bytes of safetensors on disk."""

    parameters: int
    megabytes: float


@dataclass(frozen=True, slots=True)
class Report:
    """All of an evaluation; `size` is None for a scorer without weights."""

    model: str
    revision: str
    precision: str
    device: str
    size: Size | None
    speed: Speed
    sets: list[SetReport]


def probabilities(score: Sentiment, binary: bool) -> list[float]:
    """Of LABELS; where `binary`, those of negative and positive scaled to add up to 1."""
    if not binary:
        return [score.negative, score.neutral, score.positive]
    whole = score.negative + score.positive
    return [score.negative / whole, 0.0, score.positive / whole] if whole else [0.5, 0.0, 0.5]


def predicted(score: Sentiment, binary: bool) -> int:
    """The label as it is shipped; where `binary`, the more probable of negative and positive, negative where they are equal."""
    if not binary:
        return LABELS.index(score.label)
    return POSITIVE if score.positive > score.negative else NEGATIVE


def figures(name: str, one: LabelledSet, scores: Sequence[Sentiment]) -> Figures:
    """Of the scorer of that name, by the labels as shipped; raises ValueError where no row counts."""
    rows = one.measured(scores)
    gold, said = [gold for gold, _, _ in rows], [predicted(s, one.binary) for _, s, _ in rows]
    small = len(rows) < SMALL
    matrix = measures.confusion(gold, said)
    return Figures(
        scorer=name,
        rows=len(rows),
        macro_f1=measures.macro_f1(gold, said),
        macro_f1_interval=measures.interval(measures.macro_f1, gold, said) if small else None,
        accuracy=measures.accuracy(gold, said),
        accuracy_interval=measures.interval(measures.accuracy, gold, said) if small else None,
        classes=measures.per_class(matrix),
        confusion=matrix,
        routine=routine(one, scores),
    )


def routine(one: LabelledSet, scores: Sequence[Sentiment]) -> Routine | None:
    """The routine turns by their labels as shipped, in a binary set as well; None where the file has none."""
    labels = [s.label for row, s in zip(one.rows, scores, strict=True) if row.routine]
    if not labels:
        return None
    return Routine(len(labels), labels.count("negative") / len(labels), labels.count("positive") / len(labels))


def calibrate(one: LabelledSet, scores: Sequence[Sentiment]) -> list[Bin]:
    """The bins of the most probable class, whatever label is shipped."""
    return measures.calibration(*_confidences(one, scores))


def calibration_interval(one: LabelledSet, scores: Sequence[Sentiment]) -> Interval | None:
    """Of the expected calibration error; None for a set that is large enough without."""
    confidences, right = _confidences(one, scores)
    return measures.error_interval(confidences, right) if len(right) < SMALL else None


def _confidences(one: LabelledSet, scores: Sequence[Sentiment]) -> tuple[list[float], list[bool]]:
    rows = [(gold, probabilities(s, one.binary)) for gold, s, _ in one.measured(scores)]
    return [max(p) for _, p in rows], [p.index(max(p)) == gold for gold, p in rows]


def agree(precision: str, fp32: Sequence[Sentiment], other: Sequence[Sentiment]) -> Agreement:
    """Of the scores of the same rows, at least one, in fp32 and in `precision`."""
    pairs = list(zip(fp32, other, strict=True))
    equal = sum(a.label == b.label for a, b in pairs) / len(pairs)
    return Agreement(precision, equal, sum(abs(a.score - b.score) for a, b in pairs) / len(pairs))


def wrong(one: LabelledSet, scores: Sequence[Sentiment]) -> list[Wrong]:
    """The rows whose label is wrong, the most confident first."""
    rows = []
    for gold, s, text in one.measured(scores):
        if (said := predicted(s, one.binary)) != gold:
            rows.append(Wrong(text, LABELS[gold], LABELS[said], probabilities(s, one.binary)[said]))
    return sorted(rows, key=lambda row: -row.confidence)


def to_text(report: Report) -> str:
    """The report as plain text, in columns."""
    return "\n\n".join("\n".join(lines) for lines in (_head(report), *map(_set, report.sets)))


def _head(report: Report) -> Iterator[str]:
    yield f"model  {report.model} {report.revision}, {report.precision} on {report.device}"
    if size := report.size:
        yield f"size   {size.parameters / 1e6:.1f} M parameters, {size.megabytes:.1f} MB"
    speed = report.speed
    one_by_one = f"one by one p50 {speed.p50_ms:.1f} ms, p99 {speed.p99_ms:.1f} ms ({speed.texts} texts)"
    yield f"speed  {one_by_one}; in bulk {speed.bulk_texts_per_s:,.0f} texts/s"


def _set(one: SetReport) -> Iterator[str]:
    scorers = [one.model] + ([one.vader] if one.vader else [])
    kind = "negative or positive" if one.binary else "three classes"
    yield f"{one.name}: {one.model.rows:,} rows, {kind}"
    yield from _table([("scorer", "macro-F1", "95 %", "accuracy", "95 %"), *map(_overall, scorers)])
    for scorer in scorers:
        yield from _routine(scorer)
    yield from _table(_classes(one.model, one.binary))
    if agreement := one.agreement:
        equal, difference = agreement.equal_labels, agreement.mean_score_difference
        yield f"  fp32 and {agreement.precision}: {equal:.2%} of labels are equal, scores differ by {difference:.4f} on average"
    interval = one.expected_calibration_error_interval
    likely = f" (95 %: {_range(interval)})" if interval else ""
    yield f"  calibration before the band: ECE {one.expected_calibration_error:.3f}{likely}"
    yield from _table([("confidence", "rows", "mean", "right"), *(_bin(b) for b in one.calibration if b.rows)])
    if one.errors:
        yield "  wrong, the most confident first"
    for wrong in one.errors:  # repr: a text must not steer the terminal
        yield f"    {wrong.confidence:.3f} {wrong.predicted}, is {wrong.gold}: {wrong.text!r}"


def _overall(figures: Figures) -> Sequence[str]:
    f1, right = _range(figures.macro_f1_interval), _range(figures.accuracy_interval)
    return figures.scorer, f"{figures.macro_f1:.3f}", f1, f"{figures.accuracy:.3f}", right


def _range(interval: Interval | None) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}" if interval else "-"


def _routine(figures: Figures) -> Iterator[str]:
    if routine := figures.routine:
        shares = f"{routine.negative:.1%} negative, {routine.positive:.1%} positive"
        yield f"  of {routine.rows:,} routine turns {figures.scorer} calls {shares}"


def _classes(figures: Figures, binary: bool) -> list[Sequence[str]]:
    """The classes with their confusion, a row each; without neutral where there is none."""
    kept = [index for index, label in enumerate(LABELS) if not (binary and label == "neutral")]
    rows: list[Sequence[str]] = [("gold", "rows", "precision", "recall", "F1", *(f"as {LABELS[index]}" for index in kept))]
    for index in kept:
        one = figures.classes[index]
        shares = (f"{share:.3f}" for share in (one.precision, one.recall, one.f1))
        rows.append((one.label, f"{one.support:,}", *shares, *(f"{figures.confusion[index][other]:,}" for other in kept)))
    return rows


def _bin(one: Bin) -> Sequence[str]:
    return f"{one.low:.3f} to {one.high:.3f}", f"{one.rows:,}", f"{one.confidence:.3f}", f"{one.accuracy:.3f}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows in columns, the first one flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "    " + "  ".join((first.ljust(widths[0]), *cells))
