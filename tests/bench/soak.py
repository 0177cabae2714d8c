"""How soon a worker is ready, and whether its memory stays flat: python -m tests.bench.soak, on Apache Kafka (KAFKA_HOME).

Ready: from the start of the process until /readyz says 200, with topics that are new and no live calls; median of 3 starts.

Soak: a worker reads --segments messages of calls that start, speak and end, a hundred at a time. What may grow: a call that is
over leaves a marker for a day of the records' time, and the texts whose scores are remembered (--cached-texts) become as many
as may be. A day of the records' time has only 22,000 messages, by pauses between each hundred calls and the next, and no text
comes twice; so both are full long before 20 % of 500,000, and from there on memory should stay as it is. The input is sent as
the worker advances: what waits is bounded. With --rate-limit the records have the time of sending, and markers go on growing
for a day. On the broker's disk 500,000 messages take some gigabytes (TMPDIR says where).
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import linear_regression, median

from kafka import KafkaProducer

from streams.conversation import DAY_MS
from streams.records import Record
from streams.settings import Settings
from tests.bench.load import memory
from tests.bench.race import tell
from tests.bench.stream import LIVE, WORKER, StreamError, judged, prepare, worker
from tests.bench.texts import turns
from tests.broker.apache import apache_kafka, free_ports

STARTS = 3
READY_POLL_S, READY_WITHIN_S, PAGE_WITHIN_S = 0.02, 120.0, 60.0
SAID = 22  # messages of a call: its start, its turns, its end
STEP_MS = 10_000 // LIVE  # between two records, by their timestamps: each call speaks every 10 s
WAVE_MS = DAY_MS // 10  # from LIVE calls, which come together, to the next, which are other calls
BACKLOG = 20_000  # messages that wait: a worker without any takes the wall's clock, and would end the calls of these records
RETENTION = "log.retention.ms=-1\n"  # the records are up to weeks old when they are sent
FROM = 20  # percent of the way after which memory should be flat


def message(texts: Sequence[str], number: int, began_ms: int) -> Record:
    """The one with this number, of calls that speak in turn; its timestamp is so long after `began_ms` (since 1970)."""
    wave, place = divmod(number, LIVE * SAID)
    turn, call = divmod(place, LIVE)
    call_id, start_ms = f"soak-{wave}-{call}", turn * LIVE * STEP_MS
    said: dict[str, object] = {"call_id": call_id}
    if turn == 0:
        said |= {"type": "start", "attributes": {"queue": f"q-{call % 5}"}}
    elif turn == SAID - 1:
        said |= {"type": "end", "reason": "hangup"}
    else:
        text = f"{texts[number % len(texts)]} {number}"
        said |= {"segment_id": str(turn), "speaker": "customer", "text": text, "start_ms": start_ms, "end_ms": start_ms + 4000}
    value = json.dumps(said, ensure_ascii=False).encode()
    return Record("", 0, number, at_ms(began_ms, number), call_id.encode(), value)


def at_ms(began_ms: int, number: int) -> int:
    wave, place = divmod(number, LIVE * SAID)
    return began_ms + wave * WAVE_MS + place * STEP_MS


@dataclass(frozen=True, slots=True)
class Sample:
    """A look at the worker: at what time (seconds, any clock), how many messages were judged, its memory, calls not closed."""

    at: float
    done: int
    rss_kb: int
    live: int


def figures(samples: Sequence[Sample]) -> dict[str, float]:
    """Of samples in their order, the last of them at the end of the way. `kb_per_1000`: by how much memory grows each 1,000
    messages, by least squares, after FROM percent of the way; without it where there are no two samples."""
    total, first = samples[-1].done, next((s for s in samples if s.done), samples[-1])
    seconds, settled = samples[-1].at - first.at, [s for s in samples if s.done >= total * FROM / 100]
    found: dict[str, float] = {
        "rss_kb_at_start": samples[0].rss_kb,
        "rss_kb_at_10": next(s.rss_kb for s in samples if s.done >= total / 10),
        "rss_kb_at_end": samples[-1].rss_kb,
        "rss_kb_most": max(s.rss_kb for s in samples),
        "live_most": max(s.live for s in samples),
        "live_at_end": samples[-1].live,
    }
    if seconds > 0:
        found["segments_per_s"] = round((total - first.done) / seconds, 1)
    if len(settled) > 1:
        slope = linear_regression([s.done for s in settled], [s.rss_kb for s in settled]).slope
        found["kb_per_1000"] = round(1000 * slope, 3)
    return found


def page(settings: Settings, name: str) -> str:
    """What the worker's web server says. Raises OSError where it does not, or not with 200."""
    with urllib.request.urlopen(f"http://127.0.0.1:{settings.web_port}/{name}", timeout=PAGE_WITHIN_S) as answer:
        return str(answer.read().decode())


def summed(exposed: str, name: str) -> int:
    """All values of a metric in Prometheus's text format."""
    lines = (line for line in exposed.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def ready_s(settings: Settings, command: Sequence[str] = WORKER) -> float:
    """Seconds from the start of a worker until it is ready, on topics that are new. Raises StreamError."""
    prepare(settings, [])
    began = time.perf_counter()
    with worker(settings, command) as process:
        while (waited := time.perf_counter() - began) < READY_WITHIN_S and process.poll() is None:
            try:
                page(settings, "readyz")
                return time.perf_counter() - began
            except OSError:
                time.sleep(READY_POLL_S)
    raise StreamError(f"the worker was not ready after {waited:.0f} s; run `callpulse doctor`")


@dataclass
class Soak:
    """Feeds a worker and looks at it, each time it is told how far the worker is."""

    settings: Settings
    producer: KafkaProducer
    segments: int
    look: Callable[[int], Sample]
    rate: float = math.inf  # messages sent a second, at most
    samples: list[Sample] = field(default_factory=list)
    sent: int = 0

    def __post_init__(self) -> None:
        self.texts, self.began = turns(), time.perf_counter()
        self.began_ms = int(time.time() * 1000) - at_ms(0, self.segments)

    def seen(self, done: int) -> None:
        self._feed(done)
        percent = 100 * done // self.segments
        if not self.samples or percent > 100 * self.samples[-1].done // self.segments:
            self.samples.append(sample := self.look(done))
            per_s = done / (sample.at - self.began)
            tell(f"{percent:>3} %  {done:>9,} judged  {per_s:>6,.0f}/s  {sample.rss_kb:>9,} kB  {sample.live:>5,} live")

    def _feed(self, done: int) -> None:
        allowed = self.rate * (time.perf_counter() - self.began)
        until = int(min(self.segments, done + BACKLOG, allowed))
        for number in range(self.sent, until):
            record = message(self.texts, number, self.began_ms)
            topic = self.settings.topic("segments")
            timestamp = record.timestamp if self.rate == math.inf else None  # a worker that waits goes by the wall's clock
            self.producer.send(topic, key=record.key, value=record.value, timestamp_ms=timestamp)
        self.sent = max(self.sent, until)
        self.producer.flush()


def soaked(
    settings: Settings, segments: int, rate: float = math.inf, command: Sequence[str] = WORKER
) -> tuple[dict[str, float], list[Sample]]:
    """A worker's run over so many messages. `summaries` are the calls that ended on the way; `rejected` should be 0, and
    `repeated`, what was scored twice, as well: else the worker was held up for so long that its group moved on, and memory has
    the marks of that. Raises StreamError."""
    prepare(settings, [])
    with worker(settings, command) as process, closing(KafkaProducer(bootstrap_servers=settings.bootstrap_servers)) as producer:

        def look(done: int) -> Sample:
            live = summed(page(settings, "metrics"), "callpulse_live_calls") if done else 0  # it may not serve at the start
            return Sample(time.perf_counter(), done, memory("VmRSS", process.pid), live)

        soak = Soak(settings, producer, segments, look, rate)
        judged(settings, segments, process, soak.seen)
        exposed = page(settings, "metrics")
    counts = {name: summed(exposed, f"callpulse_{name}_total") for name in ("summaries", "rejected", "alerts")}
    counts["repeated"] = summed(exposed, 'callpulse_segments_total{outcome="repeated"}')
    return {"segments": segments} | figures(soak.samples) | counts, soak.samples


def measure(settings: Settings, segments: int, rate: float = math.inf, starts: int = STARTS) -> dict[str, object]:
    """Figures of both; `samples` are (messages judged, kB, live calls)."""
    ready = []
    for number in range(starts):
        ready.append(round(ready_s(replace(settings, prefix=f"{settings.prefix}ready-{number}.", group=f"ready-{number}")), 2))
        tell(f"ready after {ready[-1]} s")
    found: dict[str, object] = {"model": settings.model, "ready_s": median(ready), "ready_starts_s": ready}
    if not Path("/proc/self/status").exists():
        return found | {"soak_left_out": "there is no /proc here: the memory of a process is read from it"}
    values, samples = soaked(settings, segments, rate)
    return found | values | {"samples": [(s.done, s.rss_kb, s.live) for s in samples]}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="tests.bench.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--segments", type=int, default=500_000)
    parser.add_argument("--model", default="default", help="default, a folder with a checkpoint, or lexicon")
    parser.add_argument(
        "--rate-limit",
        type=lambda text: math.inf if text == "none" else float(text),
        default="none",
        help="messages sent a second",
    )
    parser.add_argument("--json", action="store_true", help="one object, with the samples")
    options = parser.parse_args()
    if not (home := os.environ.get("KAFKA_HOME")):
        sys.exit("set KAFKA_HOME to a download of Apache Kafka")
    with tempfile.TemporaryDirectory() as folder, apache_kafka(Path(home), Path(folder), RETENTION) as node:
        [port] = free_ports(1)
        settings = Settings(node.bootstrap, model=options.model, start="earliest", web_port=port, log_level="warning")
        found = measure(settings, options.segments, options.rate_limit)
    samples = found.pop("samples", [])
    lines = (
        f"{name:<16} {value:,}" if isinstance(value, int | float) else f"{name:<16} {value}" for name, value in found.items()
    )
    print(json.dumps(found | {"samples": samples}) if options.json else "\n".join(lines))


if __name__ == "__main__":
    main()
