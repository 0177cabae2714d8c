"""The whole stream as the benches run it: calls to send, a worker of its own process, and how far it is."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from kafka import KafkaProducer, TopicPartition
from msgspec.structs import replace

from streams import topics
from streams.recording import read
from streams.records import Record, Scored
from streams.settings import PROFILES, Settings, listed, variable
from streams.wire import decode_scored

CALLS = Path(__file__).parents[2] / "streams" / "calls"
WORKER = (sys.executable, "-m", "streams", "worker")
POLL_S = 0.05
LIVE, TURNS = 100, 30  # calls that are live at a time, and the customer's turns in each


class StreamError(Exception):
    """The worker has stopped by itself."""


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


def turns_of(texts: Sequence[str], messages: int) -> list[Record]:
    """Customers' turns with these texts, over and over: LIVE calls speak in turn, and after TURNS turns come the next ones."""
    return [_turn(number, texts[number % len(texts)]) for number in range(messages)]


def _turn(number: int, text: str) -> Record:
    block, place = divmod(number, LIVE * TURNS)
    turn, call = divmod(place, LIVE)
    call_id, start_ms = f"bench-{block}-{call}", turn * 10_000
    said = {"call_id": call_id, "segment_id": str(turn), "speaker": "customer", "text": text}
    value = json.dumps(said | {"start_ms": start_ms, "end_ms": start_ms + 4000}, ensure_ascii=False)
    return Record("", 0, number, 0, call_id.encode(), value.encode())


@dataclass(frozen=True, slots=True)
class Streamed:
    """A run over a backlog. It is timed from the end of the worker's first scored batch, and without that batch, to the last
    judged and committed message, so that its start does not count; times in seconds since 1970."""

    begun: float
    ended: float
    messages: int

    @property
    def seconds(self) -> float:
        return self.ended - self.begun

    @property
    def per_s(self) -> float:
        return self.messages / self.seconds


def streamed(
    settings: Settings,
    messages: int,
    command: Sequence[str] = WORKER,
    seen: Callable[[int], None] = lambda _: None,
    environment: dict[str, str] | None = None,
) -> Streamed:
    """A worker's run over so many messages that lie in calls.segments; `seen` hears how many are judged and committed. Raises
    StreamError."""
    with worker(settings, command, environment) as process:
        judged(settings, messages, process, seen)
        ended = time.time()
    scored_s = Counter(scored_at(settings))
    begun, first = min(scored_s.items())
    return Streamed(begun, ended, messages - first)


def stream_per_second(settings: Settings, records: list[Record], command: Sequence[str] = WORKER) -> float:
    """Messages per second of a worker, which finds them in its topic."""
    prepare(settings, records)
    return streamed(settings, len(records), command).per_s


def prepare(settings: Settings, records: Sequence[Record]) -> None:
    """The six topics, and the records in calls.segments."""
    with topics.admin(settings) as client:
        topics.create(client, settings)
    load(settings, records)


def judged(
    settings: Settings, count: int, process: subprocess.Popen[bytes], seen: Callable[[int], None] = lambda _: None
) -> None:
    """Returns when the worker has judged and committed so many messages. Raises StreamError where it stops before."""
    with closing(topics.consumer(settings, f"{settings.group}-judge")) as reader:
        places = [TopicPartition(settings.topic("sentiment"), p) for p in range(settings.partitions)]
        while (done := sum(reader.committed(place) or 0 for place in places)) < count:
            if process.poll() is not None:
                raise StreamError("the worker stopped; run `callpulse doctor`")
            seen(done)
            time.sleep(POLL_S)
        seen(done)


def scored(settings: Settings) -> Iterator[Scored]:
    """All that lies in calls.sentiment."""
    for record in topics.tail(settings, settings.topic("sentiment"), follow=False):
        turn = decode_scored(record.value)
        assert isinstance(turn, Scored)
        yield turn


def scored_at(settings: Settings) -> Iterator[float]:
    """When each message was scored, in seconds since 1970."""
    return (turn.scored_at.timestamp() for turn in scored(settings))


def load(settings: Settings, records: Sequence[Record]) -> None:
    one = PROFILES[settings.broker].batch_records == 1
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers, **({"batch_size": 0} if one else {"linger_ms": 20}))
    for record in records:
        producer.send(settings.topic("segments"), key=record.key, value=record.value)
    producer.flush()
    producer.close()


@contextmanager
def worker(
    settings: Settings, command: Sequence[str] = WORKER, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    given = {variable(f.name): str(getattr(settings, f.name)) for f in listed()}
    process = subprocess.Popen(command, env=os.environ | (environment or {}) | given, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)
