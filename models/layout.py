"""Where the tokens of a packed batch lie: its rows end to end, or in blocks of one size that hold whole rows.

Everything about a batch is written into one buffer on the host (`stage`) and found again wherever it was copied to (`unstage`).
"""

from array import array
from collections.abc import Sequence
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
    """Rows end to end, on the device that computes; the tensors are of int32. There may be rows without tokens at the end, and
    behind them tokens that are in no row."""

    longest: int
    """Tokens of the longest row, known to the host, or more."""
    block: int
    """Tokens a block, where rows are in blocks; else 0."""
    cu_seqlens: Tensor
    """Where each row begins, and where the last one ends: [rows + 1]."""
    input_ids: Tensor
    token_type_ids: Tensor | None

    @property
    def places(self) -> Tensor:
        """0, 1, …: [tokens]."""
        return torch.arange(len(self.input_ids), device=self.input_ids.device, dtype=torch.int32)

    @property
    def owners(self) -> Tensor:
        """The number of each token's row, and of rows for a token that is in none: [tokens]."""
        return torch.bucketize(self.places, self.cu_seqlens[1:], right=True, out_int32=True)

    @property
    def positions(self) -> Tensor:
        """0, 1, … within each row, some position for a token that is in none: [tokens]."""
        return (self.places - self.cu_seqlens.index_select(0, self.owners)).clamp(max=self.longest - 1)


@dataclass(frozen=True, slots=True)
class Room:
    """For how many rows and tokens there is room, and how long a row may be."""

    rows: int
    tokens: int
    longest: int

    def holds(self, other: "Room") -> bool:
        return self.rows >= other.rows and self.tokens >= other.tokens and self.longest >= other.longest


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """All about a batch in one int32 buffer on the host, so that one copy takes it over: cu_seqlens, input ids and, where it is
    `typed`, token types, as far as there is `room`. `places` says which of its rows are the ones that were asked for, in
    their order."""

    buffer: Tensor
    room: Room
    places: tuple[int, ...]
    block: int
    typed: bool

    def unstage(self, buffer: Tensor) -> Batch:
        """Views into the buffer, or into its copy on another device."""
        sizes = [self.room.rows + 1, *[self.room.tokens] * (1 + self.typed)]
        pieces: tuple[Tensor, ...] = torch.split(buffer, sizes)
        cu_seqlens, input_ids, *types = pieces
        return Batch(self.room.longest, self.block, cu_seqlens, input_ids, types[0] if types else None)


def stage(rows: Sequence[Row], *, blocks: bool = False, typed: bool = False, room: Room | None = None) -> Staged:
    """The rows as they are or, with `blocks`, as `in_blocks` arranges them; in as much `room` as they need, or in that.

    Raises ValueError for a row without tokens: it has no first token to be judged by. There is no torch in most of this: each
    of its calls lets another thread have the interpreter.
    """
    arranged, places, block = in_blocks(rows) if blocks else (rows, tuple(range(len(rows))), 0)
    lengths, taken = [len(row["input_ids"]) for row in arranged], needed(arranged)
    if 0 in lengths:
        raise ValueError("a row without tokens cannot be packed")
    room = room or taken
    numbers = [*accumulate(lengths, initial=0), *[taken.tokens] * (room.rows - taken.rows)]
    for name in ("input_ids", "token_type_ids") if typed else ("input_ids",):
        for row in arranged:
            numbers += row[name]
        numbers += [0] * (room.tokens - taken.tokens)
    return Staged(torch.frombuffer(array("i", numbers), dtype=torch.int32), room, places, block, typed)


def needed(rows: Sequence[Row]) -> Room:
    lengths = [len(row["input_ids"]) for row in rows]
    return Room(len(lengths), sum(lengths), max(lengths, default=0))


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
