"""From laps to figures: medians, agreement, the table, and the flat object of bench.json. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from models.labels import map_labels
from models.report import Agreement
from models.sentiment import LABELS, Sentiment, decide
from tests.bench.jobs import Job, Lap

LABELS_EQUAL, SCORES_APART = 0.995, 0.01
"""The bound: at least so many labels as in fp32, and at most so much mean difference of scores."""
SMALLEST = 1e-12  # of a probability that came as 0


def within(found: Agreement) -> bool:
    """Whether a contender is inside the bound."""
    return found.equal_labels >= LABELS_EQUAL and found.mean_score_difference <= SCORES_APART


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of the checkpoint: see models.transformer. The bench applies it to those who do not know it."""

    names: Sequence[str]
    temperature: float = 1.0
    least: float = 0.0

    def sentiments(self, rows: Sequence[Sequence[float]], calibrated: bool) -> list[Sentiment]:
        """Rows of a contender's `score`, as sentiments."""
        return [decide(row if calibrated else self._cooled(row), least=self.least) for row in rows]

    def _cooled(self, row: Sequence[float]) -> list[float]:
        """Softmax over logits divided by the temperature, from the softmax over the logits; summed by label."""
        powers = [math.exp(math.log(max(p, SMALLEST)) / self.temperature) for p in row]
        labels = map_labels(self.names)
        return [sum(p for p, of in zip(powers, labels, strict=True) if of == label) / sum(powers) for label in LABELS]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: the medians of a contender's laps. `segments` and `tokens` are those of one lap."""

    job: Job
    laps: Sequence[Lap]
    segments: int
    tokens: int
    agreement: Agreement | None = None

    @property
    def per_s(self) -> float:
        return self.segments / median(lap.seconds for lap in self.laps)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / median(lap.seconds for lap in self.laps)

    @property
    def cpu_us(self) -> float:
        """Processor time a segment."""
        return 1e6 * median(lap.cpu_seconds for lap in self.laps) / self.segments

    @property
    def inside(self) -> bool:
        return self.agreement is not None and within(self.agreement)


def best(rows: Sequence[Row], begins: str = "") -> Row | None:
    """The fastest rival inside the bound."""
    return max(
        (r for r in rows if r.job.rival and r.inside and r.job.name.startswith(begins)), key=lambda r: r.per_s, default=None
    )


def flat(rows: Sequence[Row]) -> dict[str, object]:
    """The rows' figures by key, and the ratios of the engine to the others; what is missing is None."""
    figures: dict[str, object] = {}
    for row in rows:
        name = row.job.name
        figures[f"{name}_per_s"] = round(row.per_s, 1)
        figures[f"{name}_tokens_per_s"] = round(row.tokens_per_s)
        figures[f"{name}_cpu_us"] = round(row.cpu_us, 1)
        if row.agreement is not None:
            figures[f"{name}_label_agreement"] = round(row.agreement.equal_labels, 5)
            figures[f"{name}_mean_score_difference"] = round(row.agreement.mean_score_difference, 6)
            figures[f"{name}_inside_bound"] = row.inside
    peer, infinity = best(rows), best(rows, "infinity")
    figures["best_peer"] = peer.job.name if peer else None
    figures["best_peer_per_s"] = round(peer.per_s, 1) if peer else None
    figures["infinity_best_per_s"] = round(infinity.per_s, 1) if infinity else None
    figures["label_agreement"] = figures.get("engine_label_agreement")
    figures["mean_score_difference"] = figures.get("engine_mean_score_difference")
    others = ("bare_forward", "pipeline", "pipeline_batch32", "infinity_best", "best_peer")
    return figures | {f"engine_of_{name}": ratio(figures, "engine", name) for name in others}


def ratio(figures: Mapping[str, object], one: str, other: str) -> float | None:
    above, below = figures.get(f"{one}_per_s"), figures.get(f"{other}_per_s")
    return round(above / below, 3) if isinstance(above, float) and isinstance(below, float) and below else None


HEAD = ("", "segments/s", "tokens/s", "cpu us", "of limit", "labels", "scores", "")


def lines(rows: Sequence[Row], left_out: Mapping[str, str]) -> list[str]:
    """The table, in the order given; contenders without figures follow, with the reason."""
    limit = next((row.per_s for row in rows if row.job.name == "bare_forward"), None)
    cells = [HEAD, *(_cells(row, limit) for row in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(HEAD))]
    table = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:-1], widths[1:-1], strict=True)), line[-1]])
        for line in cells
    ]
    return [line.rstrip() for line in table] + [f"{name}: left out: {why}" for name, why in left_out.items()]


def _cells(row: Row, limit: float | None) -> tuple[str, ...]:
    found = row.agreement
    return (
        row.job.title,
        f"{row.per_s:,.0f}",
        f"{row.tokens_per_s:,.0f}",
        f"{row.cpu_us:,.0f}",
        f"{row.per_s / limit:.2f}" if limit else "",
        f"{found.equal_labels:.2%}" if found else "",
        f"{found.mean_score_difference:.4f}" if found else "",
        "" if found is None or within(found) else "outside the bound",
    )
