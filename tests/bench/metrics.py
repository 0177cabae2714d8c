"""What the metrics cost a segment: python -m tests.bench.metrics.

Only what they add is timed, as the agents call it, in batches; and how long a scrape holds the worker up. Seconds are of the
processor."""

import argparse
import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from msgspec.structs import replace

from models.histogram import Histogram
from streams.census import Census, Queues
from streams.exposition import Exposition
from streams.metrics import SECONDS, Agent, Computing, Counts, Judge, Metrics, Scrape, spoken_ms
from streams.outcome import Outcome
from streams.records import Sentiment
from streams.rules import load
from tests.builders import T0, folded, scored

ATTRIBUTES = {"queue": "billing", "agent_id": "a-17"}
TURN = scored(1, -0.9, attributes=ATTRIBUTES)


def timed(act: Callable[[int], None], segments: int, batch: int) -> float:
    """Microseconds a segment, the best of five."""

    def once() -> float:
        began = time.process_time()
        for _ in range(segments // batch):
            act(batch)
        return (time.process_time() - began) / segments * 1e6

    return min(once() for _ in range(5))


def scorer(metrics: Metrics) -> Callable[[int], None]:
    """What agents.Scoring does beside its work, with the engine's sizes and the lane's time."""
    texts, process = Histogram(SECONDS), Histogram(SECONDS)
    timestamps = [T0 + n for n in range(4096)]

    def act(batch: int) -> None:
        now = time.monotonic() + T0 / 1000
        metrics.stages["consumed"].observe_all([now - at / 1000 for at in timestamps[:batch]])
        for _ in range(batch):
            metrics.spoken_ms += spoken_ms(TURN)
        metrics.published(batch, now, now + 0.01, now + 0.02)
        for histogram in (texts, texts, process):
            histogram.observe(batch)
        metrics.sent.update({"calls.sentiment": batch})

    return act


def judge(metrics: Metrics, live: int) -> Callable[[int], None]:
    """What pipeline.Calls and judging.Judging do beside their work, with so many live calls."""
    census = Census(metrics.queues)
    call = folded([TURN])
    calls = [replace(call, call_id=f"c{n}", attributes={"queue": f"q{n % 70}"}) for n in range(live)]
    for each in calls:
        census.note(each, 0)
    base, place = datetime(2023, 11, 14, tzinfo=timezone.utc), iter(range(1 << 60))

    def act(batch: int) -> None:
        outcome = Outcome()
        scored_at = base + timedelta(seconds=next(place) % 60)
        for _ in range(batch):
            outcome.scored_at.append(scored_at)
            outcome.raised_at += [TURN.source.timestamp] * 0
            each = calls[next(place) % live]
            outcome.hear(TURN, census.queues.of(each.attributes))
            census.note(each, 0)
        metrics.judged(outcome, T0 / 1000)
        metrics.sent.update({"calls.state": batch + 1})

    return act


def scrape(metrics: Metrics) -> float:
    """Milliseconds."""
    agents = [
        Agent(r, f"g-{r}", f"calls.{r}", 3, 9, 0.0, Histogram(SECONDS), {(r, n): n for n in range(12)}) for r in ("s", "j")
    ]
    model = Computing("m", "1", "bf16", "cpu", None, None, 1.0, Histogram(SECONDS), Histogram(SECONDS))
    queues = {f"q{n}": n for n in range(50)}
    exposition = Exposition(lambda: Scrape("1", Counts(), metrics, agents, model, Judge(queues, queues, load(None), False)))
    exposition.text()
    return timed(lambda _: [exposition.text() for _ in range(10)] and None, 10, 10) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--live", type=int, default=100_000, help="live calls of a partition")
    options = parser.parse_args()
    assert isinstance(TURN.sentiment, Sentiment)
    metrics = Metrics(Queues())
    rows = {}
    for batch in (1, 64, 512):
        both = timed(scorer(metrics), 51_200, batch), timed(judge(metrics, options.live), 51_200, batch)
        rows[f"batch of {batch}"] = {"scorer_us": round(both[0], 2), "judge_us": round(both[1], 2), "us": round(sum(both), 2)}
    print(json.dumps(rows | {"scrape_ms": round(scrape(metrics), 1)}, indent=1))


if __name__ == "__main__":
    main()
