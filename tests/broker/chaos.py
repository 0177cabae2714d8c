"""Kills, outages and odd producers against the promises of the README: python -m tests.broker.chaos [--seed N] [--json FILE].

Each fault is played under a steady load on topics of its own; then nothing more is sent or broken, the workers finish, and
the oracle counts what is wrong. The exit code is 1 when there is anything.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from .brokers import Where, brokers
from .plans import SHORT, Fault, long
from .playing import COUNTS, Entry, played

BROKERS = ("three", "apache", "secured", "embedded")
LANES = {True: tuple((name,) for name in BROKERS), False: (("three", "secured"), ("apache", "embedded"))}
"""Brokers side by side, as most of the time somebody waits for a session to expire: in the short form, with a model."""
COLUMNS = ("broker", "fault", "injected", "segments", *COUNTS, "seconds")


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, that leaves no broker behind
    asked = arguments()
    if asked.broker:
        entries = one_after_the_other(asked)
    else:
        entries = side_by_side(asked)
        print(report(entries), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
    return 0 if all(entry["good"] for entry in entries) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.broker.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="of the schedule and the traffic")
    parser.add_argument("--json", type=Path, help="where the entries go")
    parser.add_argument("--only", nargs="+", default=[], metavar="FAULT", help="faults whose names begin like this")
    parser.add_argument("--minutes", type=float, default=10, help="length of the outage")
    parser.add_argument("--short", action="store_true", help="CI's form: the fake scorer, few faults")
    parser.add_argument("--model", default="default", help="the workers' model")
    parser.add_argument("--broker", nargs="+", choices=BROKERS, help="only on these, one by one")
    return parser.parse_args()


def one_after_the_other(asked: argparse.Namespace) -> list[Entry]:
    entries = []
    for broker in asked.broker:
        faults = [fault for fault in chosen(asked) if broker in fault.times]
        with tempfile.TemporaryDirectory() as folder:
            if faults:
                with brokers(broker, Path(folder)) as where:
                    for fault in faults:
                        print(f"      {broker}: {fault.name}", flush=True)
                        entries.append(tried(fault, broker, where, asked))
                        print(line(entries[-1]), flush=True)
    return entries


def tried(fault: Fault, broker: str, where: Where, asked: argparse.Namespace) -> Entry:
    """A play that breaks is wrong, and the others go on."""
    try:
        return played(fault, broker, where, asked.model, asked.seed)
    except Exception as error:
        traceback.print_exc()
        return {"broker": broker, "fault": fault.name, "good": False, "stuck": [repr(error)]}


def chosen(asked: argparse.Namespace) -> list[Fault]:
    faults = SHORT if asked.short else long(asked.minutes)
    return [fault for fault in faults if not asked.only or fault.name.startswith(tuple(asked.only))]


def side_by_side(asked: argparse.Namespace) -> list[Entry]:
    """A process a lane: its brokers and workers are children of its main thread, and die with it."""
    lanes = LANES[asked.short] if os.environ.get("KAFKA_HOME") else (("embedded",),)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{n}.json" for n in range(len(lanes))]
        processes = [
            subprocess.Popen([sys.executable, "-m", __spec__.name, *sys.argv[1:], "--broker", *lane, "--json", str(file)])
            for lane, file in zip(lanes, files, strict=True)
        ]
        try:
            for process in processes:
                process.wait()
        finally:
            for process in processes:
                process.terminate()
                process.wait()
        return [entry for file in files for entry in json.loads(file.read_text())]


def line(entry: Entry) -> str:
    """Progress, and what was wrong."""
    said = " ".join(f"{name}={entry.get(name)}" for name in ("broker", "fault", "injected", "segments", *COUNTS, "seconds"))
    words = [f"{name}: {entry[name]}" for name in ("figures", "lag", "rejected_extra", "alert_after_kill_s") if entry.get(name)]
    words += [f"{name}: {said}" for name in ("exits", "stuck") for said in entry.get(name, ())]
    words += [f"{name}: {keys}" for name, keys in entry.get("examples", {}).items() if name != "alerts_repeated"]
    return "\n    ".join([("ok    " if entry["good"] else "WRONG ") + said, *words])


def report(entries: Sequence[Entry]) -> str:
    """The table, then the figures that the issue asks for."""
    rows = [COLUMNS, *(tuple(str(entry.get(name, "")) for name in COLUMNS) for entry in entries)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    table = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(["", *table, "", *figures(entries)])


def figures(entries: Sequence[Entry]) -> list[str]:
    """The longest outage survived, the memory of a worker in it, the time from a kill to the next alert."""
    said = []
    outages = [
        (entry["figures"]["outage_s"], entry) for entry in entries if "outage_s" in entry.get("figures", {}) and entry["good"]
    ]
    if outages:
        seconds, entry = max(outages, key=lambda outage: outage[0])
        said.append(f"Longest outage survived: {seconds:.0f} s ({entry['broker']}, {entry['fault']})")
    for entry in entries:
        measured = entry.get("figures", {})
        if "memory_most_mb" in measured:
            said.append(
                f"Memory of the worker while {measured['sent_meanwhile']:.0f} segments came in and none got out: "
                f"{measured['memory_start_mb']:.0f} MB before, {measured['memory_most_mb']:.0f} MB at most"
            )
        if back := entry.get("alert_after_kill_s"):
            said.append(
                f"From a kill until every partition alerts again ({entry['broker']}, {entry['fault']}): "
                f"median {statistics.median(back):.1f} s, at most {max(back):.1f} s, of {len(back)}"
            )
    return said


if __name__ == "__main__":
    sys.exit(main())
