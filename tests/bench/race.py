"""Contenders in processes of their own, started once, and their rounds in turn. Whoever's turn it is not is stopped
(SIGSTOP), so that nobody's idle threads take processor time from another."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from streams.broker import DIE_WITH_PARENT
from tests.bench.contender import Setup
from tests.bench.jobs import Job, Lap, order

REPOSITORY = Path(__file__).parents[2]
PEERS = REPOSITORY / ".venv-bench" / "bin" / "python"
ANSWER_S = 300.0
# one that stands still would outlive a bench that was killed
DYING = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, str(os.getpid())] if sys.platform == "linux" else []


class ContenderError(Exception):
    """It cannot run, or no longer: why, in a few words."""


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def environment(threads: int) -> dict[str, str]:
    """The same number of threads for whatever library; nothing is fetched."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS")
    said = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY), "DO_NOT_TRACK": "1", "PYTHONWARNINGS": "ignore"}
    return os.environ | dict.fromkeys(names, str(threads)) | said


class Process:
    """One contender: loads at once, and answers when it is asked; stopped in between. Raises ContenderError."""

    def __init__(self, job: Job, setup: Setup, log: Path) -> None:
        if job.peer and not PEERS.exists():
            raise ContenderError("no .venv-bench: `make bench` makes it")
        python = str(PEERS) if job.peer else sys.executable
        self.job, self.log = job, log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*DYING, python, "-m", "tests.bench.contender"],
                cwd=REPOSITORY,
                env=environment(setup.threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        try:
            self.ready_s = float(self._exchange({"job": asdict(job), "setup": asdict(setup)})["ready"])
        except ContenderError:
            self.end()
            raise
        self.process.send_signal(signal.SIGSTOP)

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        self.process.send_signal(signal.SIGCONT)
        answer = self._exchange({"do": do} | more)
        self.process.send_signal(signal.SIGSTOP)
        return answer

    def lap(self, **more: Any) -> Lap:
        answer = self.ask("run", **more)
        return Lap(answer.pop("seconds"), answer.pop("cpu_seconds"), answer)

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise ContenderError(f"its process has ended: {self._last_line()}") from error
        if not select.select([self.process.stdout], [], [], ANSWER_S)[0]:
            raise ContenderError(f"no answer in {ANSWER_S:.0f} s")
        if not (line := self.process.stdout.readline()):
            raise ContenderError(f"its process has ended: {self._last_line()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContenderError(str(answer["error"]))
        return answer

    def _last_line(self) -> str:
        return (self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1][:200]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()


@dataclass
class Lineup:
    """All contenders: those that run, and why the others do not."""

    setup: Setup
    folder: Path
    running: dict[str, Process] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    laps: dict[str, list[Lap]] = field(default_factory=dict)

    def start(self, jobs: Iterable[Job], warm: Callable[[Process], None]) -> None:
        """One after the other, each warm before the next."""
        for job in jobs:
            tell(f"starting {job.name}: {job.title}")
            with self.guarded(job.name):
                self.running[job.name] = process = Process(job, self.setup, self.folder / f"{job.name}.log")
                warm(process)

    @contextmanager
    def guarded(self, name: str) -> Iterator[None]:
        """Whoever fails is out, with the reason, and the others go on."""
        try:
            yield
        except ContenderError as error:
            tell(f"  {name} is left out: {error}")
            self.left_out[name] = str(error)
            self.laps.pop(name, None)
            self.drop(name)

    def round(self, number: int, races: Mapping[str, Callable[[], Lap]]) -> None:
        """Everybody once, in the order of this round."""
        for name in order(races, number):
            with self.guarded(name):
                self.laps.setdefault(name, []).append(lap := races[name]())
                tell(f"  {name}: {lap.seconds:.2f} s")

    def races(self, names: Sequence[str]) -> dict[str, Callable[[], Lap]]:
        return {name: self.running[name].lap for name in names if name in self.running}

    def drop(self, name: str) -> None:
        if process := self.running.pop(name, None):
            process.end()

    def __enter__(self) -> "Lineup":
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.running):
            self.drop(name)
