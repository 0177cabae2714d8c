"""Where the tokens of a packed batch lie: its rows end to end, or in blocks of one size that hold whole rows.

Everything about a batch is written into one buffer on the host (`stage`) and found again wherever it was copied to (`unstage`).
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from models.tokens import Row

BLOCK = 32
"""Tokens under one mask, where rows are short enough: so few that what is masked out costs little beside the rest of a layer,
so many that matrices are not too small to multiply fast (measured on call turns: 16 and 48 are slower)."""
OPEN = 8  # blocks that a row is tried in before a new one is begun


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows end to end, on the device that computes; the tensors are of int32."""

    lengths: tuple[int, ...]
    """Tokens a row, known to the host."""
    block: int
    """Tokens a block, where rows are in blocks; else 0."""
    cu_seqlens: Tensor
    """Where each row begins, and where the last one ends: [rows + 1]."""
    positions: Tensor
    """0, 1, … within each row: [tokens]."""
    input_ids: Tensor
    token_type_ids: Tensor | None


def layout(lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """cu_seqlens [rows + 1] and positions [tokens] (see Batch) of rows of these many tokens.

    Raises ValueError for a row without tokens: it has no first token to be judged by.
    """
    if min(lengths, default=1) < 1:
        raise ValueError("a row without tokens cannot be packed")
    cu_seqlens = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    starts = cu_seqlens[:-1].repeat_interleave(torch.tensor(lengths, dtype=torch.int64))
    return cu_seqlens, torch.arange(len(starts), dtype=torch.int32) - starts


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """All about a batch in one int32 buffer on the host, so that one copy takes it over: cu_seqlens, positions, input ids and,
    where it is `typed`, token types. `places` says which of its rows are the ones that were asked for, in their order."""

    buffer: Tensor
    lengths: tuple[int, ...]
    places: tuple[int, ...]
    block: int
    typed: bool

    def unstage(self, buffer: Tensor) -> Batch:
        """Views into the buffer, or into its copy on another device."""
        tokens = sum(self.lengths)
        sizes = [len(self.lengths) + 1, tokens, tokens, *([tokens] if self.typed else [])]
        pieces: tuple[Tensor, ...] = torch.split(buffer, sizes)
        cu_seqlens, positions, input_ids, *types = pieces
        return Batch(self.lengths, self.block, cu_seqlens, positions, input_ids, types[0] if types else None)


def stage(rows: Sequence[Row], *, blocks: bool = False, typed: bool = False, pinned: bool = False) -> Staged:
    """The rows as they are or, with `blocks`, as `in_blocks` arranges them."""
    arranged, places, block = in_blocks(rows) if blocks else (list(rows), tuple(range(len(rows))), 0)
    lengths = tuple(len(row["input_ids"]) for row in arranged)
    names = ("input_ids", "token_type_ids") if typed else ("input_ids",)
    fields = [end_to_end(row[name] for row in arranged) for name in names]
    parts = [*layout(lengths), *fields]
    buffer = torch.empty(sum(map(len, parts)), dtype=torch.int32, pin_memory=pinned)
    return Staged(torch.cat(parts, out=buffer), lengths, places, block, typed)


def end_to_end(rows: Iterable[Sequence[int]]) -> Tensor:
    """What they hold: [tokens]."""
    joined = array("i")
    for row in rows:
        joined.extend(row)
    return torch.frombuffer(joined, dtype=torch.int32) if joined else torch.empty(0, dtype=torch.int32)


def in_blocks(rows: Sequence[Row]) -> tuple[list[Row], tuple[int, ...], int]:
    """The rows in another order, rows of padding among them, so that each block of so many tokens holds whole rows; the place
    of each row, in the order given; and the tokens a block: a multiple of the longest row. First fit, longest first."""
    lengths = [len(row["input_ids"]) for row in rows]
    longest = max(lengths)
    size = longest * max(1, BLOCK // longest)
    blocks: list[tuple[list[int], int]] = []  # rows and the room left
    for index in sorted(range(len(rows)), key=lambda index: -lengths[index]):
        near = range(max(0, len(blocks) - OPEN), len(blocks))
        at = next((at for at in near if blocks[at][1] >= lengths[index]), len(blocks))
        held, room = blocks.pop(at) if at < len(blocks) else ([], size)
        blocks.insert(at, ([*held, index], room - lengths[index]))
    arranged: list[Row] = []
    places = [0] * len(rows)
    for held, room in blocks:
        for index in held:
            places[index] = len(arranged)
            arranged.append(rows[index])
        arranged += [blank(min(longest, room - begin)) for begin in range(0, room, longest)]  # no longer than positions allow
    return arranged, tuple(places), size


def rounded(count: int) -> int:
    """The least number from `count` on that has at most four binary digits before its zeros: 1 to 16, 18, 20, …, 32, 36, …"""
    grain = 1 << max(0, (count - 1).bit_length() - 4)
    return -(-count // grain) * grain


def blank(length: int) -> Row:
    """A row that nobody asked for."""
    return {"input_ids": [0] * length, "token_type_ids": [0] * length}
