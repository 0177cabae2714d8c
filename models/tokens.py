"""Texts as rows of token ids, and rows as a padded batch.

transformers makes a dozen Python objects of each text, which takes longer than to tokenize it. Where its tokenizer is one of
the library `tokenizers`, and what transformers adds is nothing to us, that one is asked directly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Sequence[int]]
"""One tokenized text: input_ids and perhaps token_type_ids, equally long. Every token is attended to."""

PROBES = ("", "a", "Not <pad> [SEP] AGAIN?\n  안녕하세요 …", "she waited for an hour or 2 " * 3)
SHORT = 8  # tokens to which the longest probe is cut, to see how


@dataclass(frozen=True, slots=True)
class Direct:
    """What of the library `tokenizers` makes the ids. `closing` ids come after each text, such as [SEP]; `blank` is the token
    of a text without any."""

    backend: Any
    closing: int
    blank: int

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids or [self.blank] for found in self.backend.encode_batch_fast(texts)]

    def cut(self, ids: list[int], limit: int) -> list[int]:
        """The text's beginning, and the closing ids, in `limit` tokens."""
        return ids[: limit - self.closing] + ids[len(ids) - self.closing :]


def direct(tokenizer: Any, untyped: bool = True) -> Direct | None:
    """None where that does not make the ids of this tokenizer of transformers, or where the ids are not all there is: its token
    types may be left out where they are all 0 and, to the model, `untyped` is the same."""
    try:
        return _tried(tokenizer, untyped)
    except Exception:  # what the library raises has no type of its own: an own part that cannot be copied, a missing [UNK]
        return None


def _tried(tokenizer: Any, untyped: bool) -> Direct | None:
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if not hasattr(backend, "encode_batch_fast") or tokenizer.truncation_side != "right":
        return None
    expected = tokenizer(list(PROBES), verbose=False)  # it leaves the backend without truncation and padding
    short = tokenizer(PROBES[-1], truncation=True, max_length=SHORT, verbose=False)["input_ids"]
    own = type(backend).from_str(backend.to_str())  # transformers goes on changing the other one
    own.no_truncation()
    own.encode_special_tokens = backend.encode_special_tokens
    asked = own.encode_batch_fast(PROBES)
    mask, types = asked[-1].special_tokens_mask, expected.get("token_type_ids", [])
    if 0 not in mask or len(mask) <= SHORT or any(map(any, types)) or (types and not untyped):
        return None
    made = Direct(own, mask[::-1].index(0), tokenizer.pad_token_id)
    same = [found.ids for found in asked] == expected["input_ids"] and made.cut(asked[-1].ids, SHORT) == short
    return made if same else None


class Tokens:
    """A tokenizer of transformers, for texts of at most `limit` tokens. Not to be asked by two threads at once. `untyped`: see
    direct."""

    def __init__(self, tokenizer: Any, limit: int, untyped: bool = True) -> None:
        self.tokenizer, self.limit, self.direct = tokenizer, limit, direct(tokenizer, untyped)

    def rows(self, texts: Sequence[str]) -> tuple[list[Row], list[bool]]:
        """A row of at most `limit` tokens for each text, and which of the texts had more. No row is empty."""
        if not texts:
            return [], []
        if self.direct is None:
            return self._rows(texts)
        whole = self.direct.ids(texts)
        truncated = [len(ids) > self.limit for ids in whole]
        return [
            {"input_ids": self.direct.cut(ids, self.limit) if cut else ids} for ids, cut in zip(whole, truncated, strict=True)
        ], truncated

    def padded(self, rows: Sequence[Row]) -> Any:
        """A batch as transformers' models take it, [rows, the longest row's tokens] on the CPU, with its attention mask."""
        lists = [{name: list(ids) for name, ids in row.items()} for row in rows]
        return self.tokenizer.pad(lists, return_attention_mask=True, return_tensors="pt", verbose=False)

    def _rows(self, texts: Sequence[str]) -> tuple[list[Row], list[bool]]:
        rows = self._encode(texts, truncation=False)
        truncated = [len(row["input_ids"]) > self.limit for row in rows]
        for index in (index for index, cut in enumerate(truncated) if cut):
            rows[index] = self._encode([texts[index]], truncation=True, max_length=self.limit)[0]
        return rows, truncated

    def _encode(self, texts: Sequence[str], **options: Any) -> list[Row]:
        fields = self.tokenizer(list(texts), return_attention_mask=False, verbose=False, **options)
        # A tokenizer without special tokens makes nothing of an empty text; a model needs a token to look at.
        blank = {"input_ids": self.tokenizer.pad_token_id, "token_type_ids": 0}
        return [
            {name: list(ids) or [blank[name]] for name, ids in zip(fields, row, strict=True)}
            for row in zip(*fields.values(), strict=True)
        ]
