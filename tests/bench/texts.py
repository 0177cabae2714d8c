"""What the bench scores: distinct turns of models/data, and the sample on which precisions are compared."""

import gzip
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

TURNS = Path(__file__).parents[2] / "models" / "data"
EDGES = (4, 8, 12, 16, 24, 32, 48, 64)


def turns(folder: Path = TURNS) -> list[str]:
    """All distinct turns of a folder's *.jsonl, whole calls as well, by any speaker; in the order of files and lines."""
    rows = (json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in _lines(path))
    return list(dict.fromkeys(turn["text"] for row in rows for turn in row.get("turns", [row])))


def drawn(texts: Sequence[str], count: int) -> list[str]:
    """`count` of them (or all, where there are fewer), always the same ones, in a mixed order."""
    return random.Random(1).sample(texts, min(count, len(texts)))


def compared(scored: Sequence[str], folder: Path | None, count: int) -> list[str]:
    """The sample for agreement: of the development sets in `folder`/dev, as many of each, or of the texts that are scored."""
    sets = [list(_texts(path)) for path in sorted((folder / "dev").glob("*.jsonl.gz"))] if folder else []
    if not sets:
        return drawn(scored, count)
    return [text for one in sets for text in drawn(one, -(-count // len(sets)))]


def _texts(path: Path) -> Iterator[str]:
    yield from dict.fromkeys(json.loads(line)["text"] for line in _lines(path))


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        yield from lines


def histogram(lengths: Iterable[int], edges: Sequence[int] = EDGES) -> dict[str, int]:
    """How many lengths lie in 1-4, 5-8, …, and above the last edge."""
    starts = [1, *(edge + 1 for edge in edges)]
    names = [f"{low}-{high}" for low, high in zip(starts, edges, strict=False)] + [f"{starts[-1]}-"]
    counts = dict.fromkeys(names, 0)
    for length in lengths:
        counts[names[sum(edge < length for edge in edges)]] += 1
    return counts


def bars(counts: dict[str, int], width: int = 50) -> list[str]:
    """The histogram as lines of text."""
    most, total = max([*counts.values(), 1]), max(sum(counts.values()), 1)
    return [f"{name:>6} {n:>6} {n / total:>5.0%} {'#' * round(n * width / most)}".rstrip() for name, n in counts.items()]
