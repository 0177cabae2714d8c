"""What is kept of one final utterance, and how turns are ordered. Pure.

Turns are in the order in which they ended, whatever the order in which they came.
"""

import hashlib

from msgspec import Struct

from streams.records import Label, Scored, Speaker

MAX_WORDS = 9_999


class Turn(Struct, frozen=True, array_like=True):
    """One final utterance."""

    segment: str
    """`hashed` segment id, by which a repeat is known."""
    speaker: Speaker
    start_ms: int
    end_ms: int
    score: float | None
    label: Label | None
    """Score and label are None where it was not scored."""
    words: int
    revision: int
    """Index into Conversation.revisions, -1 where it was not scored: what compares scores never does across two of them."""
    said: int = 0
    """24 bits of a hash of what a bot said, by which a repeated prompt is known; 0 for all others."""


def order(turn: Turn) -> tuple[int, int, str]:
    """The place of a turn in its call."""
    return turn.end_ms, turn.start_ms, turn.segment


def heard(scored: Scored, segment: str, start: int, end: int, revision: int) -> Turn:
    """The turn that a final segment is, by its times on the call and the index of the model's revision."""
    words = scored.text.split()
    said = _said(words) if scored.speaker == "bot" and words else 0
    told = min(len(words), MAX_WORDS)
    if scored.sentiment is None:
        return Turn(segment, scored.speaker, start, end, None, None, told, -1, said)
    score, label = round(scored.sentiment.score, 5), scored.sentiment.label
    return Turn(segment, scored.speaker, start, end, score, label, told, revision, said)


def _said(words: list[str]) -> int:
    return int.from_bytes(hashlib.blake2b(" ".join(words).casefold().encode(errors="replace"), digest_size=3).digest(), "big")


def hashed(segment_id: str) -> str:
    """48 bits, in hex: of a call's ids two look alike once in 10^10 calls."""
    return hashlib.blake2b(segment_id.encode(), digest_size=6).hexdigest()
