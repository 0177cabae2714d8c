"""What a scorer says about a text, and what a scorer is. Pure: no torch here."""

import math
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

Label = Literal["negative", "neutral", "positive"]

LABELS: tuple[Label, ...] = ("negative", "neutral", "positive")
"""The order of the three probabilities wherever they stand in a row."""


class Sentiment(NamedTuple):
    """The sentiment of one text.

    `score` = P(positive) - P(negative), in [-1, 1]; `label` is the most probable of the three, but neutral where the evidence
    for another is thin; the probabilities add up to 1. `truncated`: the text was longer than the model reads, and only its
    beginning was scored.
    """

    label: Label
    score: float
    negative: float
    neutral: float
    positive: float
    truncated: bool = False


PLAIN = tuple(range(len(LABELS)))


def decide(probabilities: Sequence[float], truncated: bool = False, least: float = 0.0) -> Sentiment:
    """The sentiment that the probabilities of LABELS amount to: the most probable label, or neutral where that has less than
    the share `least` of what it and neutral have together."""
    negative, neutral, positive = probabilities
    most = max(probabilities)
    label = LABELS[probabilities.index(most)] if most >= least * (most + neutral) else "neutral"
    return Sentiment(label, positive - negative, negative, neutral, positive, truncated)


def shares(logits: Sequence[float], classes: Sequence[int], temperature: float = 1.0) -> list[float]:
    """The probabilities of LABELS: softmax over the logits, added up by what each class counts towards, an index into LABELS.
    NaN where a logit is NaN or infinite (less than that: its share is 0)."""
    most = max(logits)
    weights = [math.exp((logit - most) / temperature) for logit in logits]
    total, found = sum(weights), [0.0] * len(LABELS)
    if classes == PLAIN:
        return [weight / total for weight in weights]
    for label, weight in zip(classes, weights, strict=True):
        found[label] += weight / total
    return [min(share, 1.0) for share in found]


class Scorer(Protocol):
    """Scores texts. `name`, `revision` and `precision` go out with every score: two models are never mixed up."""

    @property
    def name(self) -> str:
        """What the model is called: "default", a hub name, a folder's name."""

    @property
    def revision(self) -> str:
        """Short, and another one for other weights."""

    @property
    def precision(self) -> str:
        """The arithmetic: "fp32", "bf16" or "exact"; where it is not eager torch's, its runtime as well: "fp32-onnx"."""

    def score(self, texts: Sequence[str]) -> list[Sentiment]:
        """One sentiment a text, in the order given; a text's score does not depend on the others.

        Not to be called from two threads at once.
        """


_WEIGHTS = {
    "appreciate": 2, "excellent": 2, "fantastic": 2, "glad": 2, "great": 2, "happy": 2, "helpful": 2, "love": 2,
    "perfect": 2, "resolved": 1, "thank": 1, "wonderful": 2,
    "angry": -2, "awful": -2, "broken": -1, "cancel": -1, "complain": -1, "disappoint": -2, "frustrat": -2,
    "horrible": -2, "ridiculous": -2, "rude": -2, "terrible": -2, "unacceptable": -3, "upset": -2, "useless": -2,
    "worst": -3,
    "감사": 1, "고마": 1, "고맙": 1, "다행": 2, "만족": 2, "완벽": 2, "좋": 1, "최고": 3, "친절": 2,
    "답답": -2, "불만": -2, "불친절": -2, "불편": -2, "실망": -2, "엉망": -2, "짜증": -3, "최악": -3, "해지": -1,
    "화가": -2, "황당": -2,
}  # fmt: skip
_WORD = re.compile(rf"\b(?:{'|'.join(_WEIGHTS)})")


class LexiconScorer:
    """A fake that counts words: for tests, and for trying the stream without torch. It reads English and Korean badly.

    A word counts where it begins a word of the text, so "thank" counts in "Thanks" and "불편" in "불편해요".
    """

    name = "lexicon"
    revision = "1"
    precision = "exact"

    def score(self, texts: Sequence[str]) -> list[Sentiment]:
        return [self._score(text) for text in texts]

    def _score(self, text: str) -> Sentiment:
        total = max(-6, min(6, sum(_WEIGHTS[word] for word in _WORD.findall(text.casefold()))))
        negative, neutral, positive = math.exp(-total), 2.0, math.exp(total)
        whole = negative + neutral + positive
        return decide((negative / whole, neutral / whole, positive / whole))
