"""What stands on /metrics: it can be parsed, its names are right, its numbers are what was counted, and nobody is in it."""

import asyncio
import re
from collections import Counter
from typing import Any, get_args

import pytest
from builders import T0, rule, scored
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from test_agents import BATCH, SECRET, TOPICS, FakePublisher, Moody, event, scoring

from models.device import use
from models.histogram import Histogram
from streams.agents import Context
from streams.conversation import Limits
from streams.exposition import Exposition
from streams.families import FAMILIES, table
from streams.metrics import SECONDS, Agent, Computing, Judge, Scrape
from streams.outcome import Outcome
from streams.pipeline import Calls
from streams.records import Reason
from streams.settings import Settings

NOW_S = 1_000.0
RULES = rule("{measure: score.last, lte: -0.5}")


def agent(role: str) -> Agent:
    return Agent(role, f"callpulse-{role}", f"calls.{role}", 3, 9, 1.5, Histogram(SECONDS), {(f"calls.{role}", 2): 5})


def scraped(context: Context, *roles: str) -> Scrape:
    """With made-up agents."""
    sizes = Histogram((1, 2, 4)), Histogram((16, 32))
    model = Computing("m", "abc", "bf16", "cuda:0", 1 << 30, 0.5, 12.5, *sizes) if "score" in roles else None
    judge = Judge({"billing": 2}, {"billing": 1}, RULES, refused=True) if "judge" in roles else None
    return Scrape("1.2", context.counts, context.metrics, [agent(role) for role in roles], model, judge)


def context() -> Context:
    return Context(Settings(), TOPICS, clock=lambda: NOW_S)


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: bytes) -> Samples:
    """By the sample's name and labels. Raises ValueError for what is not in the format."""
    families = list(text_string_to_metric_families(text.decode()))
    assert len({family.name for family in families}) == len(families)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def exposed(context: Context, *roles: str) -> Samples:
    return read(Exposition(lambda: scraped(context, *roles)).text())


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def names(samples: Samples) -> set[str]:
    return {re.sub(r"_(bucket|count|sum|created)$", "", name) for name, _ in samples}


def busy() -> Context:
    """After a batch of both agents."""
    shared, publisher = context(), FakePublisher()
    with scoring(shared, Moody(), publisher) as scorer:
        asyncio.run(scorer.work([*BATCH, event(10, "thanks", key=b"other")]))
    calls, outcome = Calls(Limits(), 1, rules=RULES), Outcome()
    for number in range(3):
        calls.judge(scored(number, -1, call_id=f"id-{number}", attributes={"queue": "billing"}, text=SECRET), outcome)
    shared.metrics.judged(outcome, NOW_S)
    return shared


def test_a_worker_with_both_agents_exposes_every_family() -> None:
    samples = exposed(busy(), "score", "judge")
    ours = {family.name for family in FAMILIES} - {"messaging_client_sent_messages_total"}  # nothing was sent here
    assert ours <= names(samples)
    assert names(samples) >= {"process_cpu_seconds_total", "process_resident_memory_bytes"}


def test_what_the_scorer_did_is_there_in_numbers() -> None:
    samples = exposed(busy(), "score")
    outcomes = {o: value(samples, "callpulse_segments_total", outcome=o) for o in ("scored", "skipped", "rejected")}
    assert outcomes == {"scored": 3, "skipped": 0, "rejected": 3}
    reasons = {reason: value(samples, "callpulse_rejected_total", reason=reason) for reason in get_args(Reason)}
    assert {reason: count for reason, count in reasons.items() if count} == {"not_json": 1, "scoring_failed": 2}
    assert value(samples, "callpulse_mis_keyed_total") == 1
    for stage in ("consumed", "scored", "published"):
        assert value(samples, "callpulse_stage_duration_seconds_count", stage=stage) == 6
    assert value(samples, "callpulse_stage_duration_seconds_sum", stage="consumed") == 6 * NOW_S / 2
    assert value(samples, "callpulse_stage_duration_seconds_bucket", stage="consumed", le="60.0") == 0
    assert value(samples, "callpulse_stage_duration_seconds_bucket", stage="consumed", le="+Inf") == 6


def test_what_the_judge_did_is_there_in_numbers() -> None:
    samples = exposed(busy(), "judge")
    assert value(samples, "callpulse_alerts_total", rule="r", severity="warning", event="open") == 3
    assert value(samples, "callpulse_turns_total", queue="billing", label="negative") == 3
    assert value(samples, "callpulse_alert_delay_seconds_count") == 3
    assert value(samples, "callpulse_stage_duration_seconds_count", stage="judged") == 3
    assert value(samples, "callpulse_live_calls", queue="billing") == 2
    assert value(samples, "callpulse_open_alerts", queue="billing") == 1
    assert value(samples, "callpulse_rules_info", hash=RULES.hash) == 1
    assert value(samples, "callpulse_rules_failed") == 1


def test_an_agent_tells_its_lag_by_partition_and_what_waits() -> None:
    samples = exposed(context(), "score")
    place = {"messaging_destination_name": "calls.score", "messaging_destination_partition_id": "2"}
    assert value(samples, "callpulse_consumer_lag", messaging_consumer_group_name="callpulse-score", **place) == 5
    assert value(samples, "callpulse_queue_depth", role="score") == 3
    assert value(samples, "callpulse_stalled_seconds", role="score") == 1.5
    assert value(samples, "callpulse_device_memory_bytes", device="cuda:0") == 1 << 30
    assert value(samples, "callpulse_device_utilization_ratio", device="cuda:0") == 0.5
    assert value(samples, "callpulse_device_seconds_total", device="cuda:0") == 12.5


def test_a_series_begins_with_zero_so_that_its_first_increase_is_seen() -> None:
    samples = exposed(context(), "score", "judge")
    assert all(value(samples, "callpulse_rejected_total", reason=reason) == 0 for reason in get_args(Reason))
    assert value(samples, "callpulse_alerts_total", rule="r", severity="warning", event="open") == 0
    assert value(samples, "callpulse_segments_total", outcome="repeated") == 0


@pytest.mark.parametrize(("role", "other"), [("score", "judge"), ("judge", "score")])
def test_a_worker_with_one_agent_exposes_what_it_has(role: str, other: str) -> None:
    samples = exposed(busy(), role)
    assert other not in {dict(labels).get("role") for _, labels in samples}
    scorers = {"callpulse_model_info", "callpulse_batch_tokens", "callpulse_device_seconds_total", "callpulse_cache_hits_total"}
    judges = {"callpulse_live_calls", "callpulse_rules_info", "callpulse_alert_delay_seconds", "callpulse_summaries_total"}
    assert (scorers <= names(samples), judges <= names(samples)) == (role == "score", role == "judge")
    assert (scorers | judges) & names(samples) == (scorers if role == "score" else judges)


def test_on_a_cpu_nothing_is_said_of_memory_and_use() -> None:
    assert use("cpu") == (None, None)
    model = Computing("m", "1", "fp32", "cpu", None, None, 2.0, Histogram((1,)), Histogram((1,)))
    shared = context()
    samples = read(Exposition(lambda: Scrape("1", shared.counts, shared.metrics, [], model)).text())
    assert {name for name in names(samples) if "device" in name} == {"callpulse_device_seconds_total"}
    assert value(samples, "callpulse_device_seconds_total", device="cpu") == 2


def test_no_label_holds_a_call_s_id_or_what_was_said() -> None:
    shared = busy()
    text = Exposition(lambda: scraped(shared, "score", "judge")).text().decode()
    assert not re.search(r"id-\d|4711|card|terrible|s[0-9]\b", re.sub(r"(?m)^#.*$", "", text))
    allowed = {label for family in FAMILIES for label in family.labels} | {"le"}
    assert {label for _, labels in read(text.encode()) for label, _ in labels} <= allowed


def test_whoever_names_queues_cannot_make_the_text_grow() -> None:
    shared, calls, outcome = context(), Calls(Limits(), 1, rules=RULES), Outcome()
    for number in range(500):
        calls.judge(scored(number, 0, call_id=f"c{number}", timestamp=T0, attributes={"queue": f"queue {number}"}), outcome)
    shared.metrics.judged(outcome, NOW_S)
    assert len(shared.metrics.turns) == len(calls.census.live) == 51
    assert sum(shared.metrics.turns.values()) == sum(calls.census.live.values()) == 500


def test_a_queue_s_name_may_hold_anything() -> None:
    shared = context()
    strange = 'a"b\\c\nd 콜 {x="y"} 1'
    shared.metrics.turns[strange, "neutral"] += 1
    assert value(exposed(shared, "judge"), "callpulse_turns_total", queue=strange, label="neutral") == 1


UNITS = ("seconds", "bytes", "ratio", "messages", "segments", "tokens", "info")


@pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])
def test_names_are_as_prometheus_wants_them(family: Any) -> None:
    """As `promtool check metrics` does: base units, _total for counters and only for them, a help text."""
    assert re.fullmatch(r"(callpulse|messaging)(_[a-z]+)+", family.name)
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert not re.search(
        r"_(ms|milliseconds|minutes|percent|kb|mb|megabytes|count|sum|bucket|gauge|counter|histogram)(_|$)", family.name
    )
    assert family.kind != "histogram" or family.name.endswith(UNITS)
    assert family.meaning.endswith(".")
    assert all(
        re.fullmatch(r"[a-z][a-z_]*", label) and label not in ("le", "quantile", "job", "instance") for label in family.labels
    )


def test_there_is_one_row_a_family_in_the_table_and_no_state_at_import() -> None:
    rows = table().splitlines()[2:]
    assert [re.match(r"\| `(\w+)` \| (\w+) \|", row).groups() for row in rows] == [(f.name, f.kind) for f in FAMILIES]  # type: ignore[union-attr]
    assert not [f.name for f in REGISTRY.collect() if f.name.startswith("callpulse")]
    assert Counter(f.name for f in FAMILIES).most_common(1)[0][1] == 1
