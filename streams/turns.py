"""What is kept of one final utterance, and how turns are ordered. Pure.

Turns are in the order in which they ended, whatever the order in which they came.
"""

from typing import NamedTuple

from streams.records import Label, Speaker


class Turn(NamedTuple):
    """One final utterance. A tuple, since a state holds up to 64 and is decoded often."""

    segment: str
    """Hash of the segment's id, by which a repeat is known."""
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
    """Hash of what a bot said, by which a repeated prompt is known; 0 for all others."""


def order(turn: Turn) -> tuple[int, int, str]:
    """The place of a turn in its call."""
    return turn.end_ms, turn.start_ms, turn.segment
