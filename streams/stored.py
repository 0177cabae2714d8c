"""The state of a call as it lies on calls.state: smaller than in memory. Pure.

Quoted turns are arrays; the course is not stored, since the settled one and the turns since give it.
"""

from dataclasses import dataclass, fields

from streams.conversation import Conversation
from streams.kept import KIND, KINDS
from streams.late import folded
from streams.records import Evidence

_FIELDS = [f.name for f in fields(Conversation) if f.name not in ("recent", "course")]
Quote = tuple[str, int, int, int, float, str]
"""Segment id, kind, start, end, score and text of an Evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored(Conversation):
    """`recent` as arrays, without `course`."""

    recent: tuple[Quote, ...] = ()  # type: ignore[assignment]


def stored(call: Conversation) -> dict[str, object]:
    """What is to be encoded."""
    state: dict[str, object] = {name: getattr(call, name) for name in _FIELDS}
    state["recent"] = [(e.segment_id, KIND[e.speaker, e.label, 0], e.start_ms, e.end_ms, e.score, e.text) for e in call.recent]
    return state


def restored(state: Stored) -> Conversation:
    """The call again, equal to the one that was stored."""
    return Conversation(
        **{name: getattr(state, name) for name in _FIELDS},
        recent=tuple(_evidence(*quote) for quote in state.recent),
        course=folded(state.settled, state.turns[len(state.turns) - state.unsettled :]),
    )


def _evidence(segment_id: str, kind: int, start_ms: int, end_ms: int, score: float, text: str) -> Evidence:
    speaker, label, _ = KINDS[kind]
    return Evidence(segment_id, speaker, start_ms, end_ms, score, label or "neutral", text)
