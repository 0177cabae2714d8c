"""Is it alive, is it ready, is it behind? Liveness means progress: lag without any offset moving is what a restart may cure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Progress:
    """What one agent has been seen to do; times in seconds, of any clock that never goes back."""

    moved_at: float
    reached: dict[Any, int] = field(default_factory=dict)
    lag: int = 0
    paused: bool = False

    def observe(self, reached: Mapping[Any, int], lag: int, paused: bool, now: float) -> None:
        """The offsets reached by partition, the records that lie behind them, and whether consumption is paused. A partition
        that comes back counts as moved only once it is further than it ever was."""
        if lag == 0 or any(offset > self.reached.get(place, -1) for place, offset in reached.items()):
            self.moved_at = now
        self.reached |= {place: max(offset, self.reached.get(place, -1)) for place, offset in reached.items()}
        self.lag, self.paused = lag, paused

    def unassigned(self) -> None:
        """No partitions are worked on, as in a rebalance. That counts as something to do: one that never ends must show."""
        self.lag = max(1, self.lag)

    def still_s(self, now: float) -> float:
        """Seconds in which nothing moved though there was something to do."""
        return now - self.moved_at if self.lag else 0.0


def health(
    progress: Mapping[str, Progress], stall_s: float, now: float, rules: Mapping[str, object] | None = None
) -> tuple[bool, dict[str, Any]]:
    """Whether all agents make progress, and what /healthz says; `rules`: of those in force, where calls are judged."""
    agents = {
        name: {"lag": p.lag, "still_s": round(p.still_s(now), 1), "degraded": p.paused or p.still_s(now) > stall_s / 2}
        for name, p in progress.items()
    }
    alive = all(p.still_s(now) <= stall_s for p in progress.values())
    return alive, {"status": "ok" if alive else "stalled", "agents": agents} | ({"rules": rules} if rules else {})
