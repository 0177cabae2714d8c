"""A checkpoint's own labels, mapped onto negative, neutral and positive. Pure: no torch here."""

import re
from collections.abc import Sequence

from models.errors import LabelMappingError
from models.sentiment import LABELS, Label

_WORDS: dict[str, Label] = {
    "neg": "negative", "negative": "negative", "부정": "negative",
    "neu": "neutral", "neut": "neutral", "neutral": "neutral", "mixed": "neutral", "중립": "neutral",
    "pos": "positive", "positive": "positive", "긍정": "positive",
}  # fmt: skip
_FILLERS = frozenset({"very", "extremely", "strongly", "slightly", "somewhat", "sentiment", "label", "class"})
_STAR = re.compile(r"([1-5])\s*[-_]?\s*stars?", re.IGNORECASE)
_STARS: dict[str, Label] = {"1": "negative", "2": "negative", "3": "neutral", "4": "positive", "5": "positive"}


def map_labels(seen: Sequence[str], given: Sequence[str] | None = None) -> tuple[Label, ...]:
    """For each class of a checkpoint, in the order of its ids, the label that its probability counts towards.

    `seen` are the checkpoint's own names; `given`, where not None, stands in for them, one for each class. Understood
    are negative, neutral and positive in the usual spellings ("NEG", "Very Positive", "neutral sentiment"; "mixed"
    counts as neutral) and "1 star" to "5 stars" (1-2 negative, 3 neutral, 4-5 positive). Several classes may mean the
    same; neutral may be missing, negative and positive may not. Raises LabelMappingError for anything else.
    """
    if given is not None and len(given) != len(seen):
        raise LabelMappingError(f"labels= names {len(given)} classes, the checkpoint has {len(seen)}: {_listed(seen)}")
    names = seen if given is None else given
    mapped = _stars(names) or tuple(label for label in map(_label, names) if label)
    if len(mapped) != len(names) or not {"negative", "positive"} <= set(mapped):
        source = "the checkpoint's labels" if given is None else "labels="
        raise LabelMappingError(
            f"{source} ({_listed(names)}) cannot be mapped onto {', '.join(LABELS)}; say what each of the {len(seen)} "
            f'classes means, in the order of their ids, such as labels=("negative", "neutral", "positive")'
        )
    return mapped


def _label(name: str) -> Label | None:
    words = [word for word in re.findall(r"[^\W_]+", name.lower()) if word not in _FILLERS]
    return _WORDS.get(words[0]) if len(words) == 1 else None


def _stars(names: Sequence[str]) -> tuple[Label, ...]:
    """The labels of those names that make up a full scale of 1 to 5 stars; none where they do not."""
    found = [star[1] for star in map(_STAR.fullmatch, (name.strip() for name in names)) if star]
    return tuple(_STARS[star] for star in found) if sorted(found) == sorted(_STARS) else ()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
