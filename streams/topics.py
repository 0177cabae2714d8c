"""The six topics: what they should be, what they are, and where a group that never ran begins. kafka-python, blocking."""

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import CommitFailedError, KafkaError, TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata

from streams.conversation import epoch_ms
from streams.errors import BrokerError, SettingsError, TopicsError
from streams.records import Record
from streams.settings import Settings

NAMES = ("segments", "sentiment", "state", "alerts", "summaries", "rejected")
REACH_S = 5.0
POLL_MS = 200
JUDGED = ("sentiment", "state", "alerts", "summaries")
"""These are written by the judge of a partition, or read by it: they have one number of partitions."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A topic as it should be created."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)

    def command(self, bootstrap: str) -> str:
        """The same as a line for Kafka's own tool."""
        replicas = f" --replication-factor {self.replication}" if self.replication > 0 else ""
        config = "".join(f" --config {key}={value}" for key, value in self.config.items())
        return (
            f"kafka-topics.sh --bootstrap-server {bootstrap} --create --topic {self.name}"
            f" --partitions {self.partitions}{replicas}{config}"
        )


def plans(settings: Settings) -> list[Plan]:
    """calls.state is compacted, in small segments so that compaction keeps up; calls.rejected is kept for days only."""
    config = {
        "state": {
            "cleanup.policy": "compact",
            "segment.bytes": str(32 << 20),
            "min.cleanable.dirty.ratio": "0.1",
            "max.compaction.lag.ms": "600000",
            "delete.retention.ms": "86400000",
        },
        "rejected": {"retention.ms": str(int(settings.rejected_days * 86_400_000))},
    }
    return [Plan(settings.topic(n), settings.partitions, settings.replication, config.get(n, {})) for n in NAMES]


@contextmanager
def admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    """A connected admin client; raises BrokerError, with the way out, when there is no broker."""
    reach(settings)
    try:
        client = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers.split(","), request_timeout_ms=10_000)
    except (KafkaError, ValueError, OSError) as error:
        raise unreachable(settings, error) from error
    try:
        yield client
    finally:
        client.close()


def reach(settings: Settings) -> None:
    """Raises BrokerError unless one of the bootstrap servers takes a connection."""
    refused: Exception = ValueError("no address")
    for address in settings.bootstrap_servers.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
            return
        except (OSError, ValueError) as error:
            refused = error
    raise unreachable(settings, refused) from refused


def unreachable(settings: Settings, error: Exception) -> BrokerError:
    return BrokerError(
        f"no Kafka broker answers at {settings.bootstrap_servers} ({type(error).__name__}: {error}). Start one, or name "
        "another with --bootstrap-servers or CALLPULSE_BOOTSTRAP_SERVERS; `callpulse demo` brings its own"
    )


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as it is. `topic_id` differs after a topic was deleted and created again; the name where brokers have no ids."""

    name: str
    topic_id: str
    partitions: int


def found(client: KafkaAdminClient, settings: Settings) -> dict[str, Found]:
    """Those of the six that exist, by short name."""
    existing = set(client.list_topics())
    names = {settings.topic(name): name for name in NAMES if settings.topic(name) in existing}
    described = client.describe_topics(list(names)) if names else []
    return {names[t["name"]]: Found(t["name"], str(t.get("topic_id") or t["name"]), len(t["partitions"])) for t in described}


def create(client: KafkaAdminClient, settings: Settings) -> list[str]:
    """Creates what is missing and returns the names; returns when the topics can be used."""
    existing = {topic.name for topic in found(client, settings).values()}
    missing = [plan for plan in plans(settings) if plan.name not in existing]
    for plan in missing:
        wanted = {"num_partitions": plan.partitions, "replication_factor": plan.replication, "configs": dict(plan.config)}
        try:
            client.create_topics({plan.name: wanted})
        except TopicAlreadyExistsError:
            continue  # another worker was faster
        except KafkaError as error:
            raise TopicsError(f"topic {plan.name} cannot be created: {error}") from error
    _await_topics(client, settings)
    return [plan.name for plan in missing]


def _await_topics(client: KafkaAdminClient, settings: Settings, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while len(found(client, settings)) < len(NAMES):
        if time.monotonic() > deadline:
            raise TopicsError(f"the topics of prefix {settings.prefix!r} were created but do not appear")
        time.sleep(0.05)


def check(topics: Mapping[str, Found], settings: Settings) -> None:
    """Raises TopicsError where topics are missing or have numbers of partitions that do not fit together."""
    missing = [settings.topic(name) for name in NAMES if name not in topics]
    if missing:
        raise TopicsError(
            f"missing topics: {', '.join(missing)}. Run `callpulse topics create`, or start the worker with --create-topics"
        )
    counts = {topics[name].name: topics[name].partitions for name in JUDGED}
    if len(set(counts.values())) > 1:
        raise TopicsError(
            f"these topics must have one number of partitions: {counts}. Let the worker drain, then start afresh with a "
            "new --prefix and `callpulse topics create`"
        )


def consumer(settings: Settings, group: str | None = None) -> KafkaConsumer:
    """A consumer that reads committed records and commits nothing by itself."""
    return KafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers.split(","),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )


def begin(settings: Settings, group: str, topic: str) -> dict[int, int]:
    """Commits where a `group` that never ran begins, on every partition; returns what was committed.

    `--start` is resolved here, once: later starts go on from what is committed, and a partition that was added since is
    read from its beginning, so nothing is skipped.
    """
    reader = consumer(settings, group)
    try:
        places = [TopicPartition(topic, p) for p in sorted(reader.partitions_for_topic(topic) or ())]
        if any(reader.committed(place) is not None for place in places):
            return {}
        offsets = start_offsets(reader, places, settings.start)
        reader.commit({place: OffsetAndMetadata(offset, "", -1) for place, offset in offsets.items()})
        return {place.partition: offset for place, offset in offsets.items()}
    except CommitFailedError:
        return {}  # another worker of the group was faster, and runs already
    finally:
        reader.close()


def start_offsets(reader: Any, places: Sequence[TopicPartition], start: str) -> dict[TopicPartition, int]:
    """latest, earliest, or the first offset at or after an RFC 3339 time (the end where there is none)."""
    if start == "earliest":
        return dict(reader.beginning_offsets(places))
    ends = dict(reader.end_offsets(places))
    if start == "latest":
        return ends
    at = reader.offsets_for_times(dict.fromkeys(places, _start_ms(start)))
    return {place: at[place].offset if at.get(place) else ends[place] for place in places}


def _start_ms(start: str) -> int:
    try:
        return epoch_ms(datetime.fromisoformat(start.replace("Z", "+00:00")))
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"--start: {start!r} is neither latest, earliest nor an RFC 3339 time such as 2026-01-31T09:00:00Z"
        ) from error


def tail(settings: Settings, name: str, follow: bool) -> Iterator[Record]:
    """The records of a topic from its beginning; ends where the topic ended when it began to read, or never with `follow`."""
    reader = consumer(settings)
    try:
        places = [TopicPartition(name, partition) for partition in sorted(reader.partitions_for_topic(name) or ())]
        if not places:
            raise TopicsError(f"no topic {name}: run `callpulse topics create`, or name another with --prefix")
        ends = reader.end_offsets(places)
        reader.assign(places)
        reader.seek_to_beginning(*places)
        while follow or any(reader.position(place) < ends[place] for place in places):
            for messages in reader.poll(timeout_ms=POLL_MS).values():
                yield from map(_record, messages)
    finally:
        reader.close()


def _record(m: Any) -> Record:
    return Record(m.topic, m.partition, m.offset, m.timestamp, m.key, m.value, tuple(m.headers))
