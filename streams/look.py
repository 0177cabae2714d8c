"""One look at a call: what conditions ask of it, worked out once. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from streams.conversation import Conversation
from streams.episodes import Watches
from streams.measures import MEASURES, side, window
from streams.turns import Turn

GROWS = frozenset(("since_customer_spoke_s", "since_spoke_s", "silence_s", "duration_s"))
"""Measures that grow by a second a second while nobody speaks."""
UNREAD = object()
NEAR = 8  # turns that are read at once: most rules ask for fewer


@dataclass(frozen=True, slots=True)
class Span:
    """So many last turns, or those that end within so many ms before the call's last word."""

    turns: int
    within_ms: int | None = None


class Look:
    """One look at a call, `idle_ms` after it was last heard of; what several rules ask for is worked out once. `watches` are
    newer than the call's own while it is judged."""

    __slots__ = ("call", "idle_ms", "memo", "watches")

    def __init__(self, call: Conversation, idle_ms: int = 0, watches: Watches | None = None) -> None:
        self.call, self.idle_ms = call, idle_ms
        self.watches = watches if watches is not None else call.watches
        self.memo: dict[Any, Any] = {}

    def value(self, key: tuple[str, str]) -> float | None:
        """The measure of this name and speaker."""
        found = self.memo.get(key, UNREAD)
        if found is UNREAD:
            found = MEASURES[key[0]].read(self.call, key[1])
            if key[0] in GROWS and found is not None:
                found = round(found + self.idle_ms / 1000, 3)  # to the ms: 12.299999 would miss 12.3 and its due time
            self.memo[key] = found
        return found  # type: ignore[no-any-return]

    def turns(self, speaker: str, span: "Span", scored: bool = True) -> Sequence[Turn]:
        """A speaker's turns in a span, the scored ones or all. Turns lie packed: no more are read than are asked for."""
        if span.within_ms is not None:
            return self._read(speaker, scored, None, span.within_ms)
        deepest: tuple[int, Sequence[Turn]] = self.memo.get((speaker, scored), (0, ()))
        if deepest[0] < span.turns:
            depth = max(span.turns, NEAR)
            deepest = self.memo[speaker, scored] = depth, self._read(speaker, scored, depth, None)
        return deepest[1][-span.turns :]

    def _read(self, speaker: str, scored: bool, turns: int | None, within_ms: int | None) -> Sequence[Turn]:
        key = speaker, scored, turns, within_ms
        found = self.memo.get(key)
        if found is None:
            who, seconds = None if speaker == "any" else speaker, None if within_ms is None else within_ms / 1000
            found = self.memo[key] = window(self.call, who, turns=turns, seconds=seconds, scored=scored)
        return found


def names_of(call: Conversation, speaker: str) -> frozenset[str]:
    """What a rule may call who has just spoken: "any" as well, and an unknown speaker "customer" while none was scored."""
    return _names(speaker, speaker == side(call, "customer"))


@lru_cache(maxsize=16)
def _names(speaker: str, is_customer: bool) -> frozenset[str]:
    return frozenset((speaker, "any", "customer" if is_customer else speaker))
