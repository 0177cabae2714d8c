"""The short form of the chaos suite: a seeded schedule of kills and outages, and an oracle that counts what went wrong.

It runs as a process of its own, as `make chaos` does with the long form: clients whose broker dies leave sockets behind.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .plans import UNFENCED

MINUTES = 12  # it takes two to five
SEED = 1
BROKERS = ("embedded", "apache", "three")
Entries = list[dict[str, Any]]


@pytest.fixture(scope="module")
def every_entry(tmp_path_factory: pytest.TempPathFactory) -> Entries:
    """What chaos.json says of all brokers that there are here."""
    written = tmp_path_factory.mktemp("chaos") / "chaos.json"
    command = [sys.executable, "-m", "tests.broker.chaos", "--short", "--seed", str(SEED), "--json", str(written)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:
        try:
            print(process.communicate(timeout=MINUTES * 60)[0])  # pytest shows it when a test fails
        finally:
            process.terminate()  # not killed: it has brokers to stop
    entries: Entries = json.loads(written.read_text())
    return entries


@pytest.fixture(params=BROKERS)
def entries(request: pytest.FixtureRequest, every_entry: Entries) -> Entries:
    """Of one broker, its faults."""
    if request.param != "embedded" and "KAFKA_HOME" not in os.environ:
        pytest.skip("set KAFKA_HOME to run on Apache Kafka")
    found = [entry for entry in every_entry if entry["broker"] == request.param]
    assert found
    return found


def test_every_fault_was_injected_and_everything_awaited_came(entries: Entries) -> None:
    injected = {"6 SIGKILL, SIGTERM, freeze, join, leave": 10, UNFENCED: 7}
    for entry in entries:
        assert entry["injected"] == injected.get(entry["fault"], 1)
        assert entry["stuck"] == []


def test_producers_were_as_odd_as_producers_are(entries: Entries) -> None:
    for entry in entries:
        assert entry["segments"] > 300
        assert all(entry["odd"][kind] > 1 for kind in ("poisoned", "repeated", "mis-keyed", "out of order"))


def test_every_message_is_scored_or_rejected(entries: Entries) -> None:
    for entry in entries:
        assert (entry["lost"], entry["rejected_missing"], entry["rejected_extra"], entry["lag"]) == (0, 0, 0, 0), entry


def test_states_alerts_and_summaries_are_those_of_the_pure_pipeline(entries: Entries) -> None:
    for entry in entries:
        assert (entry["states_wrong"], entry["alerts_missing"], entry["alerts_extra"]) == (0, 0, 0), entry
        assert entry["events"] > 20  # how many there are depends on how soon a broker is back


def test_no_alert_is_repeated_where_there_are_transactions(entries: Entries) -> None:
    for entry in entries:
        assert entry["broker"] == "embedded" or entry["alerts_repeated"] == 0
