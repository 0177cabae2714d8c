"""What the README shows works as it stands; only the broker's address is another."""

import re
import subprocess
import sys
import uuid
from datetime import datetime, timezone
from pathlib import Path

import pytest
from kafka import KafkaProducer
from msgspec.structs import replace

from streams import topics
from streams.cli import cli
from streams.contract import INPUT, OUTPUTS
from streams.records import Alert, RuleRef, Segment
from streams.redact import redact
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


def test_the_consumer_of_a_group_pages_and_goes_on_where_it_stopped(settings: Settings) -> None:
    if settings.broker == "embedded":
        pytest.skip("groups of the embedded broker are slow to begin")
    grave = replace(ALERT, severity="critical", call_id="c-9")
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers, batch_size=0)
    for alert in (grave, replace(grave, sequence=2, event="resolve", status="resolved")):
        producer.send("calls.alerts", key=b"c-9", value=encode(alert), headers=cloud_event(alert))
    producer.flush()
    producer.close()
    code = block('group_id="pager"').replace("localhost:9092", settings.bootstrap_servers)
    code = code.replace('group_id="pager"', f'group_id="pager-{uuid.uuid4().hex}", consumer_timeout_ms=8000')
    assert run(code).splitlines()[-1:] == ["page somebody: c-9 It dropped."]
    assert run(code) == ""


def test_every_document_that_the_readme_names_is_printed() -> None:
    named = set(re.findall(r"`(?:callpulse)?(\.\w+\.v1)`", README)) | {".alert.v1"}
    assert {f"callpulse{name}" for name in named} == {INPUT, *OUTPUTS}


def test_what_the_readme_says_of_a_masked_text_is_so() -> None:
    shown = re.search(r"```text\n(my mobile.*?)```", README, flags=re.DOTALL)
    assert shown is not None
    for line in shown[1].splitlines():
        said, masked = re.split(r" {3,}", line)
        said, masked = said.replace(" …", " forty two forty two forty two"), masked.replace("(stays)", said)
        assert redact(said) == masked


def test_scoring_without_a_stream_prints_labels() -> None:
    assert run(block("models.load")).split()[::2] == ["negative", "positive"]


def test_every_command_of_the_readme_exists() -> None:
    named = set(re.findall(r"^ +callpulse (\w+)", README, flags=re.MULTILINE)) | set(re.findall(r"`callpulse (\w+)", README))
    assert named
    assert named <= set(cli.commands)
