"""A backtest against what it stands for: a worker that judged the same stream live, on real brokers."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.sentiment import LexiconScorer
from streams import labelled, recording, replay
from streams.backtest import Played, play
from streams.records import Alert, Record
from streams.rules import load
from streams.scoring import Log
from streams.settings import Settings
from streams.wire import decode_alert

from .conftest import Cluster
from .messages import CALLS
from .running import Topics, laid_out, own, running

RULES = """
use: [sustained_negative, sharp_drop]
rules:
  - {name: quiet, severity: info, reason: quiet, when: {silence: 2s}, escalate: {to: critical, after: 1s}, cooldown: 0s}
  - {name: low, severity: warning, reason: "{score.last}", for: 2s, when: {measure: score.last, lte: -0.5}, cooldown: 1s}
"""
SPOKEN = (
    ("a", 0, "terrible, awful"),
    ("b", 100, "great"),
    ("a", 800, "useless, the worst"),
    ("b", 4_800, "awful"),
    ("a", 5_000, "well"),
)


def spoken() -> Iterator[Record]:
    """Two calls with a pause in which only the wall's clock goes on."""
    said = [
        (call, at, {"segment_id": f"s{at}", "speaker": "customer", "text": text, "start_ms": at, "end_ms": at + 50})
        for call, at, text in SPOKEN
    ]
    for number, (call, at, value) in enumerate([*said, *((call, 5_100, {"type": "end"}) for call in "ab")]):
        yield Record("segments", -1, number, at, call.encode(), json.dumps({"call_id": call, **value}).encode())


def sent(settings: Settings, records: Iterable[Record], speed: float) -> None:
    replay.send(settings, records, replay.Replay(speed=speed))


def recorded(records: Sequence[Record], path: Path) -> Path:
    path.write_bytes(b"".join(map(recording.write, records)))
    return path


def backtested(settings: Settings, path: Path, scorer: Any = None) -> Played:
    def loaded(_: Settings) -> Any:
        assert scorer is not None, "no model is needed for what is scored"
        return scorer

    with Log(settings, loaded) as log:
        return play(log.read([labelled.opened(str(path))]), settings.limits, [load(settings.rules_path)], settings.mask)[0]


def by_id(alerts: Iterable[Alert]) -> list[Alert]:
    return sorted(alerts, key=lambda alert: (alert.alert_id, alert.sequence))


def live(laid: Topics) -> list[Alert]:
    """What a consumer has once it has dropped repeats, which there are where the broker has no transactions."""
    return by_id(decode_alert(value) for value in laid.events("alerts").values())


def doubled(laid: Topics) -> None:
    """Puts what lies on calls.sentiment there again, as a scorer does that was killed before it had committed."""
    again = [*laid.records["sentiment"]]
    for record in again:
        laid.producer.send(record.topic, record.value, record.key, partition=record.partition).get(timeout=10)


@pytest.mark.parametrize(
    ("cluster", "partitions"), [("embedded", {}), ("apache", {}), ("apache", {"segments": 3})], indirect=["cluster"]
)
def test_it_alerts_as_the_worker_did(cluster: Cluster, tmp_path: Path, partitions: dict[str, int]) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    settings = own(cluster, rules=str(path), partitions=2, grace_s=0.5)
    with laid_out(settings, **partitions) as laid, running(settings):
        sent(settings, spoken(), speed=1)
        laid.calls_over(2)
        doubled(laid)
        sent(settings, replay.merge([recording.read(call) for call in sorted(CALLS.glob("*.jsonl"))], 0), speed=0)
        laid.calls_over(10)
        laid.read_to_the_end()
        alerts, records = live(laid), laid.records
    by_rule = {name: [a.event for a in alerts if a.rule.name == name] for name in ("quiet", "low", "sustained_negative")}
    assert all({"open", "resolve"} <= {*events} for events in by_rule.values())
    assert "escalate" in by_rule["quiet"]
    found = backtested(settings, recorded(records["sentiment"], tmp_path / "sentiment.jsonl"))
    assert found.repeats >= len(SPOKEN)
    assert by_id(found.alerts) == alerts
    values = tmp_path / "values.jsonl"
    values.write_bytes(b"".join((record.value or b"") + b"\n" for record in records["sentiment"]))
    assert by_id(backtested(settings, values).alerts) == alerts, "values alone, as a console consumer prints them"
    again = backtested(settings, recorded(records["segments"], tmp_path / "segments.jsonl"), LexiconScorer())
    assert by_id(again.alerts) == alerts, "scored anew"
