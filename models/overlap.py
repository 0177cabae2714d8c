"""Near-duplicates between two sets of texts: `python -m models.overlap --help`. What is tested must not have been learnt.

Two texts are alike by the Jaccard index of their sets of character trigrams, after case, punctuation and spaces are taken away
(Korean is spaced as the writer likes). Texts of fewer than MOST_COMMON letters, "yes, ok", are said by everybody
and are not counted.
"""

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from models.examples import read_examples

MOST_COMMON = 8


@dataclass(frozen=True, slots=True)
class Pair:
    """A text of the first set, the text of the second that it is most like, and the Jaccard index of the two."""

    likeness: float
    text: str
    other: str


def trigrams(text: str) -> frozenset[str]:
    """Empty for a text that is too short to be anybody's own."""
    found = letters(text)
    return frozenset(found[i : i + 3] for i in range(len(found) - 2))


def letters(text: str) -> str:
    """What two texts share that differ in case, punctuation and spaces; "" for a text that is too short to be anybody's own."""
    found = re.sub(r"[\W_]+", "", text.lower())
    return found if len(found) >= MOST_COMMON else ""


def near_duplicates(texts: Sequence[str], others: Sequence[str], least: float = 0.7) -> Iterator[Pair]:
    """For each text that is like one of the others by at least `least`, the pair with the one it is most like."""
    holding: dict[str, list[int]] = defaultdict(list)
    sets = [trigrams(other) for other in others]
    for index, grams in enumerate(sets):
        for gram in grams:
            holding[gram].append(index)
    for text in texts:
        grams = trigrams(text)
        shared = Counter(index for gram in grams for index in holding.get(gram, ()))
        pairs = ((count / (len(grams) + len(sets[index]) - count), index) for index, count in shared.items())
        likeness, index = max(pairs, default=(0.0, -1))
        if likeness >= least:
            yield Pair(round(likeness, 3), text, others[index])


def read_texts(path: Path) -> list[str]:
    return [example.text for example in read_examples(path, labelled=False)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 when there are near-duplicates."""
    parser = argparse.ArgumentParser(
        prog="python -m models.overlap",
        description="Print the texts of FILEs that are near-duplicates of texts of other files.",
        epilog="example:\n  python -m models.overlap models/data/turns_en_train.jsonl --against models/data/turns_en_dev.jsonl",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--against", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument("--least", type=float, default=0.7, help="Jaccard index of trigrams (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one object a pair")
    asked = parser.parse_args(arguments)
    texts = [text for path in asked.files for text in read_texts(path)]
    found = 0
    for path in asked.against:
        others = read_texts(path)
        pairs = sorted(near_duplicates(texts, others, asked.least), key=lambda pair: -pair.likeness)
        found += len(pairs)
        for pair in pairs:
            line = json.dumps({"against": str(path), **asdict(pair)}, ensure_ascii=False)
            print(line if asked.json else f"{pair.likeness:.2f}  {pair.text}  |  {pair.other}")
        print(f"{len(pairs)} of {len(texts):,} texts are near-duplicates of {len(others):,} in {path}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
