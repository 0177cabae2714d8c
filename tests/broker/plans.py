"""Which faults are played, how often and on which brokers: the short form for CI, and the long one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from . import faults, outages
from .stage import Stage

HALF_A_DAY_S = 43_200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault with how many times it is injected on each broker. `model` "" is the one that is asked for. `silence_s` is
    longer than any play, so that no call ends by it; `clock`: it steps the workers' wall clock. `user`: whom the
    workers log in as, where that is not an administrator."""

    name: str
    play: Callable[[Stage, int], None]
    times: Mapping[str, int]
    workers: int = 2
    rate: float = 40.0
    model: str = ""
    silence_s: float = HALF_A_DAY_S
    clock: bool = False
    user: str = ""


def _everywhere(embedded: int, apache: int) -> dict[str, int]:
    return {"embedded": embedded, "apache": apache}


UNFENCED = "6 SIGKILL and SIGTERM, the only worker"
"""On a broker without transactions nothing fences a worker that the group takes for dead and that writes all the same: one
that was frozen, or that a busy machine kept from its heartbeats. A lone one has nobody to disagree with."""
SHORT = (
    Fault(name="6 SIGKILL, SIGTERM, freeze, join, leave", play=faults.mixed, times={"apache": 6}, rate=60, model="lexicon"),
    Fault(name=UNFENCED, play=faults.killed_alone, times={"embedded": 6}, workers=1, rate=60, model="lexicon"),
    Fault(name="broker restart", play=outages.restarted, times={"apache": 1}, model="lexicon"),
    Fault(name="calls.sentiment below its in-sync minimum", play=outages.below_minimum, times={"three": 20}, model="lexicon"),
)


def long(minutes: float) -> tuple[Fault, ...]:
    """All faults; calls.sentiment is below its minimum for so long."""
    outage_s = {"three": int(minutes * 60)}
    return (
        Fault(name="odd messages only", play=faults.odd_messages, times=_everywhere(150, 150)),
        Fault(name="first start, one after the other", play=faults.begun, times=_everywhere(3, 3), workers=1),
        Fault(name="SIGKILL, the only worker", play=faults.killed, times=_everywhere(5, 16), workers=1),
        Fault(name="SIGKILL, one of two", play=faults.killed, times=_everywhere(5, 16)),
        Fault(name="SIGKILL, while they rebalance", play=faults.killed_at_once, times=_everywhere(8, 16), workers=3),
        Fault(name="SIGTERM and a new start", play=faults.updated, times=_everywhere(4, 6)),
        Fault(name="join and leave", play=faults.came_and_went, times=_everywhere(4, 6)),
        Fault(name="frozen beyond its session", play=faults.froze, times={"apache": 4}),
        Fault(name="slow consumer", play=faults.slowed, times=_everywhere(10, 10)),
        Fault(name="clock steps of an hour", play=faults.stepped, times=_everywhere(4, 4), clock=True, silence_s=1800.0),
        Fault(name="broker restart", play=outages.restarted, times={"apache": 4}),
        Fault(name="SIGKILL, over TLS and SASL", play=faults.killed, times={"secured": 4}),
        Fault(name="a right is denied", play=outages.denied, times={"secured": 2}, user="worker"),
        Fault(name="leader killed", play=outages.leader_killed, times={"three": 3}),
        Fault(
            name="calls.sentiment below its in-sync minimum",
            play=outages.below_minimum,
            times=outage_s,
            workers=1,
            rate=500,
            model="lexicon",  # the model could not catch up with 500 a second on two cores
        ),
    )
