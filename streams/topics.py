"""The six topics: what they should be, what they are, and where a group that never ran begins. kafka-python, blocking."""

import socket
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import CommitFailedError, KafkaError, TopicAlreadyExistsError, TopicAuthorizationFailedError
from kafka.structs import OffsetAndMetadata

from streams import access, security
from streams.conversation import read_ms
from streams.errors import AccessError, BrokerError, CallpulseError, SettingsError, TopicsError
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
    """calls.state is compacted, in small segments so that compaction keeps up; calls.rejected is kept for days only. With three
    replicas or more, two must have a record before it counts as delivered: one alone may die with it."""
    safe = {"min.insync.replicas": "2"} if settings.replication >= 3 else {}
    config = {
        "state": {
            "cleanup.policy": "compact",
            "compression.type": "zstd",
            "segment.bytes": str(32 << 20),
            "min.cleanable.dirty.ratio": "0.1",
            "max.compaction.lag.ms": "600000",
            "delete.retention.ms": "86400000",
        },
        "rejected": {"retention.ms": str(int(settings.rejected_days * 86_400_000))},
    }
    return [Plan(settings.topic(n), settings.partitions, settings.replication, config.get(n, {}) | safe) for n in NAMES]


@contextmanager
def admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    """A connected admin client; raises BrokerError, with the way out, when there is no broker."""
    reach(settings)
    try:
        client = KafkaAdminClient(**security.client(settings), request_timeout_ms=10_000)
    except (KafkaError, ValueError, OSError) as error:
        raise unreachable(settings, error) from error
    try:
        yield client
    finally:
        client.close()


def reach(settings: Settings) -> None:
    """Raises BrokerError unless one of the bootstrap servers takes a connection and, where that is asked for, lets us in."""
    refused: Exception = ValueError("no address")
    for address in settings.bootstrap_servers.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
            if settings.security_protocol != "PLAINTEXT":
                access.probe(settings, host.strip("[]"), int(port))
            return
        except (OSError, ValueError, BrokerError) as error:
            refused = error
    raise refused if isinstance(refused, BrokerError) else unreachable(settings, refused) from refused


def unreachable(settings: Settings, error: Exception) -> BrokerError:
    if isinstance(error, KafkaError):  # something listens there
        return BrokerError(
            f"no Kafka broker answers at {settings.bootstrap_servers} over {settings.security_protocol} ({error}). See that "
            "--security-protocol or CALLPULSE_SECURITY_PROTOCOL is the listener's"
        )
    return BrokerError(
        f"no Kafka broker answers at {settings.bootstrap_servers} ({type(error).__name__}: {error}). Start one, or name "
        "another with --bootstrap-servers or CALLPULSE_BOOTSTRAP_SERVERS; `callpulse demo` brings its own"
    )


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as it is. `topic_id` differs after a topic was deleted and created again; the name where brokers have no ids.
    `allowed` is what we may do to it (READ, WRITE, ...), empty where brokers do not tell."""

    name: str
    topic_id: str
    partitions: int
    allowed: frozenset[str] = frozenset()


def found(client: KafkaAdminClient, settings: Settings) -> dict[str, Found]:
    """Those of the six that exist, by short name. Raises AccessError where one is only hidden from us."""
    existing = set(client.list_topics())
    names = {settings.topic(name): name for name in NAMES if settings.topic(name) in existing}
    refuse_hidden(client, settings, {settings.topic(name) for name in NAMES} - names.keys())
    described = client.describe_topics(list(names)) if names else []
    return {names[t["name"]]: _found(t) for t in described}


def _found(t: Mapping[str, Any]) -> Found:
    allowed = frozenset(t.get("authorized_operations") or ())
    return Found(t["name"], str(t.get("topic_id") or t["name"]), len(t["partitions"]), allowed)


def refuse_hidden(client: KafkaAdminClient, settings: Settings, names: Iterable[str]) -> None:
    """Raises AccessError where topics that are not listed are not missing: brokers leave out what one may not see. (The
    embedded broker hides nothing, and would create what is asked for.)"""
    unlisted = sorted(names) if settings.broker == "kafka" else []
    described = client.describe_topics(unlisted) if unlisted else []
    hidden = [t["name"] for t in described if t["error_code"] == TopicAuthorizationFailedError.errno]
    if hidden:
        raise AccessError(access.lacking(("Describe", "topic", name) for name in hidden))


def missing(settings: Settings, name: str, flags: str) -> CallpulseError:
    """The error for a topic that is not listed: it is not there, or hidden from us."""
    try:
        with admin(settings) as client:
            refuse_hidden(client, settings, [name])
    except AccessError as error:
        return error
    return TopicsError(f"no topic {name}: run `callpulse topics create`, or name another with {flags}")


def permit(topics: Mapping[str, Found], score: bool = True, judge: bool = True) -> None:
    """Raises AccessError with all that a worker's agents lack, so that it does not fail at its first alert only."""
    roles = [access.SCORER] * score + [access.JUDGE] * judge
    needed = {(operation, topics[name]) for role in roles for name in role for operation in role[name]}
    lacked = [(o, "topic", topic.name) for o, topic in needed if topic.allowed and o.upper() not in topic.allowed]
    if lacked:
        raise AccessError(access.lacking(lacked))


def create(client: KafkaAdminClient, settings: Settings) -> list[str]:
    """Creates what is missing and returns the names of what it has created, once the topics can be used."""
    existing = {topic.name for topic in found(client, settings).values()}
    created = []
    for plan in (plan for plan in plans(settings) if plan.name not in existing):
        wanted = {"num_partitions": plan.partitions, "replication_factor": plan.replication, "configs": dict(plan.config)}
        try:
            client.create_topics({plan.name: wanted})
        except TopicAlreadyExistsError:
            continue  # another was faster, and not every broker had heard of it
        except TopicAuthorizationFailedError as error:
            raise AccessError(access.lacking([("Create", "topic", plan.name)])) from error
        except KafkaError as error:
            raise TopicsError(f"topic {plan.name} cannot be created: {error}") from error
        created.append(plan.name)
    _await_topics(client, settings)
    return created


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
        **security.client(settings),
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
    return _at_time(reader, places, _start_ms(start), ends)


def offsets_since(settings: Settings, name: str, at_ms: int) -> dict[int, int]:
    """The first offset of each partition of a topic at or after a time (ms since 1970); the end where there is none."""
    reader = consumer(settings)
    try:
        places = [TopicPartition(name, partition) for partition in sorted(reader.partitions_for_topic(name) or ())]
        found = _at_time(reader, places, at_ms, reader.end_offsets(places))
        return {place.partition: offset for place, offset in found.items()}
    finally:
        reader.close()


def _at_time(
    reader: Any, places: Sequence[TopicPartition], at_ms: int, ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    at = reader.offsets_for_times(dict.fromkeys(places, at_ms))
    return {place: at[place].offset if at.get(place) else ends[place] for place in places}


def _start_ms(start: str) -> int:
    try:
        return read_ms(start)
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"--start: {start!r} is neither latest, earliest nor an RFC 3339 time such as 2026-01-31T09:00:00Z"
        ) from error


def tail(settings: Settings, name: str, follow: bool, begin: Mapping[int, int] | None = None) -> Generator[Record, None, None]:
    """The records of a topic from its beginning; ends where the topic ended when it began to read, or never with `follow`.
    `begin` gives the partitions to read, with the offsets to begin at."""
    reader = consumer(settings)
    try:
        partitions = sorted(reader.partitions_for_topic(name) or ())
        if not partitions:
            raise missing(settings, name, "--prefix")
        places = [TopicPartition(name, partition) for partition in partitions if begin is None or partition in begin]
        ends = reader.end_offsets(places)
        reader.assign(places)
        if begin is None:
            reader.seek_to_beginning(*places)
        else:
            for place in places:
                reader.seek(place, begin[place.partition])
        while follow or any(reader.position(place) < ends[place] for place in places):
            for messages in reader.poll(timeout_ms=POLL_MS).values():
                yield from map(_record, messages)
    finally:
        reader.close()


def _record(m: Any) -> Record:
    return Record(m.topic, m.partition, m.offset, m.timestamp, m.key, m.value, tuple(m.headers))
