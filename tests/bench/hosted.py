"""`callpulse worker`, with a thread beside it that notes what processor time each thread has had: Linux only.

    BENCH_THREADS=FILE python -m tests.bench.hosted worker

Every PERIOD_S a line is added to FILE, [seconds since 1970, {part: processor seconds}]. The parts: "forward", the engine's
thread of that name; "native", the threads that are not Python's: OpenMP's, which compute beside it, and the tokenizer's, thin
ones; "tokenize" and "decode", the engine's other two; "loop", the main thread: both agents, Faust, the publishing; "other",
Python's remaining threads; "notes", the noting one, which does not count. So what lies outside of the model is measured,
thread by thread, in the very run, and is no difference of two runs.
"""

import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PERIOD_S = 0.25
FILE = "BENCH_THREADS"
NOTES = "notes"
NOT_OUTSIDE = ("forward", "native", NOTES)
KNOWN = ("forward", "tokenize", "decode", NOTES)

Sample = tuple[float, Mapping[str, float]]
"""Seconds since 1970, and the processor seconds that each part has had by then."""


def part(name: str | None) -> str:
    """What a thread belongs to, by its name in Python; None where Python does not know it."""
    if name is None:
        return "native"
    return {"MainThread": "loop"}.get(name, name if name in KNOWN else "other")


def processor_seconds() -> dict[str, float]:
    """By part, of this process so far; threads that have ended are not counted."""
    names, spent = {thread.native_id: thread.name for thread in threading.enumerate()}, dict[str, float]()
    for folder in Path("/proc/self/task").iterdir():
        try:
            nanoseconds = int((folder / "schedstat").read_text().split()[0])
        except OSError:
            continue  # it has just ended
        of = part(names.get(int(folder.name)))
        spent[of] = spent.get(of, 0.0) + nanoseconds / 1e9
    return spent


def spent(samples: Sequence[Sample], begun: float, ended: float) -> dict[str, float]:
    """Processor seconds by part from `begun` to `ended`: what was spent between the samples that lie in between, for as long as
    the whole lasted. (After the end the worker stops, and with its threads their figures go.) Empty where there are no two."""
    inside = [sample for sample in samples if begun <= sample[0] <= ended]
    if len(inside) < 2:
        return {}
    (since, before), (until, after) = inside[0], inside[-1]
    return {name: (after[name] - before.get(name, 0.0)) * (ended - begun) / (until - since) for name in after}


def outside(parts: Mapping[str, float]) -> float:
    """The processor seconds of the worker that are not the model's forward passes."""
    return sum(seconds for name, seconds in parts.items() if name not in NOT_OUTSIDE)


def read(path: Path) -> list[Sample]:
    return [(moment, parts) for moment, parts in map(json.loads, path.read_text().splitlines())]


def note(path: Path) -> None:
    with path.open("a", buffering=1) as file:
        while True:
            file.write(json.dumps([time.time(), processor_seconds()]) + "\n")
            time.sleep(PERIOD_S)


if __name__ == "__main__":
    from streams.cli import main

    threading.Thread(target=note, args=(Path(os.environ[FILE]),), name=NOTES, daemon=True).start()
    main()
