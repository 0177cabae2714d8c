"""What judging some records gives. Pure."""

from dataclasses import dataclass, field
from datetime import datetime

from streams.conversation import Conversation
from streams.quotes import CUSTOMER_SIDE
from streams.records import Alert, Label, Reason, Scored, Summary


@dataclass(slots=True)
class Outcome:
    """What is to be published, then the changed calls to be stored (None: to be removed).

    The rest is counted once that is delivered. `scored_at`: when each record that was judged was scored; `raised_at`: the
    record's timestamp (ms) of the segment behind each alert that a segment gave, not the lapse of time; `turns`: those of the
    customer's side that were scored, by queue and label.
    """

    alerts: list[Alert] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    changed: dict[str, Conversation | None] = field(default_factory=dict)
    judged: int = 0
    repeats: int = 0
    rejected: list[Reason] = field(default_factory=list)
    scored_at: list[datetime] = field(default_factory=list)
    raised_at: list[int] = field(default_factory=list)
    turns: list[tuple[str, Label]] = field(default_factory=list)

    def hear(self, scored: Scored, queue: str) -> None:
        """A turn that is new to its call."""
        if scored.sentiment is not None and scored.final and scored.speaker in CUSTOMER_SIDE:
            self.turns.append((queue, scored.sentiment.label))
