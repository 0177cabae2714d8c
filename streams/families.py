"""The metrics that a worker exposes: their names, labels and meanings, and where each is taken from. Pure.

Names are after OpenTelemetry's messaging conventions where there is one. No label holds a call's id or what was said, and each
has a bounded number of values: of queues as `census.Queues` says, of all else by what is configured.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from models.histogram import Histogram
from streams.metrics import JUDGE, SCORER, Agent, Computing, Judge, Scrape, Stage
from streams.records import Reason

Samples = Iterable[tuple[tuple[str, ...], float | Histogram]]
"""Values by their labels."""
Kind = Literal["counter", "gauge", "histogram"]
TOPIC, PARTITION, GROUP = (
    "messaging_destination_name",
    "messaging_destination_partition_id",
    "messaging_consumer_group_name",
)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. There are no samples where this worker has nothing of it: then it is not exposed."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    samples: Callable[[Scrape], Samples]


def _agents(read: Callable[[Agent], tuple[tuple[str, ...], float | Histogram]]) -> Callable[[Scrape], Samples]:
    return lambda scrape: map(read, scrape.agents)


def _scorer(read: Callable[[Computing, Scrape], Samples]) -> Callable[[Scrape], Samples]:
    return lambda scrape: read(scrape.scorer, scrape) if scrape.scorer is not None else ()


def _judge(read: Callable[[Judge, Scrape], Samples]) -> Callable[[Scrape], Samples]:
    return lambda scrape: read(scrape.judge, scrape) if scrape.judge is not None else ()


def _told(scorer: Computing, value: float | None) -> Samples:
    return [((scorer.device,), value)] if value is not None else []


def _keyed(values: Mapping[Any, int]) -> Samples:
    return [((key,) if isinstance(key, str) else key, value) for key, value in values.items()]


def _stages(scrape: Scrape) -> Samples:
    here: tuple[Stage, ...] = (SCORER if scrape.scorer else ()) + (JUDGE if scrape.judge else ())
    return [((stage,), scrape.metrics.stages[stage]) for stage in here]


def _outcomes(scrape: Scrape) -> Iterator[tuple[tuple[str, ...], float]]:
    counts, rejected = scrape.counts, scrape.metrics.rejected
    if scrape.scorer is not None:
        by_scorer = sum(n for (role, _), n in rejected.items() if role == "score")
        yield from ((("scored",), counts.scored), (("skipped",), counts.skipped), (("rejected",), by_scorer))
    if scrape.judge is not None:
        yield (("repeated",), counts.repeats)


def _rejected(scrape: Scrape) -> Samples:
    """All reasons from the beginning on: of a series that begins with its first value, no increase is seen."""
    by_reason = Counter[Any](dict.fromkeys(get_args(Reason), 0))
    for (_, reason), count in scrape.metrics.rejected.items():
        by_reason[reason] += count
    return _keyed(by_reason)


def _alerts(scrape: Scrape) -> Samples:
    """Those that the rules in force may open as well, though there were none yet."""
    rules = scrape.judge.rules.rules if scrape.judge is not None else ()
    return _keyed({(rule.ref.name, str(rule.severity), "open"): 0 for rule in rules} | scrape.metrics.alerts)


FAMILIES = (
    Family(
        "messaging_client_consumed_messages_total",
        "counter",
        (TOPIC, GROUP),
        "Messages that an agent has begun to work on; one that is redelivered counts again.",
        _agents(lambda a: ((a.topic, a.group), a.taken)),
    ),
    Family(
        "messaging_client_sent_messages_total",
        "counter",
        (TOPIC,),
        "Messages that the broker has, in transactions once they are committed.",
        lambda s: _keyed(s.metrics.sent),
    ),
    Family(
        "messaging_process_duration_seconds",
        "histogram",
        (GROUP,),
        "Time that an agent's batch took until its effects were delivered; one observation a batch.",
        _agents(lambda a: ((a.group,), a.batches)),
    ),
    Family(
        "callpulse_stage_duration_seconds",
        "histogram",
        ("stage",),
        "By segment: consumed, from the record's timestamp until the scorer took it in; scored, from then on; published, from "
        "then on until it was on calls.sentiment; judged, from scored until the judge's effects were delivered (no repeats).",
        _stages,
    ),
    Family(
        "callpulse_alert_delay_seconds",
        "histogram",
        (),
        "From the timestamp of a segment's record until the alert event that it gave was delivered; events by the lapse of "
        "time are left out.",
        _judge(lambda _, s: [((), s.metrics.alert_delay)]),
    ),
    Family(
        "callpulse_segments_total",
        "counter",
        ("outcome",),
        "Inputs: scored, skipped (passed on unscored) or rejected by the scorer; repeated: dropped by the judge, who had them.",
        _outcomes,
    ),
    Family(
        "callpulse_batch_segments",
        "histogram",
        (),
        "Texts in a batch of the model.",
        _scorer(lambda scorer, _: [((), scorer.batch_texts)]),
    ),
    Family(
        "callpulse_batch_tokens",
        "histogram",
        (),
        "Tokens in a batch of the model, padding left out.",
        _scorer(lambda scorer, _: [((), scorer.batch_tokens)]),
    ),
    Family(
        "callpulse_queue_depth",
        "gauge",
        ("role",),
        "Events that were fetched and wait for an agent.",
        _agents(lambda a: ((a.role,), a.waiting)),
    ),
    Family(
        "callpulse_cache_hits_total",
        "counter",
        (),
        "Texts whose score was remembered.",
        _scorer(lambda _, s: [((), s.counts.cached)]),
    ),
    Family(
        "callpulse_consumer_lag",
        "gauge",
        (TOPIC, PARTITION, GROUP),
        "Records of a partition of this worker's that an agent has not done yet; looked at every 5 s.",
        lambda s: [((t, str(p), a.group), lag) for a in s.agents for (t, p), lag in a.lags.items()],
    ),
    Family(
        "callpulse_stalled_seconds",
        "gauge",
        ("role",),
        "Time in which no offset has moved though there was something to do; /healthz fails at --stall-s.",
        _agents(lambda a: ((a.role,), a.still_s)),
    ),
    Family(
        "callpulse_rejected_total",
        "counter",
        ("reason",),
        "Records on calls.rejected, by either agent.",
        _rejected,
    ),
    Family(
        "callpulse_lost_total",
        "counter",
        (),
        "Records that retention had deleted before they were read.",
        lambda s: [((), s.counts.lost)],
    ),
    Family(
        "callpulse_mis_keyed_total",
        "counter",
        (),
        "Inputs whose key was not their call's; set right, but their order is not promised.",
        _scorer(lambda _, s: [((), s.counts.mis_keyed)]),
    ),
    Family("callpulse_alerts_total", "counter", ("rule", "severity", "event"), "Alert events.", _alerts),
    Family("callpulse_summaries_total", "counter", (), "Summaries of calls.", _judge(lambda _, s: [((), s.counts.summaries)])),
    Family(
        "callpulse_live_calls",
        "gauge",
        ("queue",),
        "Calls that are not closed, of this worker's partitions.",
        _judge(lambda judge, _: _keyed(judge.live)),
    ),
    Family(
        "callpulse_open_alerts",
        "gauge",
        ("queue",),
        "Alerts that are open in these calls.",
        _judge(lambda judge, _: _keyed(judge.open)),
    ),
    Family(
        "callpulse_turns_total",
        "counter",
        ("queue", "label"),
        "Scored turns of the customer's side, without repeats.",
        lambda s: _keyed(s.metrics.turns),
    ),
    Family(
        "callpulse_audio_seconds_total",
        "counter",
        (),
        "Spoken time (end less start) of final segments, of all speakers; 0 for those that do not say.",
        _scorer(lambda _, s: [((), s.metrics.spoken_ms / 1000)]),
    ),
    Family(
        "callpulse_device_memory_bytes",
        "gauge",
        ("device",),
        "Memory of a CUDA device that this process has taken.",
        _scorer(lambda scorer, _: _told(scorer, scorer.memory_bytes)),
    ),
    Family(
        "callpulse_device_utilization_ratio",
        "gauge",
        ("device",),
        "How busy a CUDA device is, by all processes, as its driver says (needs nvidia-ml-py).",
        _scorer(lambda scorer, _: _told(scorer, scorer.utilization)),
    ),
    Family(
        "callpulse_device_seconds_total",
        "counter",
        ("device",),
        "Time that the model computed: on the CPU added up over the threads that had a batch, on CUDA while one was under way.",
        _scorer(lambda scorer, _: [((scorer.device,), scorer.seconds)]),
    ),
    Family(
        "callpulse_model_info",
        "gauge",
        ("name", "revision", "precision"),
        "1; its labels say which model scores.",
        _scorer(lambda scorer, _: [((scorer.name, scorer.revision, scorer.precision), 1)]),
    ),
    Family(
        "callpulse_rules_info",
        "gauge",
        ("hash",),
        "1; its label says which rules are in force.",
        _judge(lambda judge, _: [((judge.rules.hash,), 1)]),
    ),
    Family(
        "callpulse_rules_failed",
        "gauge",
        (),
        "1 while a newer rules file is refused, else 0.",
        _judge(lambda judge, _: [((), judge.refused)]),
    ),
    Family(
        "callpulse_build_info",
        "gauge",
        ("version",),
        "1; its label says which callpulse this is.",
        lambda s: [((s.version,), 1)],
    ),
)


def table() -> str:
    """All of them in Markdown."""
    rows = (f"| `{f.name}` | {f.kind} | {', '.join(f'`{label}`' for label in f.labels)} | {f.meaning} |" for f in FAMILIES)
    return "\n".join(("| metric | type | labels | meaning |", "|---|---|---|---|", *rows))


if __name__ == "__main__":
    print(table())
