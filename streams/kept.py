"""The turns that a state keeps, packed: 23 bytes each, nothing for the garbage collector, unpacked when they are read. Pure.

A judge holds the states of many calls and touches each one seldom; most rules read the last few turns of a call.
"""

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import get_args, overload

from streams.records import SPEAKERS, Label, Scored, Speaker
from streams.turns import Turn

REVISIONS = 8  # of models, known by their index
MAX_REVISION = 64  # characters of a model's name and revision, the last ones
_FORM = struct.Struct("<6sIIIIB")
_SIZE = _FORM.size
KINDS: tuple[tuple[Speaker, Label | None, int], ...] = tuple(
    (speaker, label, revision)
    for revision in range(-1, REVISIONS)
    for label in (*get_args(Label), None)
    for speaker in SPEAKERS
)
"""What a number stands for: speaker, label, revision."""
KIND = {kind: n for n, kind in enumerate(KINDS)}
_LOW = 0xFFFFFFFF


def pack(turn: Turn) -> bytes:
    """The segment's hash; end and length, 35 bits each; score (five decimals) and words; what a bot said, and the kind."""
    score, end = turn.score, turn.end_ms
    length = end - turn.start_ms
    measured = (0 if score is None else round(score * 100_000) + 100_000) << 14 | turn.words
    kind = turn.said << 8 | KIND[turn.speaker, turn.label, turn.revision]
    return _FORM.pack(bytes.fromhex(turn.segment), end & _LOW, length & _LOW, measured, kind, end >> 32 << 4 | length >> 32)


@lru_cache(maxsize=1 << 12)
def unpack(packed: bytes) -> Turn:
    """The turn again. Remembered: many rules look at the same turns."""
    segment, end, length, measured, kind, high = _FORM.unpack(packed)
    end |= high >> 4 << 32
    length |= (high & 0xF) << 32
    speaker, label, revision = KINDS[kind & 0xFF]
    score = None if label is None else ((measured >> 14) - 100_000) / 100_000
    return Turn(segment.hex(), speaker, end - length, end, score, label, measured & 0x3FFF, revision, kind >> 8)


class Turns(Sequence[Turn]):
    """A tuple of turns, packed. Slices are Turns."""

    __slots__ = ("packed",)

    def __init__(self, packed: bytes = b"") -> None:
        self.packed = packed

    def __len__(self) -> int:
        return len(self.packed) // _SIZE

    @overload
    def __getitem__(self, place: int) -> Turn: ...
    @overload
    def __getitem__(self, place: slice) -> "Turns": ...
    def __getitem__(self, place: int | slice) -> "Turn | Turns":
        if isinstance(place, slice):
            begin, end, step = place.indices(len(self))
            if step != 1:
                raise ValueError("turns are sliced in order")
            return Turns(self.packed[begin * _SIZE : end * _SIZE])
        packed = self.packed
        at = place * _SIZE if place >= 0 else place * _SIZE + len(packed)
        if not 0 <= at < len(packed):
            raise IndexError(place)
        return unpack(packed[at : at + _SIZE])

    def __iter__(self) -> Iterator[Turn]:
        packed = self.packed
        return (unpack(packed[at : at + _SIZE]) for at in range(0, len(packed), _SIZE))

    def __reversed__(self) -> Iterator[Turn]:
        packed = self.packed
        return (unpack(packed[at : at + _SIZE]) for at in range(len(packed) - _SIZE, -1, -_SIZE))

    def __eq__(self, other: object) -> bool:
        return self.packed == other.packed if isinstance(other, Turns) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.packed)

    def __repr__(self) -> str:
        return f"Turns{tuple(self)!r}"

    def inserted(self, place: int, turn: Turn) -> "Turns":
        """With one more turn before the one at `place`."""
        at = place * _SIZE
        return Turns(self.packed[:at] + pack(turn) + self.packed[at:])

    def segments(self) -> tuple[str, ...]:
        """Their hashes."""
        return tuple(self.packed[at : at + 6].hex() for at in range(0, len(self.packed), _SIZE))

    def has(self, segment: str) -> bool:
        """Whether the turn of this hash is among them."""
        wanted, at = bytes.fromhex(segment), -1
        while (at := self.packed.find(wanted, at + 1)) >= 0:
            if at % _SIZE == 0:
                return True
        return False


def known(revisions: tuple[str, ...], scored: Scored, turns: Turns) -> tuple[tuple[str, ...], int]:
    """The revisions with the one that scored this, and its index, -1 where nothing did. The ninth takes the place of one that
    none of these turns has."""
    if scored.sentiment is None:
        return revisions, -1
    revision = f"{scored.model.name}@{scored.model.revision}"[-MAX_REVISION:]
    if revision in revisions:
        return revisions, revisions.index(revision)
    if len(revisions) < REVISIONS:
        return (*revisions, revision), len(revisions)
    used = {turn.revision for turn in turns}
    index = next((i for i in range(REVISIONS) if i not in used), 0)
    return (*revisions[:index], revision, *revisions[index + 1 :]), index
