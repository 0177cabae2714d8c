"""A worker as a process of its own, for the demo: started, killed, started again, stopped."""

import collections
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO

from streams.broker import DIE_WITH_PARENT, stop
from streams.errors import CallpulseError
from streams.settings import Settings, listed, variable

STOP_S = 2.0  # for a farewell to the broker; what was under way would be redelivered
LAST_LINES = 15


class WorkerProcess:
    """`callpulse worker` with these settings, in a session of its own: Ctrl-C in a terminal stops the caller first.

    Start it in the main thread: on Linux it dies with the thread that started it.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        given = {variable(setting.name): str(getattr(settings, setting.name)) for setting in listed()}
        self._environment = {**environment, **given}
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._ready = threading.Event()
        self._lines: collections.deque[str] = collections.deque(maxlen=LAST_LINES)

    @property
    def ready(self) -> bool:
        """Whether it takes part. Raises CallpulseError, with its last lines, once it has ended by itself."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._joined()
            raise CallpulseError(f"the worker ended with exit code {code}. Its last lines:\n" + "\n".join(self._lines))
        return self._ready.is_set()

    def start(self) -> None:
        """Returns at once; it is `ready` some seconds later."""
        command = [sys.executable, "-m", "streams", "worker"]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, str(os.getpid()), *command]
        self._ready.clear()
        process = subprocess.Popen(  # noqa: S603 (no shell; settings go by the environment)
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._process = process
        self._reader = threading.Thread(target=self._read, args=(process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stderr: IO[bytes]) -> None:
        with stderr:
            for raw in stderr:
                text = raw.decode(errors="replace").rstrip()
                self._lines.append(text)
                if text.endswith("callpulse.worker: ready"):
                    self._ready.set()

    def kill(self) -> None:
        """SIGKILL: nothing is finished, committed or said; does nothing when it does not run."""
        self._end(0)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL after STOP_S; does nothing when it does not run."""
        self._end(STOP_S)

    def _end(self, patience: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if not patience:
            process.kill()
        stop(process, patience)
        self._joined()

    def _joined(self) -> None:
        if self._reader is not None:
            self._reader.join(STOP_S)
