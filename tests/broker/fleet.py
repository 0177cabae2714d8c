"""Workers that die, freeze, come and go, and somebody who starts again what has ended, as an orchestrator does."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from streams.broker import DIE_WITH_PARENT
from streams.settings import Settings

from .running import WORKER, Worker, environment

TEND_S = 0.05
BACK_OFF_S = 1.0  # before a worker that ended by itself is started again
PATIENCE_S = 15.0  # for the end of a worker that was told to stop


@dataclass(eq=False)
class Member:
    """A place in the fleet: its present process, whether it is to live, and whether its next end was meant."""

    worker: Worker
    wanted: bool = True
    meant: bool = False
    ended_s: float | None = None

    @property
    def pid(self) -> int:
        return self.worker.process.pid

    @property
    def ready(self) -> bool:
        return self.worker.process.poll() is None and any(line.endswith(": ready") for line in [*self.worker.lines])

    @property
    def rss_mb(self) -> float | None:
        """Resident memory; None when it does not run."""
        with suppress(OSError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
        return None


@dataclass
class Fleet:
    """Workers with the same settings; `also` goes into their environment. `exits`: the last words of those that ended though
    nobody wanted it, or otherwise than they should. `all` are all that ever were."""

    settings: Settings
    also: Mapping[str, str] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)
    all: list[Worker] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def add(self, count: int = 1) -> list[Member]:
        """Starts so many; they are `ready` some seconds later."""
        joined = [Member(self._start()) for _ in range(count)]
        self.members += joined
        return joined

    def _start(self) -> Worker:
        command = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, str(os.getpid()), *WORKER]
        given = {**environment(self.settings), **self.also}
        self.all.append(Worker(subprocess.Popen(command, env=given, stderr=subprocess.PIPE, text=True, start_new_session=True)))
        return self.all[-1]

    @property
    def ready(self) -> bool:
        return all(member.ready for member in self.members)

    def kill(self, member: Member) -> None:
        """SIGKILL; it is started again at once."""
        member.meant = True
        member.worker.process.kill()

    def restart(self, member: Member) -> None:
        """SIGTERM, and it is started again, as in a rolling update."""
        self._told_to_stop(member)

    def dismiss(self, member: Member) -> None:
        """SIGTERM, and it does not come back."""
        member.wanted = False
        self._told_to_stop(member)
        self.members.remove(member)

    def _told_to_stop(self, member: Member) -> None:
        """Returns when it has ended, within PATIENCE_S and with 0; notes anything else."""
        worker, member.meant = member.worker, True
        process = worker.process
        process.terminate()
        try:
            code = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code:
            self.exits.append(f"told to stop, it ended with {code}: {last_words(worker)}")

    @contextmanager
    def frozen(self, member: Member) -> Iterator[None]:
        """SIGSTOP for the length of the context; then it goes on as if nothing had been."""
        process = member.worker.process
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def tend(self) -> None:
        """Starts again what has ended and is wanted, until the fleet is over."""
        while not self.over.wait(TEND_S):
            for member in [*self.members]:
                code = member.worker.process.poll()
                if code is not None and member.wanted:
                    self._ended(member, code)

    def _ended(self, member: Member, code: int) -> None:
        if member.ended_s is None:
            member.ended_s = time.monotonic()
            if not member.meant:
                self.exits.append(f"by itself, with {code}: {last_words(member.worker)}")
        if member.meant or time.monotonic() - member.ended_s > BACK_OFF_S:
            member.worker, member.meant, member.ended_s = self._start(), False, None


def last_words(worker: Worker) -> str:
    """Why it stopped, with the traceback's end; or its last lines."""
    worker.reader.join(1)
    lines = [*worker.lines]
    grave = next((n for n, line in enumerate(lines) if " CRITICAL " in line), len(lines) - 3)
    return " | ".join([*lines[grave : grave + 1], *lines[grave + 1 :][-6:]])


@contextmanager
def fleet(settings: Settings, also: Mapping[str, str]) -> Iterator[Fleet]:
    """An empty fleet that is tended; whoever is left at the end is killed."""
    made = Fleet(settings, also)
    tender = threading.Thread(target=made.tend)
    tender.start()
    try:
        yield made
    finally:
        made.over.set()
        tender.join()
        for member in made.members:
            member.worker.process.kill()
            member.worker.process.wait()
