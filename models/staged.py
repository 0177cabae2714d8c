"""What the engine asks of a model: three stages that may overlap, each on a thread of its own. Pure: no torch here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

from models.sentiment import Scorer, Sentiment


@dataclass(frozen=True, slots=True)
class Failure:
    """A text that could not be scored, though it was tried by itself. `reason` is the type of what went wrong, such as
    "RuntimeError": its message is left out, since it may quote the text."""

    reason: str


Result = Sentiment | Failure


class Staged(Protocol):
    """A scorer in three stages: `score` is `decode` of `forward` of `tokenize`. Tokenizing and decoding are not called from two
    threads at once, but while other stages are under way. What a stage raises for a batch says nothing about any one text."""

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def budget(self) -> int:
        """The most padded tokens in a batch."""

    @property
    def replicas(self) -> int:
        """How many threads may be in `forward` at once, each with a batch of its own."""

    def begin(self) -> None:
        """Called once on each thread that will call `forward`."""

    @property
    def exhausted(self) -> tuple[type[Exception], ...]:
        """What `forward` raises when the batch, and not a text of it, is too much for the device's memory."""

    def tokenize(self, texts: Sequence[str]) -> tuple[list[Any], list[bool]]:
        """A row a text, in order, and whether the row holds only the text's beginning."""

    def length(self, row: Any) -> int:
        """The tokens of a row, at least 1."""

    def forward(self, rows: Sequence[Any]) -> Any:
        """The rows' logits: sliced, they are those of some rows. A device may still be computing them."""

    def wait(self, logits: Any) -> object:
        """Until the device has computed them. What it raises, decoding raises as well."""

    def decode(self, logits: Any, truncated: Sequence[bool]) -> list[Sentiment]:
        """A sentiment a row, once the logits are there."""


CHARACTERS = 4  # a token: an estimate where there is no tokenizer


@dataclass(frozen=True, slots=True)
class Whole:
    """A scorer that has no stages, as one: all its work is the forward stage."""

    scorer: Scorer
    budget: int = 2048
    replicas: int = 1
    exhausted: tuple[type[Exception], ...] = ()

    @property
    def name(self) -> str:
        return self.scorer.name

    @property
    def revision(self) -> str:
        return self.scorer.revision

    @property
    def precision(self) -> str:
        return self.scorer.precision

    def begin(self) -> None:
        """Nothing to prepare."""

    def tokenize(self, texts: Sequence[str]) -> tuple[list[str], list[bool]]:
        return list(texts), [False] * len(texts)

    def length(self, row: str) -> int:
        return len(row) // CHARACTERS + 1

    def forward(self, rows: Sequence[str]) -> list[Sentiment]:
        return self.scorer.score(rows)

    def wait(self, logits: list[Sentiment]) -> None:
        """They are there."""

    def decode(self, logits: list[Sentiment], truncated: Sequence[bool]) -> list[Sentiment]:  # noqa: ARG002 (they say so)
        return logits


def has_stages(scorer: object) -> TypeGuard[Staged]:
    return all(callable(getattr(scorer, stage, None)) for stage in ("begin", "tokenize", "length", "forward", "wait", "decode"))
