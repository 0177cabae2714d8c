"""What the README shows works as it stands; only the broker's address is another."""

import re
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from kafka import KafkaProducer

from streams import topics
from streams.cli import cli
from streams.records import Alert, RuleRef, Segment
from streams.settings import Settings
from streams.wire import cloud_event, decode, encode
from tests.broker.conftest import Cluster

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ALERT = Alert(
    alert_id="a" * 32,
    sequence=1,
    event="open",
    status="open",
    rule=RuleRef("sharp_drop", 1),
    severity="warning",
    call_id="c-1",
    at_ms=1000,
    at=datetime(2026, 1, 1, tzinfo=timezone.utc),
    at_source="call",
    reason="It dropped.",
)


def block(marker: str) -> str:
    """The Python block of the README that holds `marker`."""
    return next(code for code in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if marker in code)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def settings(cluster: Cluster) -> Settings:
    made = Settings(bootstrap_servers=cluster.bootstrap, broker=cluster.profile)
    with topics.admin(made) as client:
        topics.create(client, made)
    return made


def test_the_producer_writes_messages_of_the_contract(settings: Settings) -> None:
    run(block("KafkaProducer").replace("localhost:9092", settings.bootstrap_servers))
    found = [decode(record.value) for record in topics.tail(settings, "calls.segments", follow=False)]
    assert all(isinstance(segment, Segment) for segment in found)
    assert {segment.type for segment in found if isinstance(segment, Segment)} == {"segment", "end"}


def test_the_consumer_prints_a_repeated_alert_once(settings: Settings) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers, batch_size=0)
    for alert in (ALERT, ALERT, replace(ALERT, sequence=2, event="resolve", status="resolved")):
        producer.send("calls.alerts", key=b"c-1", value=encode(alert), headers=cloud_event(alert))
    producer.flush()
    producer.close()
    code = block("KafkaConsumer").replace("localhost:9092", settings.bootstrap_servers)
    ends = 'auto_offset_reset="earliest", consumer_timeout_ms=5000, isolation_level='
    lines = run(code.replace("isolation_level=", ends)).splitlines()
    assert lines == [
        "open warning sharp_drop c-1 It dropped.",
        "resolve warning sharp_drop c-1 It dropped.",
    ]


def test_scoring_without_a_stream_prints_labels() -> None:
    assert run(block("models.load")).split()[::2] == ["negative", "positive"]


def test_every_command_of_the_readme_exists() -> None:
    named = set(re.findall(r"^ +callpulse (\w+)", README, flags=re.MULTILINE)) | set(re.findall(r"`callpulse (\w+)", README))
    assert named
    assert named <= set(cli.commands)
