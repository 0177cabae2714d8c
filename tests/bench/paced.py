"""How long a segment waits from produce to scored, at a steady load: paced runs, each at a share of the measured throughput."""

import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from kafka import KafkaProducer

from models.measures import percentile
from streams.records import Record
from streams.settings import Settings
from tests.bench.race import tell
from tests.bench.stream import judged, prepare, scored, turns_of, worker

SETTLE_S = 3.0
WARM, SHARES = 50, (10, 50, 70, 80)  # percent; the first run is not counted
LINGER_MS = 5  # as Kafka's own producer waits by default since version 4; it counts among the latency


@dataclass(frozen=True, slots=True)
class Phase:
    """A paced run: what was sent from `counted` to `ended` counts (seconds since 1970)."""

    share: int
    counted: float
    ended: float


@dataclass(frozen=True, slots=True)
class Timed:
    """A segment: when it was produced, and when it was scored, in seconds since 1970."""

    produced: float
    scored: float


def gaps(rate: float, seconds: float, rng: random.Random) -> Iterator[float]:
    """When to send, in seconds from the start: at random, as independent callers speak (a Poisson process)."""
    at = rng.expovariate(rate)
    while at < seconds:
        yield at
        at += rng.expovariate(rate)


def figures(phase: Phase, segments: Sequence[Timed]) -> dict[str, float]:
    """p50 and p99 in ms, and how many were not scored yet when the last one of the phase was sent, in ms of its load."""
    mine = [s for s in segments if phase.counted <= s.produced < phase.ended]
    if not mine:
        return {}
    waits = [1000 * (s.scored - s.produced) for s in mine]
    behind = sum(s.scored > phase.ended for s in mine)
    return {
        f"p50_ms_at_{phase.share}": round(percentile(waits, 0.5), 1),
        f"p99_ms_at_{phase.share}": round(percentile(waits, 0.99), 1),
        f"lag_ms_at_{phase.share}": round(1000 * behind * (phase.ended - phase.counted) / len(mine), 1),
    }


def measure(settings: Settings, per_s: float, texts: Sequence[str], seconds: float) -> dict[str, float]:
    """Figures of each share of `per_s`, one worker for all of them."""
    prepare(settings, turns_of(texts, 1))
    with worker(settings) as process, closing(_producer(settings)) as producer:
        judged(settings, 1, process)
        phases, sent = [], 1
        for number, share in enumerate((WARM, *SHARES)):
            rate = max(1.0, per_s * share / 100)
            records = turns_of(texts, math.ceil(rate * (SETTLE_S + seconds) * 1.5) + 50)
            began = time.time()
            sent += send(settings, producer, records, list(gaps(rate, SETTLE_S + seconds, random.Random(number))), number)
            phases.append(Phase(share, began + SETTLE_S, time.time()))
            tell(f"  paced at {share} %: {rate:.0f}/s")
            judged(settings, sent, process)
    segments = [Timed(turn.source.timestamp / 1000, turn.scored_at.timestamp()) for turn in scored(settings)]
    return merged(figures(phase, segments) for phase in phases[1:])


def _producer(settings: Settings) -> KafkaProducer:
    return KafkaProducer(bootstrap_servers=settings.bootstrap_servers, linger_ms=LINGER_MS)


def merged(parts: Iterator[Mapping[str, float]]) -> dict[str, float]:
    return {name: value for part in parts for name, value in part.items()}


def send(settings: Settings, producer: KafkaProducer, records: Sequence[Record], times: Sequence[float], run: int) -> int:
    """Sends one record at each of the times, in calls that no other run has; its timestamp is when it was handed to the
    producer. Returns how many."""
    began = time.time()
    for at, record in zip(times, records, strict=False):
        if (wait := began + at - time.time()) > 0:
            time.sleep(wait)
        key = f"{run}-".encode() + (record.key or b"")
        value = (record.value or b"").replace(record.key or b"", key, 1)
        producer.send(settings.topic("segments"), key=key, value=value)
    producer.flush()
    return min(len(times), len(records))
