"""Workers as processes of their own, and all that lies in their topics."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from streams import security, topics
from streams.conversation import Positions
from streams.outcome import Outcome
from streams.pipeline import Calls
from streams.records import Alert, Record, Scored, Summary
from streams.rules import load
from streams.settings import KEY_PASSWORD, SASL_PASSWORD, Settings, listed, variable
from streams.wire import POSITIONS_KEY, cloud_event, decode_positions, decode_scored, encode

from .conftest import Cluster
from .messages import Sent, now_ms

PATIENCE = 45.0  # seconds before a condition counts as never met
T = TypeVar("T")
WORKER = (sys.executable, "-m", "streams", "worker")


def until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "\n".join((f"not in {PATIENCE:g} s: {what()}", *(w.log for w in WORKERS)))
        time.sleep(0.01)


RULES = str(Path(__file__).with_name("rules.yaml"))


def own(cluster: Cluster, **given: object) -> Settings:
    """Settings with a prefix and groups that nobody else has, and rules that do not wait for a time."""
    name = uuid.uuid4().hex[:8]
    base = Settings(cluster.bootstrap, cluster.profile, f"t-{name}.", f"g-{name}", replication=1, start="earliest")
    return replace(base, **{"model": "lexicon", "grace_s": 1.0, "web_port": 0, "rules": RULES} | given)  # type: ignore[arg-type]


def environment(settings: Settings) -> dict[str, str]:
    """This process's own, with every setting as its variable; secrets are no settings."""
    ours = {variable(f.name): str(getattr(settings, f.name)) for f in listed()}
    kept = (SASL_PASSWORD, KEY_PASSWORD)
    return {name: value for name, value in os.environ.items() if not name.startswith("CALLPULSE_") or name in kept} | ours


@dataclass
class Worker:
    """A worker's process and what it has said on standard error so far."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def says(self, text: str) -> None:
        """Returns once a line ends in `text`; fails when the worker has ended without it."""

        def said() -> bool:
            ended = self.process.poll() is not None
            found = any(line.endswith(text) for line in self.lines)
            assert found or not ended, f"ended with {self.process.returncode} before it said {text!r}:\n{self.log}"
            return found

        until(said, lambda: repr(text))

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def ends(self) -> int:
        """The exit code, once it has ended and all its lines are here."""
        until(lambda: self.process.poll() is not None, lambda: "the end of the worker")
        self.reader.join(PATIENCE)
        return self.process.returncode

    def stop(self, number: int) -> tuple[int, float]:
        """Sends a signal; the exit code, and the seconds until then."""
        began = time.monotonic()
        self.process.send_signal(number)
        return self.ends(), time.monotonic() - began

    def kill(self) -> None:
        assert self.stop(signal.SIGKILL)[0] == -signal.SIGKILL

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))


WORKERS: list[Worker] = []
"""Those that were started and not yet ended by their context: what they said explains why a condition is not met."""


@contextmanager
def started(settings: Settings, *arguments: str, command: Sequence[str] = WORKER) -> Iterator[Worker]:
    """A worker that may not be ready yet; its whole process group is dead afterwards, whatever happens."""
    with subprocess.Popen(
        [*command, *arguments], env=environment(settings), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        worker = Worker(process)
        WORKERS.append(worker)
        try:
            yield worker
        finally:
            WORKERS.remove(worker)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            worker.reader.join(PATIENCE)


@contextmanager
def running(settings: Settings, *arguments: str, command: Sequence[str] = WORKER) -> Iterator[Worker]:
    """A worker that is ready."""
    with started(settings, *arguments, command=command) as worker:
        worker.says("ready")
        yield worker


class Topics:
    """Everything in the six topics, read as it comes, and a way to put something there."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.records: dict[str, list[Record]] = defaultdict(list)
        with topics.admin(settings) as client:
            # of several brokers, one may hear of a new topic a little later than another
            until(lambda: len(self._find(client)) == len(topics.NAMES), lambda: "all topics")
        self.names = {found.name: name for name, found in self.found.items()}
        self.reader = topics.consumer(settings)
        self.reader.assign([TopicPartition(f.name, p) for f in self.found.values() for p in range(f.partitions)])
        self.reader.seek_to_beginning()
        self.producer = KafkaProducer(**security.client(settings), batch_size=0, acks="all")

    def _find(self, client: KafkaAdminClient) -> dict[str, topics.Found]:
        self.found = topics.found(client, self.settings)
        return self.found

    def close(self) -> None:
        self.producer.close()
        self.reader.close()

    def send(self, messages: Iterable[Sent]) -> None:
        """Puts keys, values and timestamps into calls.segments; returns when all are delivered."""
        name = self.settings.topic("segments")
        sent = [self.producer.send(name, value, key, timestamp_ms=at) for key, value, at in messages]
        for future in sent:
            future.get(timeout=PATIENCE)

    def until(self, condition: Callable[[dict[str, list[Record]]], bool], what: str) -> None:
        """Reads until the condition holds for what has been read."""

        def met() -> bool:
            self.read()
            return condition(self.records)

        until(met, lambda: f"{what}; there are {', '.join(f'{len(r)} {name}' for name, r in self.records.items())}")

    def read(self) -> None:
        """Reads what has come, for at most 50 ms."""
        for messages in self.reader.poll(timeout_ms=50).values():
            for m in messages:
                record = Record(m.topic, m.partition, m.offset, m.timestamp, m.key, m.value, tuple(m.headers))
                self.records[self.names[m.topic]].append(record)

    def read_to_the_end(self) -> None:
        ends = self.reader.end_offsets(self.reader.assignment())
        self.until(lambda _: all(self.reader.position(place) >= end for place, end in ends.items()), "the ends")

    @property
    def scored(self) -> list[list[Scored]]:
        """By partition of calls.sentiment: what lies there, each source position once."""
        first: list[dict[tuple[str, int], Scored]] = [{} for _ in range(self.found["sentiment"].partitions)]
        for record in self.records["sentiment"]:
            scored = decode_scored(record.value)
            assert isinstance(scored, Scored)
            first[record.partition].setdefault((scored.source.lane, scored.source.offset), scored)
        return [list(partition.values()) for partition in first]

    def expected(self) -> "Expected":
        """What the pure pipeline makes of calls.sentiment, when everything has happened that is due by now."""
        outcome, partitions = Outcome(), []
        for scored in self.scored:
            calls = Calls(self.settings.limits, len(self.scored), rules=load(self.settings.rules_path))
            for segment in scored:
                calls.judge(segment, outcome)
            calls.tick(dict.fromkeys(calls.timers, now_ms()), outcome)
            partitions.append(calls)
        return Expected(_by_id(outcome.alerts), _by_id(outcome.summaries), partitions)

    def states(self) -> dict[bytes | None, bytes | None]:
        """The newest state of each call, as it lies on calls.state."""
        return {record.key: record.value for record in self.records["state"] if record.key != POSITIONS_KEY}

    def positions(self) -> dict[int, Positions]:
        """The newest positions by partition."""
        found = [record for record in self.records["state"] if record.key == POSITIONS_KEY]
        return {record.partition: decode_positions(record.value or b"") for record in found}

    def events(self, name: str) -> dict[bytes, bytes]:
        """What lies in calls.alerts or calls.summaries as a consumer has it: by ce_id; a repeat is the same bytes."""
        events: dict[bytes, bytes] = {}
        for record in self.records[name]:
            assert record.value is not None
            assert events.setdefault(header(record, "ce_id"), record.value) == record.value
        return events

    def calls_over(self, count: int) -> None:
        """Returns when so many calls have a summary."""
        self.until(lambda records: len({r.key for r in records["summaries"]}) >= count, f"{count} calls over")


@dataclass(frozen=True, slots=True)
class Expected:
    """Alerts and summaries by ce_id, and the calls of each partition."""

    alerts: dict[bytes, bytes]
    summaries: dict[bytes, bytes]
    calls: list[Calls]

    @property
    def states(self) -> dict[bytes, bytes]:
        return {call_id.encode(): encode(call) for calls in self.calls for call_id, call in calls.calls.items()}

    @property
    def positions(self) -> dict[int, Positions]:
        """Of the partitions that have seen a record."""
        return {partition: calls.positions for partition, calls in enumerate(self.calls) if calls.lanes}


def _by_id(events: Sequence[Alert | Summary]) -> dict[bytes, bytes]:
    return {dict(cloud_event(event))["ce_id"] or b"": encode(event) for event in events}


def header(record: Record, name: str) -> bytes:
    found = dict(record.headers)[name]
    assert found is not None
    return found


@contextmanager
def laid_out(settings: Settings, **partitions: int) -> Iterator[Topics]:
    """The six topics, created; `partitions` gives some of them a number of their own."""
    with topics.admin(settings) as client:
        for name, count in partitions.items():
            client.create_topics({settings.topic(name): {"num_partitions": count, "replication_factor": 1}})
        topics.create(client, settings)
    laid = Topics(settings)
    try:
        yield laid
    finally:
        laid.close()


@contextmanager
def side_by_side(plays: Sequence[Callable[[Cluster], T]], cluster: Cluster) -> Iterator[Callable[[Callable[[Cluster], T]], T]]:
    """Plays all at once, as each mostly waits for a group's session to expire; gives what each of them returned."""
    with ThreadPoolExecutor(len(plays)) as pool:
        played = {play: pool.submit(play, cluster) for play in plays}
        yield lambda play: played[play].result()
