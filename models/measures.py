"""How well labels and probabilities fit what was meant: the formulas of models.evaluate. Pure: no torch, no numpy.

A label is an index into models.sentiment.LABELS; `gold` is what a row says, `predicted` what a scorer says, row by row.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models.sentiment import LABELS, Label

Metric = Callable[[Sequence[int], Sequence[int]], float]
"""A figure of gold and predicted labels, such as macro_f1."""


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class; precision, recall and F1 in [0, 1], 0 where there is nothing to divide by. `support`: its rows in gold."""

    label: Label
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Bin:
    """The rows whose confidence is above `low` and at most `high`: how many, their mean confidence, and the share that was
    right; both 0 where there are no rows."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


def confusion(gold: Sequence[int], predicted: Sequence[int]) -> list[list[int]]:
    """Rows counted by [gold][predicted], [3, 3]."""
    counts = Counter(zip(gold, predicted, strict=True))
    indices = range(len(LABELS))
    return [[counts[g, p] for p in indices] for g in indices]


def per_class(matrix: Sequence[Sequence[int]]) -> list[ClassFigures]:
    """The figures of each of LABELS, from a confusion matrix."""
    return [_class_figures(matrix, index) for index in range(len(LABELS))]


def _class_figures(matrix: Sequence[Sequence[int]], index: int) -> ClassFigures:
    hits, support, predicted = matrix[index][index], sum(matrix[index]), sum(row[index] for row in matrix)
    return ClassFigures(
        label=LABELS[index],
        precision=hits / predicted if predicted else 0.0,
        recall=hits / support if support else 0.0,
        f1=2 * hits / (support + predicted) if support + predicted else 0.0,
        support=support,
    )


def macro_f1(gold: Sequence[int], predicted: Sequence[int]) -> float:
    """Unweighted mean of the F1 of the classes that occur in `gold`; raises ValueError where there are no rows."""
    scores = [figures.f1 for figures in per_class(confusion(gold, predicted)) if figures.support]
    if not scores:
        raise ValueError("no rows to measure")
    return sum(scores) / len(scores)


def accuracy(gold: Sequence[int], predicted: Sequence[int]) -> float:
    """The share of rows whose label is right; raises ValueError where there are no rows."""
    if not gold:
        raise ValueError("no rows to measure")
    return sum(g == p for g, p in zip(gold, predicted, strict=True)) / len(gold)


def interval(metric: Metric, gold: Sequence[int], predicted: Sequence[int], resamples: int = 1000, seed: int = 1) -> Interval:
    """The 95 % interval of a metric by the percentile bootstrap: rows drawn with replacement, `resamples` times over
    (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13). The same seed gives the same interval."""
    rng = random.Random(seed)  # noqa: S311  (nothing secret)
    rows = sorted(zip(gold, predicted, strict=True))  # the order of the rows in the file must not matter
    drawn = (rng.choices(rows, k=len(rows)) for _ in range(resamples))
    values = [metric([g for g, _ in sample], [p for _, p in sample]) for sample in drawn]
    return Interval(percentile(values, 0.025), percentile(values, 0.975))


def error_interval(confidences: Sequence[float], right: Sequence[bool], resamples: int = 1000, seed: int = 1) -> Interval:
    """The 95 % interval of the expected calibration error, by the same bootstrap."""
    rng = random.Random(seed)  # noqa: S311  (nothing secret)
    rows = sorted(zip(confidences, right, strict=True))
    drawn = (rng.choices(rows, k=len(rows)) for _ in range(resamples))
    values = [expected_calibration_error(calibration([c for c, _ in sample], [r for _, r in sample])) for sample in drawn]
    return Interval(percentile(values, 0.025), percentile(values, 0.975))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` (above 0, at most 1) of the values do not exceed: the nearest rank."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def calibration(confidences: Sequence[float], right: Sequence[bool], bins: int = 15) -> list[Bin]:
    """Rows by confidence, in `bins` bins of equal width over [0, 1], as in Guo et al. 2017 (arXiv:1706.04599).

    `confidences` are the probabilities of the most probable class, `right` says for each row whether it was that class.
    """
    members: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for confidence, hit in zip(confidences, right, strict=True):
        members[min(max(math.ceil(confidence * bins) - 1, 0), bins - 1)].append((confidence, hit))
    return [_bin(index / bins, (index + 1) / bins, rows) for index, rows in enumerate(members)]


def _bin(low: float, high: float, rows: Sequence[tuple[float, bool]]) -> Bin:
    count = max(len(rows), 1)
    confidence = math.fsum(confidence for confidence, _ in rows) / count
    return Bin(low, high, len(rows), confidence, sum(hit for _, hit in rows) / count)


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance of confidence and accuracy over the bins, weighted by rows (Guo et al. 2017, equation 3), in [0, 1];
    0 where there are no rows."""
    rows = max(sum(b.rows for b in bins), 1)
    return math.fsum(b.rows * abs(b.accuracy - b.confidence) for b in bins) / rows
