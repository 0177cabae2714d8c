"""The state of a call as it lies on calls.state: smaller than in memory, and no slower to read. Pure.

Turns are packed, 22 bytes each; quoted turns are arrays; the course is not stored, since the settled one and the turns since
give it. All else is as in memory.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import get_args

from streams.conversation import REVISIONS, Conversation
from streams.late import folded
from streams.records import SPEAKERS, Evidence, Label, Speaker
from streams.turns import Turn

_TURN = struct.Struct("<6sIIII")
_KINDS: tuple[tuple[Speaker, Label | None, int], ...] = tuple(
    (speaker, label, revision)
    for revision in range(-1, REVISIONS)
    for label in (*get_args(Label), None)
    for speaker in SPEAKERS
)
_KIND = {kind: n for n, kind in enumerate(_KINDS)}
_FIELDS = [f.name for f in fields(Conversation) if f.name not in ("turns", "recent", "course")]
Quote = tuple[str, int, int, int, float, str]
"""Segment id, kind, start, end, score and text of an Evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored(Conversation):
    """`turns` packed, `recent` as arrays, without `course`."""

    turns: bytes = b""  # type: ignore[assignment]
    recent: tuple[Quote, ...] = ()  # type: ignore[assignment]


def stored(call: Conversation) -> dict[str, object]:
    """What is to be encoded."""
    state = {name: getattr(call, name) for name in _FIELDS}
    state["turns"] = packed(call.turns, call.at_ms)
    state["recent"] = [_quote(turn) for turn in call.recent]
    return state


def restored(state: Stored) -> Conversation:
    """The call again, equal to the one that was stored."""
    turns = unpacked(state.turns, state.at_ms)
    return Conversation(
        **{name: getattr(state, name) for name in _FIELDS},
        turns=turns,
        recent=tuple(_evidence(*quote) for quote in state.recent),
        course=folded(state.settled, turns[len(turns) - state.unsettled :]),
    )


def _quote(e: Evidence) -> Quote:
    return e.segment_id, _KIND[e.speaker, e.label, 0], e.start_ms, e.end_ms, e.score, e.text


def _evidence(segment_id: str, kind: int, start: int, end: int, score: float, text: str) -> Evidence:
    speaker, label, _ = _KINDS[kind]
    assert label is not None, "only scored turns are quoted"  # noqa: S101  (for mypy)
    return Evidence(segment_id, speaker, start, end, score, label, text)


def packed(turns: Iterable[Turn], at_ms: int) -> bytes:
    """Per turn: the segment's hash; its kind and how long before `at_ms` it ended; score and words; how long it was (35 bits at
    most, of which the upper stand with what a bot said)."""
    return b"".join(
        _TURN.pack(
            bytes.fromhex(segment),
            _KIND[speaker, label, revision] << 20 | at_ms - end,
            (0 if score is None else round(score * 100_000) + 100_000) << 14 | words,
            end - start & 0xFFFFFFFF,
            end - start >> 32 << 24 | said,
        )
        for segment, speaker, start, end, score, label, words, revision, said in turns
    )


def unpacked(data: bytes, at_ms: int) -> tuple[Turn, ...]:
    """The turns again."""
    made = []
    for segment, a, b, length, c in _TURN.iter_unpack(data):
        speaker, label, revision = _KINDS[a >> 20]
        end = at_ms - (a & 0xFFFFF)
        score = None if label is None else ((b >> 14) - 100_000) / 100_000
        start = end - length - (c >> 24 << 32)
        made.append(Turn(segment.hex(), speaker, start, end, score, label, b & 0x3FFF, revision, c & 0xFFFFFF))
    return tuple(made)
