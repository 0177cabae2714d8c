"""Replays against real brokers: what arrives, when it is sent, and how a replay ends when it cannot go on."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kafka import TopicPartition
from msgspec.structs import replace

from streams import topics
from streams.broker import embedded
from streams.errors import DeliveryError, RecordingError, TopicsError
from streams.recording import read
from streams.records import Record
from streams.replay import STOP_S, Planned, Replay, Sent, Wall, fresh_ids, merge, send
from streams.settings import Settings
from streams.wire import partition_of

from .conftest import Cluster

CALLS = Path(__file__).parent.parent.parent / "streams" / "calls"
AT_ONCE = Replay(speed=0)
PATIENCE = 30.0


@pytest.fixture
def settings(cluster: Cluster, prefix: str) -> Settings:
    """The six topics exist under a prefix of their own."""
    return ready(Settings(cluster.bootstrap, cluster.profile, prefix, replication=1))


def ready(settings: Settings) -> Settings:
    with topics.admin(settings) as client:
        topics.create(client, settings)
    return settings


@dataclass(slots=True)
class FakeWall:
    """Time passes by sleeping only; `interrupt` after that many sleeps."""

    time_s: float = field(default_factory=time.time)
    slept: list[float] = field(default_factory=list)
    interrupt: int = -1

    def wall(self) -> Wall:
        return Wall(lambda: self.time_s, self.sleep)

    def sleep(self, seconds: float) -> None:
        if len(self.slept) == self.interrupt:
            raise KeyboardInterrupt
        self.slept.append(seconds)
        self.time_s += seconds


def arrived(settings: Settings, count: int, name: str = "segments") -> list[Record]:
    """Everything in a topic once there is as much as expected, by partition and offset."""
    with topics.consumer(settings) as consumer:
        places = [TopicPartition(settings.topic(name), p) for p in range(settings.partitions)]
        consumer.assign(places)
        consumer.seek_to_beginning()
        got: list[Record] = []
        deadline = time.monotonic() + PATIENCE
        while len(got) < count or any(consumer.position(p) < consumer.end_offsets([p])[p] for p in places):
            assert time.monotonic() < deadline, f"{len(got)} of {count} messages"
            got += [
                Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
                for batch in consumer.poll(timeout_ms=100).values()
                for r in batch
            ]
    return sorted(got, key=lambda r: (r.partition, r.offset))


def record(n: int, **fields: object) -> Record:
    return replace(Record("segments", 0, n, n * 1000, b"c", b'{"call_id":"c","n":%d}' % n), **fields)  # type: ignore[arg-type]


def test_calls_arrive_complete_in_order_at_the_partition_of_their_key(settings: Settings) -> None:
    paths = sorted(CALLS.glob("*.jsonl"))
    expected = [r for path in paths for r in read(path)]
    began = int(time.time() * 1000)
    sent = send(settings, merge([read(path) for path in paths], stagger_s=5), AT_ONCE)
    got = arrived(settings, len(expected))
    assert (sent.messages, sent.calls) == (len(expected), len(paths))
    for path in paths:
        key, recorded = path.stem.encode(), list(read(path))
        mine = [r for r in got if r.key == key]
        assert [r.value for r in mine] == [r.value for r in recorded]
        assert {r.partition for r in mine} == {partition_of(path.stem, settings.partitions)}
        gaps = [r.timestamp - mine[0].timestamp for r in mine]
        assert gaps == [r.timestamp - recorded[0].timestamp for r in recorded]
    assert began <= min(r.timestamp for r in got) <= began + PATIENCE * 1000


def test_headers_and_bytes_arrive_as_they_were_recorded(settings: Settings) -> None:
    odd = [
        record(0, headers=(("a", b"\xff"), ("a", b"2"), ("b", None))),
        record(1, value=b"\x00\xff not json"),
        record(2, value=None),
        record(3, value=None, key=None),
        record(4, key=None),
    ]
    send(settings, odd, AT_ONCE)
    got = {r.timestamp: r for r in arrived(settings, len(odd))}
    first = min(got)
    assert got[first].headers == (("a", b"\xff"), ("a", b"2"), ("b", b""))
    assert [got[first + n * 1000].value for n in range(5)] == [r.value for r in odd]
    assert [got[first + n * 1000].key for n in range(5)] == [b"c", b"c", b"c", b"", None]


def test_each_record_is_sent_when_it_is_due_and_reported(settings: Settings) -> None:
    clock, seen = FakeWall(time_s=1_700_000_000.0), []

    def on_sent(planned: Planned, wall_s: float) -> None:
        seen.append((planned.record.offset, planned.due_s, wall_s - 1_700_000_000.0))

    recorded = [record(0), record(4), record(2), record(10)]
    sent = send(settings, recorded, Replay(speed=8, fresh=fresh_ids("x")), on_sent, clock.wall())
    assert seen == [(0, 0, 0), (4, 0.5, 0.5), (2, 0.5, 0.5), (10, 1.25, 1.25)]
    assert clock.slept == [0.5, 0.75]
    assert sent == Sent(messages=4, calls=1, seconds=1.25)
    got = arrived(settings, 4)
    assert [r.timestamp - 1_700_000_000_000 for r in got] == [0, 4000, 2000, 10_000]
    assert {r.key for r in got} == {b"c-x"}


def test_another_recorded_topic_keeps_its_name_unless_one_is_given(settings: Settings) -> None:
    recorded = [record(0, topic="elsewhere.sentiment")]
    send(settings, recorded, AT_ONCE)
    assert len(arrived(settings, 1, "sentiment")) == 1
    send(settings, recorded, Replay(speed=0, topic=settings.topic("rejected")))
    assert len(arrived(settings, 1, "rejected")) == 1
    assert len(arrived(settings, 1, "sentiment")) == 1


def test_a_missing_topic_is_an_error_before_anything_is_sent_and_is_not_created(cluster: Cluster, prefix: str) -> None:
    absent = Settings(cluster.bootstrap, cluster.profile, prefix)
    reported: list[Planned] = []
    with pytest.raises(TopicsError, match="callpulse topics create"):
        send(absent, [record(0)], AT_ONCE, lambda planned, _: reported.append(planned))
    assert reported == []
    with topics.admin(absent) as client:
        assert topics.found(client, absent) == {}


def test_an_interrupt_stops_at_once_and_what_was_sent_before_is_delivered(settings: Settings) -> None:
    clock = FakeWall(interrupt=2)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        send(settings, map(record, range(100)), Replay(), wall=clock.wall())
    assert time.monotonic() - began < STOP_S + PATIENCE / 2
    assert len(arrived(settings, 3)) == 3


@pytest.mark.parametrize("last_ms", [0, 3_600_000])
def test_a_loop_plays_again_under_fresh_ids_until_it_is_told_to_stop(settings: Settings, tmp_path: Path, last_ms: int) -> None:
    """Told so between two rounds, or amid one that would go on for an hour."""
    call = tmp_path / "call.jsonl"
    turns = [
        {"call_id": "c", "speaker": "customer", "text": "hello", "start_ms": ms} for ms in [0, last_ms][: 1 + bool(last_ms)]
    ]
    call.write_text("".join(f"{json.dumps(turn)}\n" for turn in turns))
    wanted = 1 if last_ms else 3
    named = ("--bootstrap-servers", settings.bootstrap_servers, "--broker", settings.broker, "--prefix", settings.prefix)
    command = [sys.executable, "-m", "streams", "replay", str(call), "--loop", *named]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            keys = [record.key for record in arrived(settings, wanted)]
            process.terminate()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    assert len(set(keys)) == len(keys) >= wanted


CHILD = """
import gc, sys, threading
from streams.recording import read
from streams.replay import Replay, send
from streams.settings import Settings
try:
    settings = Settings(sys.argv[1], "embedded", sys.argv[2])
    send(settings, read(sys.argv[3]), Replay(speed=20), lambda _, wall_s: print(wall_s, flush=True))
except KeyboardInterrupt:
    gc.collect()
    sys.exit(f"stopped, {threading.active_count()} thread left")
"""


def test_ctrl_c_stops_at_once_though_the_broker_is_gone(prefix: str) -> None:
    with ExitStack() as cleanup, ExitStack() as broker:
        bootstrap = broker.enter_context(embedded(announce=lambda _: None))
        ready(Settings(bootstrap, "embedded", prefix))
        command = [sys.executable, "-c", CHILD, bootstrap, prefix, str(CALLS / "en-resolved.jsonl")]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        cleanup.callback(child.kill)
        assert child.stdout is not None
        child.stdout.readline()
        broker.close()
        gone = time.time()
        while float(child.stdout.readline()) < gone:
            pass  # sent before
        child.send_signal(signal.SIGINT)
        began = time.monotonic()
        errors = child.communicate(timeout=PATIENCE)[1]
    assert time.monotonic() - began < 3 * STOP_S
    assert errors.endswith("stopped, 1 thread left\n")
    assert "Exception ignored" not in errors


def test_a_recording_that_breaks_off_delivers_what_came_before(settings: Settings) -> None:
    def broken() -> Iterator[Record]:
        yield record(0)
        raise RecordingError("line 2")

    with pytest.raises(RecordingError, match="line 2"):
        send(settings, broken(), AT_ONCE)
    assert len(arrived(settings, 1)) == 1


def test_a_record_that_is_too_large_is_an_error_that_names_it(settings: Settings) -> None:
    with pytest.raises(DeliveryError, match="partition 0, offset 1 was not delivered"):
        send(settings, [record(0), record(1, value=b"x" * (2 << 20))], AT_ONCE)


def test_a_record_too_far_ahead_of_the_clock_is_an_error_with_the_way_out(settings: Settings) -> None:
    if settings.broker == "embedded":
        pytest.skip("the embedded broker takes any time")
    day = 86_400
    with pytest.raises(DeliveryError, match=r"offset 86400 .* raise message\.timestamp\.after\.max\.ms"):
        send(settings, [*map(record, range(1000)), record(day)], AT_ONCE)
