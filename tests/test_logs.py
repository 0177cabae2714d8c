"""What the log leaves out of what the libraries say; lines as JSON, whoever writes them; nothing of what was said in any."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from builders import scored
from lanes import came
from test_agents import BATCH, POISON, SECRET, Moody, context, worked
from test_traced import GOOD, TRACE, Judge, sad

from streams import pipeline
from streams.errors import PoisonError
from streams.logs import QUIET_S, Json, Repeats


def record(name: str, message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, __file__, 1, message, args, None)


def test_a_library_s_message_comes_once_in_a_while_with_how_many_were_left_out() -> None:
    now = [0.0]
    repeats = Repeats(clock=lambda: now[0])
    said = [repeats.filter(record("aiokafka.client", "no node %s", n)) for n in range(1_001)]
    now[0] = QUIET_S
    last = record("aiokafka.client", "no node %s", 7)
    assert said == [True] + [False] * 1_000
    assert repeats.filter(last)
    assert last.getMessage() == "no node 7 (and 1,000 more like this)"


def test_other_messages_and_our_own_are_never_left_out() -> None:
    repeats = Repeats(clock=lambda: 0.0)
    assert repeats.filter(record("aiokafka.client", "one"))
    assert repeats.filter(record("aiokafka.client", "another"))
    assert repeats.filter(record("aiokafka.consumer", "one"))
    assert all(repeats.filter(record("callpulse.worker", "the same")) for _ in range(3))


class Lines(logging.Handler):
    """What is logged, as JSON and as it is told a person."""

    def __init__(self) -> None:
        super().__init__()
        self.json, self.said = list[str](), list[str]()
        self.text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        self.json.append(Json().format(record))
        self.said.append(self.text.format(record))

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.json]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """All that is logged on debug."""
    handler, loggers = Lines(), [logging.getLogger(), logging.getLogger("callpulse")]
    before = [logger.level for logger in loggers]
    loggers[0].addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield handler
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)
    loggers[0].removeHandler(handler)


def test_a_line_is_one_object_with_its_time_in_utc() -> None:
    made = record("callpulse.worker", "stopped: %s\nand more", 7)
    made.created, made.topic, made.offset, made.call_id = 1_700_000_000.5, "calls.segments", 0, "c\n1"
    line = Json().format(made)
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.500Z",
        "level": "error",
        "logger": "callpulse.worker",
        "message": "stopped: 7\nand more",
        "topic": "calls.segments",
        "offset": 0,
        "call_id": "c\n1",
    }
    assert datetime.fromisoformat(json.loads(line)["time"].replace("Z", "+00:00")).tzinfo == timezone.utc


def test_an_exception_is_one_string() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        made = logging.LogRecord("callpulse", logging.CRITICAL, __file__, 1, "failed", (), sys.exc_info())
    said = json.loads(Json().format(made))
    assert said["exc"].startswith("Traceback (most recent call last)")
    assert said["exc"].endswith("ValueError: broken")


def test_whatever_is_given_beside_the_message_becomes_text() -> None:
    made = record("kafka", "%s %s", b"\xff", "\ud800")
    made.reason = {1, 2}
    assert json.loads(Json().format(made))["reason"] == "{1, 2}"


def test_a_record_that_stops_the_worker_is_named_in_fields(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, batch = context(), [*BATCH[:2], came(7, value=b"{}", headers=[("traceparent", GOOD)])]
    shared.failed(PoisonError("calls.segments", 0, 7), batch)
    shared.failed(MemoryError("3 at once"), batch)
    place = {"topic": "calls.segments", "partition": 0}
    named = [
        {name: line[name] for name in line if name in ("topic", "partition", "offset", "trace_id")} for line in lines.objects
    ]
    assert named == [place | {"offset": 7, "trace_id": TRACE}, place | {"offset": 5}]
    assert lines.objects[1]["exc"] == "MemoryError: 3 at once"


def test_what_is_rejected_is_on_debug_and_what_is_skipped_on_info(lines: Lines) -> None:
    worked(BATCH, POISON)
    ours = [line for line in lines.objects if line["logger"] == "callpulse.publisher"]
    assert [(line["level"], line["reason"], line["offset"], line["stage"]) for line in ours] == [
        ("debug", "not_json", 6, "score"),
        ("info", "skipped", 7, "score"),
        ("debug", "scoring_failed", 9, "score"),
    ]


def test_an_alert_is_on_debug_with_its_call_its_segment_and_its_trace(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    alerts = [json.loads(alert.value or b"") for alert in Judge(monkeypatch).judge(*sad())]
    ours = [line for line in lines.objects if line["logger"] == "callpulse.state"]
    assert [(line["call_id"], line["segment_id"], line["alert_id"], line["rule"]) for line in ours] == [
        (a["call_id"], a["evidence"][-1]["segment_id"], a["alert_id"], a["rule"]["name"]) for a in alerts
    ]
    assert all(len(line["trace_id"]) == 32 for line in ours)


def test_nothing_that_was_said_is_in_any_line_on_debug_either(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    worked(BATCH, POISON, scorer=Moody())
    Judge(monkeypatch).judge(*sad(text=SECRET))
    decode = pipeline.decode
    monkeypatch.setattr(pipeline, "decode", lambda value: int(SECRET) if SECRET.encode() in value else decode(value))
    with pytest.raises(PoisonError) as caught:
        worked(BATCH)
    context().failed(caught.value, BATCH)
    assert scored(0, text=SECRET).text == SECRET
    assert "int(SECRET)" in lines.objects[-1]["exc"]  # where it was; Python's message quotes what it was
    assert "ValueError" in lines.objects[-1]["exc"]
    assert [line for line in [*lines.json, *lines.said] if "4711" in line or "card" in line] == []


PROGRAM = """
import logging, sys, threading, warnings
from streams import cli, logs
logs.configure("info", "json")
logging.getLogger("aiokafka.client").error("no node %s", 7)
logging.getLogger("faust.app").error("no leader")
warnings.warn("an old way")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
cli._last_word("no broker")
raise ValueError("two\\nlines")
"""


def test_the_libraries_warnings_and_what_nobody_has_caught_are_objects_as_well() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["level"], line["logger"]) for line in said] == [
        ("error", "aiokafka.client"),
        ("error", "faust.app"),
        ("warning", "py.warnings"),
        ("critical", "callpulse"),
        ("critical", "callpulse"),
        ("critical", "callpulse"),
    ]
    assert "an old way" in said[2]["message"]
    assert said[3]["exc"].endswith("ZeroDivisionError: division by zero")
    assert said[4]["message"] == "no broker"
    assert said[5]["exc"].endswith("ValueError: two\nlines")
    assert done.returncode == 1
