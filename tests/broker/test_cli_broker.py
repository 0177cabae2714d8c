"""Commands against a running broker: what they print and with which code they end."""

import json
import os
from collections.abc import Callable
from datetime import datetime, timezone

import pytest
from kafka import KafkaProducer
from msgspec.structs import replace

from streams import alerts_cli, cli
from streams.records import Alert, Evidence, RuleRef
from streams.settings import variable
from streams.wire import encode

from .conftest import Cluster

Run = Callable[..., tuple[int, list[str]]]

ALERT = Alert(
    alert_id="a" * 32,
    sequence=1,
    event="open",
    status="open",
    rule=RuleRef("sharp_drop", 1),
    severity="warning",
    call_id="c-1",
    at_ms=61_000,
    at=datetime(2026, 1, 31, 9, 30, tzinfo=timezone.utc),
    at_source="call",
    reason="The mood dropped.",
    evidence=(Evidence("s1", "customer", 0, 1000, -0.9, "negative", "this is ridiculous"),),
)
RESOLVED = replace(ALERT, sequence=2, event="resolve", status="resolved", reason="The customer has recovered.")


@pytest.fixture
def run(cluster: Cluster, prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command on this cluster under a prefix of the test's own: its exit code and what it prints."""
    for name in [name for name in os.environ if name.startswith("CALLPULSE_")]:
        monkeypatch.delenv(name)
    given = {"bootstrap_servers": cluster.bootstrap, "broker": cluster.profile, "prefix": prefix, "replication": "1"}
    for name, value in given.items():
        monkeypatch.setenv(variable(name), value)

    def called(*arguments: str) -> tuple[int, list[str]]:
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        out, err = capsys.readouterr()
        assert err == ""
        assert isinstance(end.value.code, int)
        return end.value.code, out.splitlines()

    return called


def send(cluster: Cluster, topic: str, *values: bytes) -> None:
    with KafkaProducer(bootstrap_servers=cluster.bootstrap, batch_size=0) as producer:
        for value in values:
            producer.send(topic, value, b"c-1").get(timeout=30)


def test_topics_are_missing_then_created_then_there(run: Run, prefix: str) -> None:
    names = [prefix + name for name in ("segments", "sentiment", "state", "alerts", "summaries", "rejected")]
    assert run("topics", "list") == (1, [f"{name:<24} missing" for name in names])
    assert run("topics", "create", "--partitions", "3") == (0, [f"created {name}" for name in names])
    assert run("topics", "create") == (0, ["all six were there already"])
    code, lines = run("topics", "list", "--json")
    assert (code, [json.loads(line) for line in lines]) == (0, [{"topic": name, "partitions": 3} for name in names])


def test_doctor_wants_topics_and_is_content_when_they_are_there(run: Run, prefix: str) -> None:
    code, lines = run("doctor", "--model", "lexicon")
    assert code == 1
    assert "callpulse topics create" in next(line for line in lines if line.startswith("failed  topics"))
    run("topics", "create")
    code, lines = run("doctor", "--model", "lexicon")
    assert code == 0
    names = ("security", "broker", "topics", "delivery", "rules", "model")
    assert [line.split()[:2] for line in lines] == [["ok", name] for name in names]


def test_alerts_are_printed_once_with_their_evidence(run: Run, cluster: Cluster, prefix: str) -> None:
    run("topics", "create")
    send(cluster, prefix + "alerts", *map(encode, (ALERT, ALERT, RESOLVED, ALERT)))
    code, lines = run("alerts")
    assert code == 0
    assert lines == [
        "09:30:00 open     warning  sharp_drop  c-1 at 1:01: The mood dropped.",
        "    -0.90 customer: this is ridiculous",
        "09:30:00 resolve  warning  sharp_drop  c-1 at 1:01: The customer has recovered.",
    ]
    assert run("alerts", "--json") == (0, [encode(ALERT).decode(), encode(RESOLVED).decode()])


def test_alerts_are_filtered_and_found_ones_are_an_exit_code(run: Run, cluster: Cluster, prefix: str) -> None:
    run("topics", "create")
    assert run("alerts", "--fail-on", "info") == (0, [])
    grave = replace(ALERT, alert_id="b" * 32, severity="critical", call_id="c-2")
    send(cluster, prefix + "alerts", *map(encode, (ALERT, RESOLVED, grave)))
    for filters, shown in (
        ("--severity critical", [grave]),
        ("--rule sharp* --call c-1", [ALERT, RESOLVED]),
        ("--event resolve --event update", [RESOLVED]),
        ("--rule other", []),
        ("--since 1h", [ALERT, RESOLVED, grave]),
        ("--since 2100-01-01T00:00:00Z", []),
    ):
        for asked, code in (("", 0), ("--fail-on info", 3 if shown else 0), ("--fail-on critical", 3 if grave in shown else 0)):
            found = run("alerts", "--json", *filters.split(), *asked.split())
            assert found == (code, [encode(alert).decode() for alert in shown]), (filters, asked)


def test_following_ends_with_the_first_that_was_asked_for(run: Run, cluster: Cluster, prefix: str) -> None:
    run("topics", "create")
    send(cluster, prefix + "alerts", *map(encode, (ALERT, replace(RESOLVED, severity="critical"), RESOLVED)))
    code, lines = run("alerts", "--follow", "--fail-on", "critical", "--json")
    assert (code, len(lines)) == (3, 2)


@pytest.mark.parametrize(("colour", "given"), [(True, {}), (False, {"NO_COLOR": "1"})])
def test_on_a_terminal_the_severity_has_a_colour(
    run: Run, cluster: Cluster, prefix: str, monkeypatch: pytest.MonkeyPatch, colour: bool, given: dict[str, str]
) -> None:
    run("topics", "create")
    send(cluster, prefix + "alerts", encode(ALERT))
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(alerts_cli.sys.stdout, "isatty", lambda: True)
    assert ("\x1b[33m" in run("alerts")[1][0]) is colour


def test_validate_reads_a_topic(run: Run, cluster: Cluster, prefix: str) -> None:
    run("topics", "create")
    good = b'{"call_id":"c-1","speaker":"customer","text":"swordfish"}'
    send(cluster, prefix + "segments", good)
    assert run("validate", "--topic", prefix + "segments")[0] == 0
    send(cluster, prefix + "segments", b'{"call_id":"c-1","text":"swordfish"}')
    code, lines = run("validate", "--topic", prefix + "segments")
    assert code == 1
    assert lines[-1] == "2 messages of 1 calls, 1 would be rejected"
    assert "swordfish" not in "".join(lines)
