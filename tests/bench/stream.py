"""`make bench`: the whole stream against the same scorer in a tight loop, side by side in one run.

Each round times the two one after the other on the same messages, the bundled calls repeated to --segments:
loop:   the texts that the policy wants scored, through `scorer.score` in slices of one worker batch, nothing else;
stream: a worker of its own process reads them from calls.segments, loaded beforehand, until all are scored, judged and
        committed. It is timed from the end of its first batch on, and without that batch, so its start does not count.
The ratio of the medians is what the stream keeps of the scorer's speed. Apache Kafka when KAFKA_HOME is set (figures are taken
there), the embedded broker otherwise (one record a batch: slower).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

from kafka import KafkaProducer, TopicPartition

import models
from models.batching import take
from models.sentiment import Scorer
from streams import topics
from streams.agents import BATCHES, BYTES_A_TOKEN
from streams.broker import embedded
from streams.recording import read
from streams.records import Record, Rejected, Scored, Segment
from streams.settings import PROFILES, Settings, listed, variable
from streams.wire import decode, decode_scored
from tests.broker.apache import apache_kafka

CALLS = Path(__file__).parents[2] / "streams" / "calls"


def repeated(segments: int) -> list[Record]:
    """The bundled calls over and over, each time under other call ids, cut to `segments` messages."""

    def endless() -> Iterator[Record]:
        for turn in count():
            for path in sorted(CALLS.glob("*.jsonl")):
                call_id = f"{path.stem}-{turn}".encode()
                for record in read(path):
                    value = (record.value or b"").replace(f'"{path.stem}"'.encode(), b'"%s"' % call_id)
                    yield replace(record, key=call_id, value=value)

    return list(islice(endless(), segments))


def loop_seconds(scorer: Scorer, records: list[Record], settings: Settings) -> float:
    """The scorer alone, in slices as large as the worker's batches."""
    pairs = [(decoded, len(r.value or b"") // BYTES_A_TOKEN) for r in records if (decoded := decode(r.value))]
    texts, begun = [(d.text if _wanted(d, settings) else None, length) for d, length in pairs], time.perf_counter()
    while texts:
        size = take((length for _, length in texts), BATCHES * settings.batch_tokens)
        scorer.score([text for text, _ in texts[:size] if text is not None])
        texts = texts[size:]
    return time.perf_counter() - begun


def _wanted(decoded: Segment | Rejected, settings: Settings) -> bool:
    return isinstance(decoded, Segment) and settings.policy.skipped(decoded) is None


WORKER = (sys.executable, "-m", "streams", "worker")


def stream_per_second(settings: Settings, records: list[Record], command: Sequence[str] = WORKER) -> float:
    """Messages per second of a worker, from its first scored batch to the last judged and committed message."""
    with topics.admin(settings) as client:
        topics.create(client, settings)
    load(settings, records)
    with worker(settings, command) as process:
        judged(settings, len(records), process)
        ended = time.time()
    scored_s = Counter(scored_at(settings))
    begun, first = min(scored_s.items())
    return (len(records) - first) / (ended - begun)


def judged(settings: Settings, count: int, process: subprocess.Popen[bytes]) -> None:
    """Returns when the worker has judged and committed so many messages."""
    with closing(topics.consumer(settings, f"{settings.group}-judge")) as reader:
        places = [TopicPartition(settings.topic("sentiment"), p) for p in range(settings.partitions)]
        while sum(reader.committed(place) or 0 for place in places) < count:
            if process.poll() is not None:
                sys.exit("the worker stopped; run `callpulse doctor`")
            time.sleep(0.02)


def scored_at(settings: Settings) -> Iterator[float]:
    """When each message was scored, in seconds since 1970."""
    for record in topics.tail(settings, settings.topic("sentiment"), follow=False):
        scored = decode_scored(record.value)
        assert isinstance(scored, Scored)
        yield scored.scored_at.timestamp()


def load(settings: Settings, records: list[Record]) -> None:
    one = PROFILES[settings.broker].batch_records == 1
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers, **({"batch_size": 0} if one else {"linger_ms": 20}))
    for record in records:
        producer.send(settings.topic("segments"), key=record.key, value=record.value)
    producer.flush()
    producer.close()


@contextmanager
def worker(settings: Settings, command: Sequence[str] = WORKER) -> Iterator[subprocess.Popen[bytes]]:
    given = {variable(f.name): str(getattr(settings, f.name)) for f in listed()}
    process = subprocess.Popen(command, env=os.environ | given, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def measure(settings: Settings, segments: int, rounds: int) -> dict[str, object]:
    records, scorer = repeated(segments), models.load(settings.model, settings.device, budget=settings.batch_tokens)
    scored = sum(_wanted(decode(record.value), settings) for record in records)
    scorer.score(["warm up"] * 8)
    loops, streams = [], []
    for n in range(rounds):
        loops.append(segments / loop_seconds(scorer, records, settings))
        streams.append(stream_per_second(replace(settings, prefix=f"bench-{n}.", group=f"bench-{n}"), records))
        print(f"round {n + 1} of {rounds}: loop {loops[-1]:.0f}/s, stream {streams[-1]:.0f}/s", file=sys.stderr)
    loop, stream = statistics.median(loops), statistics.median(streams)
    return {
        "segments": segments,
        "scored": scored,
        "rounds": rounds,
        "model": f"{scorer.name} {scorer.revision} {scorer.precision}",
        "broker": settings.broker,
        "loop_per_s": round(loop, 1),
        "stream_per_s": round(stream, 1),
        "loop_scored_per_s": round(loop * scored / segments, 1),
        "stream_scored_per_s": round(stream * scored / segments, 1),
        "ratio": round(stream / loop, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--segments", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="default")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    options = parser.parse_args()
    with ExitStack() as stack:
        settings = Settings(model=options.model, start="earliest", web_port=0, log_level="warning", cached_texts=0)
        if home := os.environ.get("KAFKA_HOME"):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            settings = replace(settings, bootstrap_servers=stack.enter_context(apache_kafka(Path(home), folder)).bootstrap)
        else:
            settings = replace(settings, bootstrap_servers=stack.enter_context(embedded()), broker="embedded")
        figures = measure(settings, options.segments, options.rounds)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    for name, value in figures.items():
        print(f"{name:<22} {value}")


if __name__ == "__main__":
    main()
