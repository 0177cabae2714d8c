"""Over TLS and SASL as without: every command and the worker, on Apache Kafka; what is refused is said, and soon."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from streams.access import Right
from streams.settings import KEY_PASSWORD, SASL_PASSWORD, Settings

from .conftest import Cluster
from .messages import call
from .running import Topics, environment, own, running, started, until
from .secured import PASSWORD, Secured, no_openssl, secured_kafka

WAYS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "mTLS")
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SOON_S = 30.0  # with the start of Python on a busy machine; a connection is given up after 10


@pytest.fixture(scope="module")
def secured(kafka_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if no_openssl():
        pytest.skip("no openssl to make certificates with")
    with secured_kafka(kafka_home, tmp_path_factory.mktemp("secured")) as node:
        yield node


@pytest.fixture(autouse=True)
def _secrets(secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SASL_PASSWORD, PASSWORD)
    monkeypatch.setenv(KEY_PASSWORD, PASSWORD)
    monkeypatch.setenv("TOKENS_FETCHED", str(tmp_path / "fetched"))
    monkeypatch.setenv("PYTHONPATH", str(secured.folder), prepend=os.pathsep)
    monkeypatch.syspath_prepend(secured.folder)


def chosen(secured: Secured, way: str, **changed: str) -> Settings:
    """The settings of a way to connect, with a prefix and groups of its own."""
    folder = secured.folder
    given = {"bootstrap_servers": secured.sasl, "security_protocol": "SASL_SSL", "ssl_ca_file": f"{folder}/ca.pem"}
    if way == "mTLS":
        given |= {"bootstrap_servers": secured.mtls, "security_protocol": "SSL"}
        given |= {"ssl_cert_file": f"{folder}/client.pem", "ssl_key_file": f"{folder}/client.locked.key"}
    elif way == "OAUTHBEARER":
        given |= {"sasl_mechanism": way, "sasl_token_provider": "tokens_of_test:good"}
    else:
        given |= {"sasl_mechanism": way, "sasl_username": "ann" if way == "PLAIN" else "bob"}
    return replace(own(Cluster(secured.sasl, "kafka")), **given | changed)  # type: ignore[arg-type]


def user(secured: Secured, name: str) -> Settings:
    """A user on the default prefix and group."""
    return chosen(secured, "SCRAM-SHA-512", sasl_username=name, prefix="calls.", group="callpulse")


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


def callpulse(settings: Settings, *arguments: str) -> Said:
    """A command as it is called from a shell; it ends soon, shows no traceback and no secret."""
    began = time.monotonic()
    command = [sys.executable, "-m", "streams", *arguments]
    done = subprocess.run(command, env=environment(settings), capture_output=True, text=True, timeout=60)
    assert time.monotonic() - began < SOON_S
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


def recording(folder: Path) -> str:
    """A call in which the customer is unhappy for long."""
    path = folder / "call.jsonl"
    path.write_bytes(b"\n".join(value or b"" for _, value, _ in call("c", range(20), 0)))
    return str(path)


def fetched(pid: int) -> int:
    return Path(os.environ["TOKENS_FETCHED"]).read_text().split().count(str(pid))


@pytest.mark.parametrize("way", WAYS)
def test_a_call_is_replayed_scored_judged_and_read_over(secured: Secured, way: str, tmp_path: Path) -> None:
    settings = chosen(secured, way, log_level="debug")
    assert callpulse(settings, "topics", "create").code == 0
    with running(settings) as worker, closing(Topics(settings)) as laid:
        pid = worker.process.pid
        if way == "OAUTHBEARER":  # the broker ends each connection after 4 s
            before = fetched(pid)
            until(lambda: fetched(pid) > before, lambda: "another token was fetched")
        assert callpulse(settings, "replay", "--speed", "0", recording(tmp_path)).code == 0
        laid.calls_over(1)
        laid.read_to_the_end()
        if sys.platform == "linux":
            assert PASSWORD.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert PASSWORD not in worker.log
    assert laid.events("alerts") == laid.expected().alerts != {}
    assert len(callpulse(settings, "alerts", "--json").out.splitlines()) == len(laid.events("alerts"))
    assert callpulse(settings, "validate", "--topic", settings.topic("segments")).code == 0
    looked = callpulse(settings, "doctor")
    assert looked.code == 0
    assert re.search(rf"^ok +security +{settings.security_protocol}, ", looked.out)


def test_the_password_may_lie_in_a_file(secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text(PASSWORD + "\n")
    monkeypatch.delenv(SASL_PASSWORD)
    settings = chosen(secured, "SCRAM-SHA-512", sasl_password_file=str(tmp_path / "password"))
    assert callpulse(settings, "topics", "create").code == 0


@pytest.mark.parametrize(
    ("way", "changed", "said"),
    [
        ("SCRAM-SHA-512", {"sasl_username": "nemo"}, "SCRAM-SHA-512 user nemo is not let in"),
        ("PLAIN", {"sasl_username": "nemo"}, "PLAIN user nemo is not let in"),
        ("PLAIN", {"ssl_ca_file": "{folder}/other.pem"}, "certificate is not accepted: .*--ssl-ca-file"),
        ("PLAIN", {"ssl_ca_file": ""}, "certificate is not accepted: .*--ssl-ca-file"),
        ("PLAIN", {"bootstrap_servers": "{localhost}"}, "certificate is not accepted: Hostname mismatch"),
        ("PLAIN", {"bootstrap_servers": "{plaintext}"}, "no connection over SASL_SSL .*--security-protocol"),
        ("PLAIN", {"security_protocol": "SASL_PLAINTEXT", "ssl_ca_file": ""}, "no connection over SASL_PLAINTEXT"),
        ("mTLS", {"ssl_cert_file": "", "ssl_key_file": ""}, "no connection over SSL .*--ssl-cert-file"),
        ("OAUTHBEARER", {"sasl_token_provider": "tokens_of_test:expired"}, "the token was refused"),
        ("OAUTHBEARER", {"sasl_token_provider": "tokens_of_test:unreachable"}, "no route to the identity provider"),
    ],
)
def test_who_is_not_let_in_is_told_why(secured: Secured, way: str, changed: dict[str, str], said: str) -> None:
    localhost = secured.sasl.replace("127.0.0.1", "localhost")
    names = {"folder": secured.folder, "localhost": localhost, "plaintext": secured.node.bootstrap}
    settings = chosen(secured, way, **{name: text.format(**names) for name, text in changed.items()})
    refused = callpulse(settings, "topics", "list")
    assert refused.code == 1
    assert re.search(said, refused.err)


def test_plaintext_to_a_listener_that_is_secured_ends_with_the_way_out(secured: Secured) -> None:
    refused = callpulse(own(Cluster(secured.sasl, "kafka")), "topics", "list")
    assert refused.code == 1
    assert "--security-protocol" in refused.err


@pytest.mark.parametrize("way", ["PLAIN", "SCRAM-SHA-512"])
def test_a_worker_with_a_wrong_password_ends_at_once(secured: Secured, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SASL_PASSWORD, "wrong-horse")
    with started(chosen(secured, way, log_level="debug")) as worker:
        assert worker.ends() == 1
    assert "is not let in" in worker.log
    assert "wrong-horse" not in worker.log


def rights(who: str, *kinds: str) -> list[Right]:
    """What the README's table gives to somebody, of these kinds or all."""
    rows = re.findall(rf"^\| {who}[^|]*\| ([\w, ]+) \| ([\w ]+) \| ([^|]+) \|$", README, flags=re.MULTILINE)
    return [
        (operation, kind, name)
        for operations, kind, names in rows
        for operation in operations.split(", ")
        for name in re.findall(r"`([^`]+)`", names)
        if kind in kinds or not kinds
    ]


@pytest.fixture(scope="module")
def granted(secured: Secured) -> Secured:
    """Everybody has what the README says; some have less."""
    asked = {"worker": "worker", "replay": "replay", "alerts": "alerts", "creator": "topics create"}
    given = {name: rights(who) for name, who in asked.items()}
    given |= {"ungrouped": rights("worker", "topic"), "fenced": rights("worker", "topic", "group")}
    assert all(given.values())
    for name, those in given.items():
        for right in those:
            secured.grant(name, right)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SASL_PASSWORD, PASSWORD)
        assert callpulse(user(secured, "creator"), "topics", "create").code == 0
    return secured


def test_the_rights_in_the_readme_are_enough(granted: Secured, tmp_path: Path) -> None:
    admin = chosen(granted, "SCRAM-SHA-512", prefix="calls.", group="callpulse")
    with running(user(granted, "worker")), closing(Topics(admin)) as laid:
        assert callpulse(user(granted, "replay"), "replay", "--speed", "0", recording(tmp_path)).code == 0
        laid.calls_over(1)
    assert callpulse(user(granted, "alerts"), "alerts").out
    assert callpulse(user(granted, "worker"), "doctor").code == 0


@pytest.mark.parametrize(
    ("name", "command", "lacking"),
    [
        ("nobody", "topics list", "Describe on topic calls.alerts, calls.rejected, calls.segments"),
        ("nobody", "topics create", "Describe on topic calls.alerts"),
        ("nobody", "alerts", "Describe on topic calls.alerts"),
        ("nobody", "validate --topic calls.segments", "Describe on topic calls.segments"),
        ("nobody", "replay --speed 0 {file}", "Describe on topic calls.segments"),
        ("nobody", "worker", "Describe on topic calls.alerts"),
        ("creator", "replay --speed 0 {file}", "IdempotentWrite on cluster"),
        ("creator", "worker", "Read on topic calls.segments, calls.sentiment, calls.state, Write on topic calls.alerts, "),
        ("creator", "worker --only score", "Read on topic calls.segments, Write on topic calls.rejected, calls.sentiment"),
        ("ungrouped", "worker", "Read on group callpulse-judge"),
        ("fenced", "worker", "Write on transactional-id callpulse-judge-calls.sentiment-"),
    ],
)
def test_the_right_that_is_missing_is_named(granted: Secured, name: str, command: str, lacking: str, tmp_path: Path) -> None:
    arguments = command.format(file=recording(tmp_path)).split(" ")
    refused = callpulse(user(granted, name), *arguments)
    assert refused.code == 1
    assert f"the broker denies {lacking}" in refused.err


def test_a_doctor_without_rights_says_so(granted: Secured) -> None:
    looked = callpulse(user(granted, "creator"), "doctor")
    assert looked.code == 1
    assert "failed  topics    the broker denies Read on topic" in looked.out


@pytest.mark.parametrize("right", [("Read", "topic", "calls.segments"), ("Write", "topic", "calls.sentiment")])
def test_a_right_that_is_taken_away_ends_the_worker(granted: Secured, right: Right, tmp_path: Path) -> None:
    operation, kind, name = right
    with running(user(granted, "worker")) as worker:
        granted.revoke("worker", right)
        try:
            with closing(Topics(chosen(granted, "SCRAM-SHA-512", prefix="calls."))) as laid:
                laid.send(call("late", range(4), 0))
            assert worker.ends() == 1
        finally:
            granted.grant("worker", right)
    assert f"the broker denies {operation} on {kind}" in worker.log
    assert name in worker.log
