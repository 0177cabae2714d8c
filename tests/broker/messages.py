"""Messages for calls.segments: the calls that ship with callpulse, and made-up ones whose mood goes up and down."""

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from streams.recording import read

CALLS = Path(__file__).parents[2] / "streams" / "calls"
Sent = tuple[bytes | None, bytes | None, int]
"""Key, value and timestamp of a message for calls.segments."""


def now_ms() -> int:
    return int(datetime.now(timezone.utc).timestamp() * 1000)


def bundled(now_ms: int) -> list[Sent]:
    """The calls that ship with callpulse, side by side, the last of their messages arriving at `now_ms`."""
    recorded = [record for path in sorted(CALLS.glob("*.jsonl")) for record in read(path)]
    begin = now_ms - max(record.timestamp for record in recorded)
    by_time = sorted(recorded, key=lambda record: record.timestamp)
    return [(record.key, record.value, begin + record.timestamp) for record in by_time]


MOODS = (
    "how can I",
    "terrible, awful, useless",
    "the worst, unacceptable",
    "great, thank you, wonderful",
    "perfect, I am happy",
)


def call(call_id: str, turns: Sequence[int], begin_ms: int, end: bool = True, apart_ms: int = 10_000) -> list[Sent]:
    """Turns of a call by their numbers, with which the customer's mood goes up and down; the end event after them."""
    made: list[tuple[dict[str, Any], int]] = []
    for n in turns:
        said = {"speaker": "customer", "text": MOODS[n // 4 % len(MOODS)], "start_ms": n * 10_000, "end_ms": n * 10_000 + 4_000}
        made.append(({"call_id": call_id, "segment_id": f"s{n}"} | said, begin_ms + n * apart_ms))
    if end:
        made.append(({"call_id": call_id, "type": "end"}, made[-1][1] + 1))
    return [(call_id.encode(), json.dumps(value).encode(), at) for value, at in made]
