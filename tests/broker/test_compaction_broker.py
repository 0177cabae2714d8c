"""What compaction leaves of calls.state on Apache Kafka, under the topic's own settings but for the times that a test waits."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from builders import T0, event, scored
from kafka.admin import ConfigResource, ConfigResourceType

from streams import topics
from streams.conversation import DAY_MS, Limits
from streams.errors import TopicsError
from streams.outcome import Outcome
from streams.pipeline import Calls
from streams.publisher import Outgoing, Transactions
from streams.records import Record, Scored
from streams.settings import Settings
from streams.state import load
from streams.wire import POSITIONS_KEY, encode

from .apache import apache_kafka
from .running import until

SOON = {"max.compaction.lag.ms": "500", "delete.retention.ms": "500"}
LIMITS = Limits(voice_silence_ms=30 * DAY_MS)


@pytest.fixture(scope="module")
def bootstrap(kafka_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node of its own, whose cleaner is always at work."""
    with apache_kafka(kafka_home, tmp_path_factory.mktemp("kafka"), "log.cleaner.backoff.ms=100\n") as node:
        yield node.bootstrap


@pytest.fixture
def settings(bootstrap: str, prefix: str) -> Settings:
    """The six topics; calls.state waits for no time worth mentioning."""
    silence_s = LIMITS.voice_silence_ms / 1000
    made = Settings(bootstrap, prefix=prefix, partitions=1, replication=1, voice_silence_s=silence_s)
    with topics.admin(made) as client:
        topics.create(client, made)
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, made.topic("state"), SOON)])
    return made


class Judge:
    """Calls, and what judging them gave to be stored, batch by batch."""

    def __init__(self) -> None:
        self.calls, self.outcomes = Calls(LIMITS, 1), list[Outcome]()

    def judge(self, turns: Sequence[Scored]) -> None:
        self.outcomes.append(Outcome())
        for turn in turns:
            assert self.calls.judge(turn, self.outcomes[-1]) is None

    def tick(self, at_ms: int) -> None:
        self.outcomes.append(Outcome())
        self.calls.tick({"topic:0": at_ms}, self.outcomes[-1])


def days() -> Judge:
    """Twelve calls talk; c0 to c3 end, and their markers go a day later; then c4 to c7 end; the others live on."""
    judge = Judge()
    for n in range(0, 240, 12):
        judge.judge([scored(n + i, i % 3 - 1, call_id=f"c{i}", timestamp=T0) for i in range(12)])
    judge.judge([event(240 + i, "end", call_id=f"c{i}", timestamp=T0) for i in range(4)])
    judge.tick(T0 + DAY_MS)
    judge.tick(T0 + 3 * DAY_MS)
    judge.judge([event(244 + i, "end", call_id=f"c{4 + i}", timestamp=T0 + 3 * DAY_MS) for i in range(4)])
    judge.tick(T0 + 3 * DAY_MS + LIMITS.grace_ms)
    return judge


async def store(settings: Settings, batches: Sequence[Sequence[tuple[bytes, bytes | None]]]) -> None:
    """Each batch in a transaction, as a judge writes it."""
    publisher = Transactions(settings, settings.prefix)
    await publisher.start()
    for batch in batches:
        await publisher.publish([Outgoing(settings.topic("state"), 0, key, value) for key, value in batch])
    await publisher.stop()


def stored(settings: Settings) -> list[Record]:
    return list(topics.tail(settings, settings.topic("state"), follow=False))


def test_the_live_calls_and_the_closed_markers_are_left_before_compaction_and_after_it(settings: Settings) -> None:
    judge = days()
    positions = (POSITIONS_KEY, encode(judge.calls.positions))
    changed = [[(i.encode(), encode(c) if c else None) for i, c in outcome.changed.items()] for outcome in judge.outcomes]
    asyncio.run(store(settings, [*changed, [positions]]))
    assert [(c.call_id, c.status) for c in sorted(judge.calls.calls.values(), key=lambda c: int(c.call_id[1:]))] == [
        *((f"c{n}", "closed") for n in range(4, 8)),
        *((f"c{n}", "live") for n in range(8, 12)),
    ]

    def compacted() -> bool:
        asyncio.run(store(settings, [[positions]]))  # the segment that is written to is rolled by the next record only
        left = [record for record in stored(settings) if record.key != POSITIONS_KEY]
        return len(left) == len(judge.calls.calls) and all(record.value for record in left)

    for ready in (lambda: True, compacted):
        until(ready, lambda: f"compaction; {len(stored(settings))} records are left")
        loaded = asyncio.run(load(settings, 0, 1))
        assert loaded.calls == judge.calls.calls
        assert (loaded.positions, loaded.next_due()) == (judge.calls.positions, judge.calls.next_due())


def test_a_partition_that_was_written_with_another_number_of_partitions_is_refused(settings: Settings) -> None:
    asyncio.run(store(settings, [[(POSITIONS_KEY, encode(Calls(LIMITS, 3).positions))]]))
    with pytest.raises(TopicsError, match="was written with 3 partitions and now has 1"):
        asyncio.run(load(settings, 0, 1))
