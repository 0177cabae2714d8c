"""The last turns of the customer's side with their text, for evidence. Pure."""

from bisect import bisect_right

from streams.records import Evidence, Scored
from streams.turns import Turn, hashed, order

CUSTOMER_SIDE = ("customer", "unknown")
RECENT = 5  # scored turns
QUOTE = 160  # characters kept of a turn's text


def quoted(recent: tuple[Evidence, ...], scored: Scored, turn: Turn) -> tuple[Evidence, ...]:
    """The last turns of the customer's side, with this one at its place by time."""
    if turn.score is None or turn.label is None or turn.speaker not in CUSTOMER_SIDE:
        return recent
    text = scored.text if len(scored.text) <= QUOTE else scored.text[: QUOTE - 1] + "…"
    end = turn.end_ms
    quoted = Evidence(scored.segment_id or "", turn.speaker, turn.start_ms, end, turn.score, turn.label, text)
    later = recent and end <= recent[-1].end_ms
    place = bisect_right(recent, order(turn), key=_evidence_order) if later else len(recent)
    return (*recent[:place], quoted, *recent[place:])[-RECENT:]


def _evidence_order(turn: Evidence) -> tuple[int, int, str]:
    return turn.end_ms, turn.start_ms, hashed(turn.segment_id)
