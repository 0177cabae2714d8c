"""The demo as a user runs it: what it counts, how it survives a kill, and that nothing of it is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from streams import topics
from streams.demo import CALLS
from streams.settings import Settings

from .conftest import Cluster

MESSAGES = sum(len(path.read_bytes().splitlines()) for path in CALLS.glob("*.jsonl"))
MARK = "CALLPULSE_TEST_RUN"
PATIENCE = 90.0
STOP_S = 5.0
GONE_S = 5.0


@contextmanager
def demo(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """`callpulse demo` with the word list as model. Its processes carry a mark, and are gone when it ends."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "streams", "demo", "--model", "lexicon", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=os.environ | {MARK: mark},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
    deadline = time.monotonic() + GONE_S
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)  # a child that was being started notices that its parent is gone once it runs
    assert left == []


def marked(mark: str) -> list[str]:
    """The processes that carry it, where the system can tell."""
    wanted = f"{MARK}={mark}".encode()
    return [folder.name for folder in Path("/proc").glob("[0-9]*") if wanted in _environment(folder)]


def _environment(folder: Path) -> bytes:
    try:
        return (folder / "environ").read_bytes()
    except OSError:
        return b""  # gone, or another user's


def played(*arguments: str) -> tuple[dict[str, float], str]:
    """The summary object and what was said on standard error of a run that went well."""
    with demo("--json", "--speed", "0", *arguments) as process:
        out, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    return json.loads(out.splitlines()[-1]), said


def test_the_demo_s_own_broker_knows_nothing_of_the_user_s_security(monkeypatch: pytest.MonkeyPatch) -> None:
    user = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "PLAIN", "SASL_USERNAME": "ann", "SSL_CA_FILE": "/nowhere"}
    for name, value in user.items():
        monkeypatch.setenv(f"CALLPULSE_{name}", value)
    assert played()[0]["segments"] == MESSAGES


def check(summary: dict[str, float]) -> None:
    assert summary["segments"] == MESSAGES == summary["scored"] + summary["skipped"] + summary["rejected"]
    assert (summary["rejected"], summary["calls"], summary["alerts"]) == (0, 8, 2)
    assert 0 < summary["p50_ms"] <= summary["p99_ms"] < 1000 * summary["seconds"]


def test_a_named_cluster_is_left_as_it_was(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    named = Settings(cluster.bootstrap, cluster.profile)
    with topics.admin(named) as client:
        before = set(client.list_topics())
        monkeypatch.setenv("CALLPULSE_BROKER", cluster.profile)
        summary, said = played("--bootstrap-servers", cluster.bootstrap)
        after = {name for name in client.list_topics() if not name.startswith("__")}  # but for the broker's own
    check(summary)
    assert after <= before
    assert "Embedded broker" not in said


def test_a_killed_worker_loses_and_doubles_nothing() -> None:
    summary, said = played("--kill")
    check(summary)
    assert {name: summary[name] for name in ("lost", "alerts_missing", "alerts_extra")} == {
        "lost": 0,
        "alerts_missing": 0,
        "alerts_extra": 0,
    }
    assert "worker killed (SIGKILL)" in said
    assert "the worker is back" in said
    assert "en-sarcastic: the model hears words" in said.replace("\n", " ")


def until(stream: IO[str], text: str) -> None:
    assert any(text in line for line in stream), f"{text!r} never came"


@pytest.mark.parametrize(("moment", "number"), [("starting the worker", signal.SIGINT), ("replaying", signal.SIGTERM)])
def test_an_interrupt_ends_everything_within_seconds(moment: str, number: int) -> None:
    with demo() as process:
        assert process.stdout
        until(process.stdout, moment)
        began = time.monotonic()
        process.send_signal(number)
        said = process.communicate(timeout=PATIENCE)[1]
        assert time.monotonic() - began < STOP_S
    assert process.returncode == 130
    assert "Traceback" not in said


def test_a_worker_that_cannot_start_is_reported_with_its_own_words(tmp_path: Path) -> None:
    with demo("--model", str(tmp_path)) as process:
        said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1
    assert "the worker ended with exit code 1. Its last lines:" in said
    assert str(tmp_path) in said.split("last lines:")[1]
    assert "Traceback" not in said
