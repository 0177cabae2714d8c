"""Texts as rows of token ids, and rows as a padded batch.

transformers makes a dozen Python objects of each text, which takes longer than to tokenize it. Where its tokenizer is one of
the library `tokenizers`, and what transformers adds is nothing to us, that one is asked directly.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Sequence[int]]
"""One tokenized text: input_ids and, unless they are all 0, token_type_ids, equally long. Every token is attended to."""

PROBES = ("", "a", "Not <pad> [SEP] AGAIN?\n  안녕하세요 …")


def direct(tokenizer: Any) -> Any | None:
    """What of the library `tokenizers` makes the same ids as this tokenizer of transformers; None where nothing does, or where
    the ids are not all there is."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if not hasattr(backend, "encode_batch_fast"):
        return None
    expected = tokenizer(list(PROBES), verbose=False)  # it leaves the backend without truncation and padding
    typed = any(map(any, expected.get("token_type_ids", [])))
    same = [found.ids for found in backend.encode_batch_fast(PROBES)] == expected["input_ids"]
    return backend if same and not typed else None


class Tokens:
    """A tokenizer of transformers, for texts of at most `limit` tokens. Not to be asked by two threads at once."""

    def __init__(self, tokenizer: Any, limit: int) -> None:
        self.tokenizer, self.limit, self.backend = tokenizer, limit, direct(tokenizer)

    def rows(self, texts: Sequence[str]) -> tuple[list[Row], list[bool]]:
        """A row of at most `limit` tokens for each text, and which of the texts had more. No row is empty."""
        if not texts:
            return [], []
        rows = self._whole(texts)
        truncated = [len(row["input_ids"]) > self.limit for row in rows]
        for index in (index for index, cut in enumerate(truncated) if cut):
            rows[index] = self._encode([texts[index]], truncation=True, max_length=self.limit)[0]
        return rows, truncated

    def padded(self, rows: Sequence[Row]) -> Any:
        """A batch as transformers' models take it, [rows, the longest row's tokens] on the CPU, with its attention mask."""
        lists = [{name: list(ids) for name, ids in row.items()} for row in rows]
        return self.tokenizer.pad(lists, return_attention_mask=True, return_tensors="pt", verbose=False)

    def _whole(self, texts: Sequence[str]) -> list[Row]:
        if self.backend is None:
            return self._encode(texts, truncation=False)
        self.backend.no_truncation()  # which the last long text may have left
        blank = [self.tokenizer.pad_token_id]
        return [{"input_ids": array("i", found.ids or blank)} for found in self.backend.encode_batch_fast(texts)]

    def _encode(self, texts: Sequence[str], **options: Any) -> list[Row]:
        typed = None if self.backend is None else False  # None: as its models want
        fields = self.tokenizer(list(texts), return_attention_mask=False, return_token_type_ids=typed, verbose=False, **options)
        # A tokenizer without special tokens makes nothing of an empty text; a model needs a token to look at.
        blank = {"input_ids": self.tokenizer.pad_token_id, "token_type_ids": 0}
        return [
            {name: list(ids) or [blank[name]] for name, ids in zip(fields, row, strict=True)}
            for row in zip(*fields.values(), strict=True)
        ]
