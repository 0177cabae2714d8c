"""What goes to standard error: our own lines, and of the libraries' errors each only once in a while."""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

QUIET_S = 30.0
LIBRARIES = ("kafka", "aiokafka", "faust", "mode", "opentelemetry")
WORDY = ("kafka", "aiokafka", "opentelemetry")  # on debug they would show whole requests: passwords, and what callers said
FIELDS = ("topic", "partition", "offset", "call_id", "segment_id", "alert_id", "rule", "stage", "reason", "trace_id")
"""What a line may say beside its message, given as `extra`: none of it is what was said."""


class Repeats(logging.Filter):
    """Lets a library's message through once in QUIET_S, whatever its arguments: while a broker is away its clients say so
    hundreds of times a second. Says how many were left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self.said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in LIBRARIES:
            return True
        place, now = (record.name, str(record.msg)[:80]), self.clock()
        at, left_out = self.said.get(place, (-QUIET_S, 0))
        if now - at < QUIET_S:
            self.said[place] = at, left_out + 1
            return False
        self.said[place] = now, 0
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out:,} more like this)", ()
        return True


class Json(logging.Formatter):
    """One object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, those of FIELDS that are known, and `exc`, the
    traceback as a text."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        said |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            said["exc"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


def configure(level: str, style: str = "text") -> None:
    """For the length of the process. On debug the libraries speak, too, though never with whole requests. As JSON, so does what
    would be written past the log: warnings, and exceptions that nobody has caught."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S"))
    if style == "json":
        handler.setFormatter(Json())
        _capture()
    if level != "debug":
        handler.addFilter(Repeats())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("callpulse").setLevel(level.upper())
    for name in LIBRARIES:
        least = logging.INFO if name in WORDY else logging.DEBUG
        logging.getLogger(name).setLevel(least if level == "debug" else logging.ERROR)


def machine_reads() -> bool:
    """Whether lines are JSON."""
    return any(isinstance(handler.formatter, Json) for handler in logging.getLogger().handlers)


def _capture() -> None:
    logging.captureWarnings(True)
    log = logging.getLogger("callpulse")

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.critical("stopping on an unexpected error", exc_info=(kind, error, trace))

    def uncaught_in_a_thread(given: threading.ExceptHookArgs) -> None:
        error = given.exc_value or given.exc_type()
        log.critical("a thread has ended", exc_info=(given.exc_type, error, given.exc_traceback))

    sys.excepthook, threading.excepthook = uncaught, uncaught_in_a_thread
