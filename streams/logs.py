"""What goes to standard error: our own lines, and of the libraries' errors each only once in a while."""

import logging
import sys
import time
from collections.abc import Callable

QUIET_S = 30.0
LIBRARIES = ("kafka", "aiokafka", "faust", "mode")


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


def configure(level: str) -> None:
    """For the length of the process. On debug the libraries speak, too, though never with whole requests: these show
    passwords, and what callers said."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S"))
    if level != "debug":
        handler.addFilter(Repeats())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("callpulse").setLevel(level.upper())
    for name in LIBRARIES:
        least = logging.INFO if "kafka" in name else logging.DEBUG
        logging.getLogger(name).setLevel(least if level == "debug" else logging.ERROR)
