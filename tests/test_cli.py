"""The command line as it is called: help, exit codes, what is printed and what is not. No broker is needed."""

import io
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import click
import pytest

from streams import __version__, cli
from streams.rules import load
from streams.settings import Settings, flag, from_mapping, listed, variable

CALLS = Path(cli.__file__).parent / "calls"
NOBODY = "127.0.0.1:1"
OTHER = {
    "bootstrap_servers": "kafka-1:9092,kafka-2:9092",
    "broker": "embedded",
    "prefix": "blue.",
    "group": "blue",
    "partitions": "12",
    "replication": "3",
    "rejected_days": "0.5",
    "start": "earliest",
    "create_topics": "True",
    "model": "lexicon",
    "labels": "negative,positive",
    "device": "cuda:1",
    "precision": "bf16",
    "runtime": "compile",
    "threads": "2",
    "batch_tokens": "64",
    "cached_texts": "0",
    "score_speakers": "customer",
    "score_partials": "True",
    "redact": "True",
    "text": "False",
    "rules": "rules.yaml",
    "rules_poll_s": "7.5",
    "grace_s": "1.5",
    "voice_silence_s": "60",
    "chat_silence_s": "61",
    "call_url": "https://crm.example/{call_id}",
    "web_host": "0.0.0.0",
    "web_port": "0",
    "traces": "true",
    "log_level": "debug",
    "log_format": "json",
    "instance_id": "pod-1",
    "stall_s": "30",
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "OAUTHBEARER",
    "sasl_username": "ann",
    "sasl_password_file": "password",
    "sasl_token_provider": "tokens:kafka",
    "ssl_ca_file": "ca.pem",
    "ssl_cert_file": "client.pem",
    "ssl_key_file": "client.key",
    "ssl_key_password_file": "key.password",
}


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Call = Callable[..., Done]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The console script in this process; only variables that are given are set."""
    for f in listed():
        monkeypatch.delenv(variable(f.name), raising=False)

    def called(*arguments: str, stdin: bytes = b"", **environment: str) -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        out, err = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Done(end.value.code, out, err)

    return called


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", [*commands(cli.cli)], ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_s_help_has_an_example_of_it(call: Call, path: tuple[str, ...], option: str) -> None:
    done = call(*path, option)
    assert (done.code, done.err) == (0, "")
    examples = [shlex.split(line) for line in done.out.split("Examples:\n")[1].splitlines()]
    assert examples
    for words in examples:
        assert words[: len(path) + 1] == ["callpulse", *path]
        assert all(word in done.out.split("Examples:")[0] for word in words if word.startswith("--"))


def test_the_help_lists_every_command(call: Call) -> None:
    done = call("--help")
    assert done.code == 0
    assert all(f"\n  {path[0]} " in done.out for path in commands(cli.cli))


def test_the_version_is_told(call: Call) -> None:
    assert call("--version") == Done(0, f"callpulse, version {__version__}\n", "")


def test_the_worker_s_help_lists_every_setting_with_its_variable(call: Call) -> None:
    words = call("worker", "--help").out.replace("[", " ").replace("]", " ").replace("/", " ").split()
    assert [f.name for f in listed() if flag(f.name) not in words or variable(f.name) not in words] == []


def given(capture: list[Settings]) -> click.Command:
    """A command that takes every setting, as the worker does."""

    @click.command()
    @cli.takes(*OTHER)
    def probe(settings: Settings) -> None:
        capture.append(settings)

    return probe


def test_every_setting_can_be_given_by_flag_and_by_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(OTHER) == {f.name for f in fields(Settings)}
    switches = {name: [flag(name)] for name in ("create_topics", "score_partials", "redact", "traces")} | {
        "text": ["--no-text"]
    }
    flags = [part for name, text in OTHER.items() for part in switches.get(name, [flag(name), text])]
    got: list[Settings] = []
    given(got).main(flags, standalone_mode=False)
    for name, text in OTHER.items():
        monkeypatch.setenv(variable(name), text)
    given(got).main([], standalone_mode=False)
    assert got == [from_mapping(OTHER, {})] * 2
    assert all(getattr(got[0], f.name) != f.default for f in fields(Settings))


def test_a_flag_wins_over_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLPULSE_CREATE_TOPICS", "true")
    monkeypatch.setenv("CALLPULSE_PREFIX", "blue.")
    got: list[Settings] = []
    given(got).main(["--no-create-topics", "--prefix", ""], standalone_mode=False)
    assert (got[0].create_topics, got[0].prefix) == (False, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("worker", "--nonsense"),
        ("worker", "--only", "both"),
        ("replay",),
        ("replay", "no such file"),
        ("replay", "--speed", "-1", str(CALLS / "en-routine.jsonl")),
        ("replay", "--bundled", str(CALLS / "en-routine.jsonl")),
        ("replay", "--bundled", "--loop", "--same-ids"),
        ("replay", "--bundled", "--loop", "--speed", "8"),
        ("replay", "--bundled", "--loop", "--speed", "0"),
        ("replay", "--loop", "-"),
        ("validate",),
        ("validate", str(CALLS / "en-routine.jsonl"), "--topic", "calls.segments"),
        ("score", "--prefix", "x"),
        ("rejected", "list", "--stage", "both"),
        ("rejected", "retry"),
        ("rejected", "retry", "3:7", "--all"),
        ("rejected", "retry", "3:7", "--reason", "not_json"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(call: Call, arguments: tuple[str, ...]) -> None:
    done = call(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Error: " in done.err


@pytest.mark.parametrize("command", ["worker", "topics create", "doctor", "score"])
def test_a_bad_setting_is_exit_code_2_and_names_the_flag_and_the_variable(call: Call, command: str) -> None:
    name, value = ("threads", "-1") if command in ("doctor", "score") else ("partitions", "0")
    for done in (call(*command.split(), flag(name), value), call(*command.split(), **{variable(name): value})):
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"callpulse: {flag(name)} (or {variable(name)}): {value} will not do: ")
        assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("worker",),
        ("topics", "create"),
        ("topics", "list"),
        ("alerts",),
        ("validate", "--topic", "calls.segments"),
        ("replay", str(CALLS / "en-routine.jsonl")),
        ("replay", "--bundled", "--loop"),
        ("rejected", "list"),
        ("rejected", "show", "3:7"),
        ("rejected", "retry", "--all"),
    ],
    ids=" ".join,
)
def test_without_a_broker_the_exit_code_is_1_and_the_way_out_is_told(call: Call, arguments: tuple[str, ...]) -> None:
    done = call(*arguments, CALLPULSE_BOOTSTRAP_SERVERS=NOBODY)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"callpulse: no Kafka broker answers at {NOBODY} ")
    assert "--bootstrap-servers or CALLPULSE_BOOTSTRAP_SERVERS; `callpulse demo` brings its own" in done.err
    assert done.err.count("\n") == 1


def test_a_model_that_is_not_there_is_exit_code_1(call: Call, tmp_path: Path) -> None:
    done = call("score", "--model", str(tmp_path), "hello")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("callpulse: ")
    assert str(tmp_path) in done.err
    assert "Traceback" not in done.err


def test_a_file_that_is_no_recording_is_exit_code_1(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl.gz"
    file.write_bytes(b"not gzip")
    done = call("validate", str(file))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("callpulse: ")
    assert file.name in done.err


def test_ctrl_c_is_exit_code_130(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Settings) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_load", interrupted)
    assert call("score", "hello").code == 130


def test_a_reader_that_goes_away_ends_it_without_a_traceback() -> None:
    command = [sys.executable, "-m", "streams", "score", "--model", "lexicon", "one", "two"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_dry_run_prints_the_kafka_topics_commands_and_needs_no_broker(call: Call) -> None:
    done = call("topics", "create", "--dry-run", "--partitions", "12", "--replication", "3", CALLPULSE_PREFIX="blue.")
    start = "kafka-topics.sh --bootstrap-server 127.0.0.1:9092 --create --topic blue."
    names = ("segments", "sentiment", "state", "alerts", "summaries", "rejected")
    lines = done.out.splitlines()
    assert (done.code, done.err, len(lines)) == (0, "", 6)
    for line, name in zip(lines, names, strict=True):
        assert line.startswith(f"{start}{name} --partitions 12 --replication-factor 3")
    assert [name for line, name in zip(lines, names, strict=True) if "--config cleanup.policy=compact " in line] == ["state"]
    assert lines[-1].endswith(" --config retention.ms=259200000 --config min.insync.replicas=2")
    assert all(" --config min.insync.replicas=2" in line for line in lines)
    single = call("topics", "create", "--dry-run", "--replication", "1").out
    assert "min.insync" not in single


def test_by_default_the_broker_chooses_the_number_of_replicas(call: Call) -> None:
    assert "--replication-factor" not in call("topics", "create", "--dry-run").out


TEXTS = ("This is ridiculous, the worst", "환불해 주셔서 감사합니다", "the invoice is dated may")


def test_score_prints_a_line_a_text(call: Call) -> None:
    done = call("score", "--model", "lexicon", *TEXTS)
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()] == ["negative", "positive", "neutral"]
    assert done.out.splitlines()[0] == f"negative -0.99  {TEXTS[0]}"


def test_score_reads_standard_input_when_no_text_is_given(call: Call) -> None:
    stdin = "\n".join(TEXTS).encode()
    assert call("score", CALLPULSE_MODEL="lexicon", stdin=stdin) == call("score", *TEXTS, CALLPULSE_MODEL="lexicon")
    assert call("score", CALLPULSE_MODEL="lexicon") == Done(0, "", "")


def test_score_as_json_is_an_object_a_line(call: Call) -> None:
    rows = [json.loads(line) for line in call("score", "--json", "--model", "lexicon", *TEXTS).out.splitlines()]
    assert [row["text"] for row in rows] == list(TEXTS)
    for row in rows:
        assert list(row) == ["text", "label", "score", "negative", "neutral", "positive", "truncated"]
        assert row["score"] == pytest.approx(row["positive"] - row["negative"], abs=2e-4)
    assert TEXTS[1] in call("score", "--json", "--model", "lexicon", TEXTS[1]).out  # not as \u escapes


def test_a_bundled_call_is_valid(call: Call) -> None:
    done = call("validate", str(CALLS / "en-escalating.jsonl"))
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "47 messages of 1 calls, 0 would be rejected"


BAD = (
    b'{"call_id":"c-1","speaker":"customer","text":"my password is swordfish"}\n'
    b'{"call_id":"c-1","speaker":"swordfish","text":"my password is swordfish"}\n'
    b'{"call_id":"c-1","speaker":"customer","text":"my password is swordfish"\n'
    b'{"call_id":"c-1","text":"my password is swordfish"}\n'
)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("piped", [False, True])
def test_what_would_be_rejected_is_exit_code_1_and_told_without_what_was_said(
    call: Call, tmp_path: Path, as_json: bool, piped: bool
) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_bytes(BAD)
    done = call("validate", "-" if piped else str(file), *(["--json"] if as_json else []), stdin=BAD)
    assert (done.code, done.err) == (1, "")
    assert "swordfish" not in done.out
    for reason in ("wrong_type", "not_json", "missing_field"):
        assert reason in done.out
    if as_json:
        assert json.loads(done.out)["messages"] == 4
    else:
        assert done.out.splitlines()[-1] == "4 messages of 1 calls, 3 would be rejected"


def test_contract_prints_a_document_by_its_name(call: Call) -> None:
    assert json.loads(call("contract").out)["asyncapi"] == "3.0.0"
    assert json.loads(call("contract", "callpulse.alert.v1").out)["$id"] == "urn:callpulse:schema:callpulse.alert.v1"
    done = call("contract", "callpulse.alert.v2")
    assert (done.code, done.out) == (2, "")
    assert "callpulse.alert.v1" in done.err


def test_doctor_without_a_broker_is_exit_code_1_and_still_looks_at_the_model(call: Call) -> None:
    done = call("doctor", "--json", "--model", "lexicon", "--bootstrap-servers", NOBODY)
    checks = [json.loads(line) for line in done.out.splitlines()]
    assert (done.code, done.err) == (1, "")
    states = {check["name"]: check["state"] for check in checks}
    skipped = {"topics": "skipped", "delivery": "skipped"}
    assert states == {"security": "ok", "broker": "failed", **skipped, "rules": "ok", "model": "ok"}
    assert "CALLPULSE_BOOTSTRAP_SERVERS" in checks[1]["detail"]


def test_doctor_tells_what_is_wrong_with_the_model(call: Call, tmp_path: Path) -> None:
    done = call("doctor", "--model", str(tmp_path), CALLPULSE_BOOTSTRAP_SERVERS=NOBODY)
    [model] = [line for line in done.out.splitlines() if line.split()[1] == "model"]
    assert done.code == 1
    assert model.startswith("failed  model     ")
    assert str(tmp_path) in model


def test_doctor_tells_the_hash_of_the_rules_or_what_is_wrong_with_them(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"

    def looked(*more: str) -> str:
        done = call("doctor", "--model", "lexicon", "--rules", str(path), *more, CALLPULSE_BOOTSTRAP_SERVERS=NOBODY)
        return next(line for line in done.out.splitlines() if line.split()[1:2] == ["rules"])

    path.write_text("rules:\n  - {name: r, severity: info, reason: r, when: {words: refund}}\n")
    assert looked().startswith(f"ok      rules     hash {load(path).hash}, 1 in {path}")
    assert looked("--no-text").startswith("failed  rules     --no-text: r would never hold")
    path.write_text("rules: 7\n")
    assert looked().startswith(f"failed  rules     {path}:1: `rules` needs a list")


@pytest.mark.parametrize("arguments", [[], ["worker", "--help"]])
def test_the_command_line_starts_without_what_is_heavy(arguments: list[str]) -> None:
    heavy = {"torch", "transformers", "faust", "aiokafka", "kafka", "rich", "aiohttp"}
    script = f"""
import sys
from streams.cli import main
try:
    main(sys.argv[1:]) if sys.argv[1:] else None
except SystemExit:
    pass
print("heavy:", {heavy} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: set()"
