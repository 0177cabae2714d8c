"""What the judge's transactions cost: the same worker with and without them on Apache Kafka, in turns, with the word-list
scorer, so that it is the stream that is timed and not the model.

    python -m tests.bench.transactions [--segments 20000] [--rate 100] [--rounds 3] [--json]

Throughput: segments/s of a backlog, from the first scored batch to the last commit. Latency: from sending a segment to its
call's new state being readable by a consumer of committed records, at a steady rate.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from kafka import KafkaProducer, TopicPartition

from streams import topics
from streams.settings import Settings
from streams.wire import POSITIONS_KEY, decode_state
from tests.bench.stream import WORKER, judged, repeated, stream_per_second, worker
from tests.broker.apache import apache_kafka

WITHOUT = """
from dataclasses import replace
from streams import settings
settings.PROFILES["kafka"] = replace(settings.PROFILES["kafka"], transactions=False)
from streams.cli import main
main()
"""
COMMANDS = {"with": WORKER, "without": (sys.executable, "-c", WITHOUT, "worker")}
SECONDS = 15


def latencies_ms(settings: Settings, command: tuple[str, ...], rate: int) -> list[float]:
    """Of each state that was seen: now less the time at which the newest segment that it contains was sent."""
    with topics.admin(settings) as client:
        topics.create(client, settings)
    seen: list[float] = []
    over, sent = threading.Event(), dict[tuple[int, int], float]()
    reader = topics.consumer(settings)
    reader.assign([TopicPartition(settings.topic("state"), p) for p in range(settings.partitions)])
    reader.seek_to_beginning()

    def read() -> None:
        while not over.is_set():
            for messages in reader.poll(timeout_ms=20).values():
                now = time.time()
                for message in messages:
                    if message.key != POSITIONS_KEY and message.value:
                        places = decode_state(message.value).positions.items()
                        times = [sent.get((int(lane.rpartition(":")[2]), offset), 0.0) for lane, offset in places]
                        seen.append((now - max(times)) * 1000)

    with worker(settings, command) as process:
        producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers, acks="all")
        thread = threading.Thread(target=read)
        thread.start()
        for n, record in enumerate(repeated(SECONDS * rate)):
            at = time.time()
            place = producer.send(settings.topic("segments"), key=record.key, value=record.value).get(10)
            sent[place.partition, place.offset] = at
            time.sleep(max(0.0, at + 1 / rate - time.time()))
            if n == 5 * rate:
                seen.clear()  # the worker starts, the first states come late
        judged(settings, SECONDS * rate, process)
        over.set()
        thread.join()
        producer.close()
        reader.close()
    return seen


def measure(settings: Settings, segments: int, rate: int, rounds: int) -> list[dict[str, object]]:
    records = repeated(segments)
    per_s: dict[str, list[float]] = {name: [] for name in COMMANDS}
    waits: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for n in range(rounds):
        for name, command in COMMANDS.items():
            own = replace(settings, prefix=f"t{n}{name}.", group=f"t{n}{name}")
            per_s[name].append(stream_per_second(own, records, command))
            own = replace(settings, prefix=f"l{n}{name}.", group=f"l{n}{name}")
            waits[name] += latencies_ms(own, command, rate)
            print(f"round {n + 1} of {rounds}, {name}: {per_s[name][-1]:.0f}/s", file=sys.stderr)
    return [
        {
            "transactions": name,
            "segments_per_s": round(statistics.median(per_s[name])),
            "p50_ms": round(statistics.median(waits[name]), 1),
            "p99_ms": round(sorted(waits[name])[int(len(waits[name]) * 0.99)], 1),
        }
        for name in COMMANDS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="tests.bench.transactions", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--segments", type=int, default=20_000)
    parser.add_argument("--rate", type=int, default=100, help="segments/s for the latency")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one object a line")
    options = parser.parse_args()
    if not (home := os.environ.get("KAFKA_HOME")):
        sys.exit("set KAFKA_HOME: the embedded broker has no transactions")
    with tempfile.TemporaryDirectory() as folder, apache_kafka(Path(home), Path(folder)) as node:
        settings = Settings(node.bootstrap, model="lexicon", start="earliest", web_port=0, log_level="warning")
        for row in measure(settings, options.segments, options.rate, options.rounds):
            print(json.dumps(row) if options.json else "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
