"""Labelled text as JSON Lines, plain or gzip: one `{"text": ..., "label": "negative" | "neutral" | "positive"}` a line.

Our own call turns in `models/data` also say what `kind` they are of; whole calls are one object a call with such rows as its
`turns`. Other fields are ignored.
"""

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from models.sentiment import LABELS

ROUTINE = frozenset({"routine", "trap", "empathy"})
"""Kinds of turns in which nothing happens that a supervisor would want to hear of, whatever words they hold."""


@dataclass(frozen=True, slots=True)
class Example:
    """A text with its label, an index into models.sentiment.LABELS; None where the file has none, as in unlabelled text."""

    text: str
    label: int | None
    kind: str = ""

    @property
    def routine(self) -> bool:
        return self.kind in ROUTINE


def read_examples(path: Path, labelled: bool = True) -> list[Example]:
    """All rows of a JSON Lines file, of whole calls all turns; raises ValueError, naming the line, for a row without text or,
    if `labelled`, with a label that is not one of LABELS."""
    return [_example(path, number, turn, labelled) for number, row in read_rows(path) for turn in _turns(path, number, row)]


def _turns(path: Path, number: int, row: dict[str, Any]) -> list[dict[str, Any]]:
    """The row, or the turns of a whole call: nobody has said of what kind they are, but a neutral one is routine."""
    if "turns" not in row:
        return [row]
    if not isinstance(turns := row["turns"], list) or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError(f"{path}:{number}: turns is not a list of objects")
    return [{"kind": "routine" if turn.get("label") == "neutral" else "", **turn} for turn in turns]


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON Lines file with their line numbers; raises ValueError, naming the line, for what is none."""
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise ValueError(f"{path}:{number}: no JSON: {error}") from error
                if not isinstance(row, dict):
                    raise ValueError(f"{path}:{number}: no JSON object")
                yield number, row


def _opened(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def _example(path: Path, number: int, row: dict[str, Any], labelled: bool) -> Example:
    if not isinstance(text := row.get("text"), str):
        raise ValueError(f"{path}:{number}: text is not a string")
    if labelled and row.get("label") not in LABELS:
        raise ValueError(f"{path}:{number}: label {row.get('label')!r} is none of {', '.join(LABELS)}")
    label = LABELS.index(row["label"]) if row.get("label") in LABELS else None
    return Example(text, label, str(row.get("kind", "")))


def sample(rows: list[Example], count: int | None, rng: random.Random) -> list[Example]:
    """`count` rows: without replacement while there are enough, whole copies first where there are not; None takes all, and
    of no rows there are none."""
    if count is None or not rows:
        return list(rows)
    return rows * (count // len(rows)) + rng.sample(rows, count % len(rows))
