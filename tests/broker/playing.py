"""One fault from the first message to the verdict, as an entry of chaos.json."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import models
from models.sentiment import Scorer, Sentiment

from .brokers import Where
from .faults import faketime
from .fleet import fleet
from .oracle import EXACT, Verdict, judge
from .outages import let_in
from .plans import Fault
from .running import own
from .stage import Stage, staged

TOLERANCE = 2e-2  # of the model's score: it depends a little on what else is in the batch
COUNTS = ("lost", "scored_twice", "states_wrong", "alerts_missing", "alerts_extra", "alerts_repeated", "rejected_missing")
GRACE_S = 2.0
Entry = dict[str, Any]


class Known:
    """A scorer that scores a text once: the oracle scores everything again."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.known = scorer, dict[str, Sentiment]()
        self.name, self.revision, self.precision = scorer.name, scorer.revision, scorer.precision

    def score(self, texts: Sequence[str]) -> list[Sentiment]:
        news = sorted({*texts} - {*self.known})
        self.known |= dict(zip(news, self.scorer.score(news) if news else [], strict=True))
        return [self.known[text] for text in texts]


@cache
def scorer_of(model: str) -> Known:
    return Known(models.load(model))


def played(fault: Fault, broker: str, where: Where, model: str, seed: int) -> Entry:
    """Plays it on topics of its own; `model` is for faults that ask for none."""
    began, model, nodes = time.monotonic(), fault.model or model, where.nodes
    given = {
        "model": model,
        "grace_s": GRACE_S,
        "voice_silence_s": fault.silence_s,
        "replication": max(1, len(nodes)),
        "threads": 1,
    }
    settings = own(where.cluster, **given, **where.given)
    with tempfile.TemporaryDirectory() as folder:
        also = faketime(Path(folder)) if fault.clock else {}
        if fault.clock and not also:
            return {"broker": broker, "fault": fault.name, "good": True, "skipped": "no libfaketime: apt-get install faketime"}
        if fault.user and where.secured:
            let_in(where.secured, fault.user, settings)
        crew = fleet(replace(settings, sasl_username=fault.user) if fault.user else settings, also)
        with staged(settings, seed, fault.rate, where, crew) as stage:
            stage.fleet.add(fault.workers)
            fault.play(stage, fault.times[broker])
            stage.drain()
            left = stage.left()
    verdict = judge(left, scorer_of(model), EXACT if model == "lexicon" else TOLERANCE)
    return entry(fault, broker, stage, verdict, time.monotonic() - began)


def entry(fault: Fault, broker: str, stage: Stage, verdict: Verdict, seconds: float) -> Entry:
    """What chaos.json says of one fault; `good` is the oracle's word, if nothing was awaited in vain; where it is
    not, all that the workers said is there."""
    counts, good = asdict(verdict), verdict.flawless(transactions=broker != "embedded") and not stage.stuck
    back = [since for kill in stage.kills if (since := alerting_again(stage, kill)) is not None]
    return {
        "broker": broker,
        "fault": fault.name,
        "injected": stage.injected,
        "segments": verdict.segments,
        **{name: counts[name] for name in COUNTS},
        "seconds": round(seconds, 1),
        "good": good,
        "model": stage.settings.model,
        "workers": fault.workers,
        "rejected_extra": verdict.rejected_extra,
        "lag": verdict.lag,
        "events": sum(len(stage.log.records[name]) for name in ("alerts", "summaries")),
        "odd": dict(stage.sender.traffic.counts),
        "alert_after_kill_s": back,
        "figures": {name: round(value, 1) for name, value in stage.figures.items()},
        "exits": stage.fleet.exits,
        "stuck": stage.stuck,
        "examples": verdict.examples,
        "logs": [] if good else [worker.lines for worker in stage.fleet.all],
    }


def alerting_again(stage: Stage, kill_ms: int) -> float | None:
    """Seconds from a kill until the last of the partitions had its next alert; None where one had none."""
    after: dict[int, int] = {}
    for record in stage.log.records["alerts"]:
        if record.timestamp > kill_ms:
            after[record.partition] = min(after.get(record.partition, record.timestamp), record.timestamp)
    return round((max(after.values()) - kill_ms) / 1000, 1) if len(after) == stage.settings.partitions else None
