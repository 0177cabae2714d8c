"""How long a judged partition with many live calls takes to load, and how much memory: python -m tests.bench.load.

Fills one partition of calls.state on Apache Kafka (KAFKA_HOME) as a judge does, before any compaction: a state of every call
(30 to 40 turns each of customer and agent, English or Korean); then --tail newer states of a third of them; among these a
tenth as many calls that have ended, closed, and a twentieth whose marker has gone. Then a process of its own loads the
partition. `stall_ms` is the longest time for which that kept the event loop from others.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path

from msgspec.structs import replace

from streams import topics
from streams.conversation import Conversation, Limits, Positions, closed
from streams.kept import Turns, pack
from streams.outcome import Outcome
from streams.pipeline import Calls
from streams.publisher import Outgoing, Transactions
from streams.recording import read
from streams.records import Evidence, Model, Scored, Segment, Sentiment, Source
from streams.settings import Settings
from streams.state import load
from streams.turns import Turn
from streams.wire import POSITIONS_KEY, decode, encode
from tests.broker.apache import apache_kafka

RECORDED = Path(__file__).parents[2] / "streams" / "calls"
PATTERNS = 64
TRANSACTION = 256  # states that are written at once
BEGAN = 1_790_000_000_000  # ms since 1970
TOPIC_ID, LANES = "rNUnIAb4QZWlvzRmjJ7X6A", 12

Stored = tuple[bytes, bytes | None]
"""Key and value of a record of calls.state."""


def texts() -> list[str]:
    found = [decode(record.value) for path in sorted(RECORDED.glob("*.jsonl")) for record in read(path)]
    return [segment.text for segment in found if isinstance(segment, Segment) and segment.text]


TEXTS = texts()
WORDS = " ".join(TEXTS).split()


def patterns(rng: random.Random) -> list[Conversation]:
    """Calls with all that a state holds, from which the others are made."""
    calls, outcome = Calls(Limits(), 1), Outcome()
    for n in range(PATTERNS):
        for turn in range(2 * rng.randint(30, 40)):
            calls.judge(scored(n, turn, rng.choice(TEXTS), rng), outcome)
    return list(calls.calls.values())


def scored(call: int, turn: int, text: str, rng: random.Random) -> Scored:
    score, start_ms, customer = round(rng.uniform(-1, 1), 5), turn * 5_000 + rng.randrange(1_500), turn % 2 == 1
    return Scored(
        call_id=f"pattern-{call}",
        segment_id=f"{call}-{turn}",
        speaker="customer" if customer else "agent",
        text=text,
        start_ms=start_ms,
        end_ms=start_ms + rng.randint(1_000, 4_500),
        attributes={} if turn else {"queue": "billing", "agent_id": f"a-{rng.randrange(2_000)}", "region": "kr-1"},
        source=Source(TOPIC_ID, 0, call * 1_000 + turn, BEGAN + start_ms),
        scored_at=datetime.fromtimestamp(BEGAN / 1000, timezone.utc),
        model=Model("default", "1", "fp32"),
        sentiment=Sentiment("negative" if score < 0 else "positive", score, 0.0, 1.0, 0.0) if customer else None,
    )


def varied(pattern: Conversation, number: int, rng: random.Random) -> Conversation:
    """Another call: other ids, other words, other times, so that it compresses as badly as a real one."""
    lane = f"{TOPIC_ID}:{number % LANES}"

    def turned(turn: Evidence) -> Evidence:
        text = " ".join(rng.choices(WORDS, k=len(turn.text.split())))
        return replace(turn, segment_id=f"{rng.getrandbits(48):x}", text=text, score=round(rng.uniform(-1, 1), 5))

    def kept(turn: Turn) -> Turn:
        score = None if turn.score is None else round(rng.uniform(-1, 1), 5)
        return replace(turn, segment=f"{rng.getrandbits(48):012x}", score=score)

    return replace(
        pattern,
        call_id=call_id(number),
        origin_ms=pattern.origin_ms + rng.randrange(3_600_000),
        clock=pattern.clock + rng.randrange(3_600_000),
        lane=lane,
        positions={lane: rng.randrange(10**7)},
        seen=tuple(f"{rng.getrandbits(48):012x}" for _ in pattern.seen),
        turns=Turns(b"".join(pack(kept(turn)) for turn in pattern.turns)),
        recent=tuple(map(turned, pattern.recent)),
    )


def call_id(number: int) -> str:
    """As unlike each other as a telephone system's."""
    return f"{number:08}-{random.Random(number).getrandbits(64):016x}"


def written(calls: int, tail: int) -> Iterator[Stored]:
    """What lies on calls.state, oldest first: see above. Of this `calls` live and a tenth as many closed ones are left."""
    rng = random.Random(1)
    made = patterns(rng)
    marker = closed(made[0], made[0].clock)
    ended = range(calls, calls + calls * 3 // 20)

    def state(number: int) -> Stored:
        call = varied(made[number % PATTERNS], number, rng)
        return call.call_id.encode(), encode(call)

    def end(number: int) -> Stored:
        return call_id(number).encode(), encode(replace(marker, call_id=call_id(number)))

    def over(number: int) -> Iterator[Stored]:
        yield end(number)
        if number >= calls + calls // 10:
            yield call_id(number).encode(), None

    yield from map(state, range(ended.stop))
    every, endings = max(1, tail // max(1, len(ended))), iter(ended)
    for n in range(tail):
        yield state(rng.randrange(max(1, calls // 3)))
        if n % every == 0:
            yield from over(next(endings)) if n // every < len(ended) else ()
    for number in endings:
        yield from over(number)


async def fill(settings: Settings, records: Iterator[Stored]) -> tuple[int, int]:
    """Writes them in transactions, as a judge does; how many they were, and their bytes."""
    publisher, topic, count, size = Transactions(settings, "bench-load"), settings.topic("state"), 0, 0
    await publisher.start()
    while batch := list(islice(records, TRANSACTION)):
        await publisher.publish([Outgoing(topic, 0, *record) for record in batch])
        count, size = count + len(batch), size + sum(len(key) + len(value or b"") for key, value in batch)
        if sys.stderr.isatty():
            print(f"\rwritten {count:,}", end="", file=sys.stderr)
    await publisher.publish([Outgoing(topic, 0, POSITIONS_KEY, encode(Positions(settings.partitions)))])
    await publisher.stop()
    return count + 1, size


def measure(settings: Settings) -> dict[str, float]:
    """Loads the partition in this process."""
    return asyncio.run(_measure(settings))


async def _measure(settings: Settings) -> dict[str, float]:
    watching, stalls, before, began, used = True, [0.0], memory("VmRSS"), time.perf_counter(), time.process_time()

    async def watch() -> None:
        while watching:
            asked = time.perf_counter()
            await asyncio.sleep(0.001)
            stalls.append(time.perf_counter() - asked - 0.001)

    watcher = asyncio.create_task(watch())
    calls = await load(settings, 0, settings.partitions)
    seconds, watching = time.perf_counter() - began, False
    await watcher
    return {
        "loaded": len(calls.calls),
        "seconds": round(seconds, 2),
        "cpu_s": round(time.process_time() - used, 2),
        "peak_mb": (memory("VmHWM") - before) // 1000,
        "kept_mb": (memory("VmRSS") - before) // 1000,
        "stall_ms": round(max(stalls) * 1000, 1),
    }


def memory(name: str, process: int | str = "self") -> int:
    """In kB, of this process or of the one with that id (Linux)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--tail", type=int, default=300_000)
    parser.add_argument("--json", action="store_true", help="one object")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node = stack.enter_context(apache_kafka(Path(os.environ["KAFKA_HOME"]), folder))
        settings = Settings(bootstrap_servers=node.bootstrap, replication=1, partitions=1)
        uncompacted = {"min.compaction.lag.ms": "600000"}
        [plan] = [plan for plan in topics.plans(settings) if plan.name == settings.topic("state")]
        with topics.admin(settings) as client:
            planned = {"num_partitions": 1, "replication_factor": 1, "configs": {**plan.config, **uncompacted}}
            client.create_topics({plan.name: planned})
        records, size = asyncio.run(fill(settings, written(options.calls, options.tail)))
        on_disk = sum(path.stat().st_size for path in (folder / "data" / f"{settings.topic('state')}-0").glob("*.log"))
        figures = multiprocessing.get_context("spawn").Pool(1).apply(measure, (settings,))
    figures |= {"calls": options.calls, "records": records, "records_per_s": round(records / figures["seconds"])}
    figures |= {"mb": size // 10**6, "mb_on_disk": on_disk // 10**6}
    assert figures["loaded"] == options.calls * 11 // 10
    print(json.dumps(figures) if options.json else "\n".join(f"{name:<14} {value:,}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
