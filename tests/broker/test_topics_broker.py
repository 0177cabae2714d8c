"""The six topics on real brokers: created once, checked, read to their end; and where a group begins."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import islice

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from streams import topics
from streams.conversation import epoch_ms
from streams.errors import BrokerError, SettingsError, TopicsError
from streams.settings import Settings

from .conftest import Cluster

BEGAN = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(hours=2)


@pytest.fixture
def settings(cluster: Cluster, prefix: str) -> Settings:
    return Settings(cluster.bootstrap, cluster.profile, prefix, group=prefix + "group", partitions=3, replication=1)


@pytest.fixture
def created(settings: Settings) -> Settings:
    with topics.admin(settings) as client:
        topics.create(client, settings)
    return settings


def send(settings: Settings, name: str, *messages: tuple[int, int]) -> None:
    """Partition and minutes after BEGAN of each; they are numbered."""
    with KafkaProducer(bootstrap_servers=settings.bootstrap_servers, batch_size=0) as producer:
        for n, (partition, minutes) in enumerate(messages):
            at = epoch_ms(BEGAN) + minutes * 60_000
            future = producer.send(settings.topic(name), b"%d" % n, b"key", [("h", b"%d" % n)], partition, at)
            future.get(timeout=30)


def test_missing_topics_are_created_and_found_and_there_the_second_time(settings: Settings) -> None:
    with topics.admin(settings) as client:
        assert topics.found(client, settings) == {}
        assert topics.create(client, settings) == [settings.prefix + name for name in topics.NAMES]
        found = topics.found(client, settings)
        assert {name: (f.name, f.partitions) for name, f in found.items()} == {
            name: (settings.prefix + name, 3) for name in topics.NAMES
        }
        assert topics.create(client, settings) == []
        topics.check(found, settings)


def test_only_what_is_missing_is_created(settings: Settings) -> None:
    with topics.admin(settings) as client:
        client.create_topics({settings.topic("segments"): {"num_partitions": 7, "replication_factor": 1}})
        created = topics.create(client, settings)
        assert created == [settings.prefix + name for name in topics.NAMES if name != "segments"]
        assert topics.found(client, settings)["segments"].partitions == 7


def test_a_topic_that_was_deleted_and_created_again_has_another_id(created: Settings) -> None:
    with topics.admin(created) as client:
        before = topics.found(client, created)["segments"].topic_id
        client.delete_topics([created.topic("segments")])
        topics.create(client, created)
        after = topics.found(client, created)["segments"].topic_id
    assert before != after


def test_missing_topics_are_refused_by_name_with_the_way_out(created: Settings) -> None:
    with topics.admin(created) as client:
        found = topics.found(client, created)
    del found["alerts"]
    with pytest.raises(TopicsError, match=f"missing topics: {created.prefix}alerts. Run `callpulse topics create`"):
        topics.check(found, created)


@pytest.mark.parametrize("odd", ["sentiment", "state", "alerts", "summaries"])
def test_judged_topics_with_different_numbers_of_partitions_are_refused(settings: Settings, odd: str) -> None:
    with topics.admin(settings) as client:
        client.create_topics({settings.topic(odd): {"num_partitions": 2, "replication_factor": 1}})
        topics.create(client, settings)
        with pytest.raises(TopicsError, match=f"'{settings.prefix}{odd}': 2.*new --prefix"):
            topics.check(topics.found(client, settings), settings)


@pytest.mark.parametrize("odd", ["segments", "rejected"])
def test_input_and_rejected_may_have_any_number_of_partitions(settings: Settings, odd: str) -> None:
    with topics.admin(settings) as client:
        client.create_topics({settings.topic(odd): {"num_partitions": 2, "replication_factor": 1}})
        topics.create(client, settings)
        topics.check(topics.found(client, settings), settings)


def test_the_state_is_compacted_and_rejections_are_kept_for_days(created: Settings) -> None:
    if created.broker == "embedded":
        pytest.skip("the embedded broker keeps no configuration")
    state, rejected = (config_of(created, name) for name in ("state", "rejected"))
    assert state["cleanup.policy"] == "compact"
    assert state["compression.type"] == "zstd"
    assert state["segment.bytes"] == str(32 * 1024 * 1024)
    assert state["max.compaction.lag.ms"] == "600000"
    assert rejected == {"retention.ms": str(3 * 24 * 3600 * 1000)}


def config_of(settings: Settings, name: str) -> dict[str, str]:
    """What differs from the broker's defaults."""
    topic = settings.topic(name)
    with topics.admin(settings) as client:
        described = client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic, None)])
    return {key: found["value"] for key, found in described["topic"][topic].items()}


@pytest.mark.parametrize(("start", "offsets"), [("earliest", {0: 0, 1: 0, 2: 0}), ("latest", {0: 2, 1: 1, 2: 0})])
def test_a_group_begins_once_where_it_is_told(created: Settings, start: str, offsets: dict[int, int]) -> None:
    send(created, "segments", (0, 0), (0, 10), (1, 5))
    told = Settings(**{name: getattr(created, name) for name in ("bootstrap_servers", "broker", "prefix")}, start=start)
    group, topic = created.group, created.topic("segments")
    assert topics.begin(told, group, topic) == offsets
    assert committed(created, group, topic) == offsets
    send(created, "segments", (2, 20))
    assert topics.begin(told, group, topic) == {}
    assert committed(created, group, topic) == offsets


def committed(settings: Settings, group: str, topic: str) -> dict[int, int]:
    reader = topics.consumer(settings, group)
    try:
        return {partition: reader.committed(TopicPartition(topic, partition)) for partition in range(3)}
    finally:
        reader.close()


def test_a_group_begins_at_the_first_record_of_a_time(created: Settings) -> None:
    if created.broker == "embedded":
        pytest.skip("the embedded broker finds no offsets by time")
    send(created, "segments", (0, 0), (0, 10), (0, 20), (1, 5))
    reader = topics.consumer(created)
    places = [TopicPartition(created.topic("segments"), partition) for partition in range(3)]
    try:
        found = [
            [topics.start_offsets(reader, places, start)[place] for place in places]
            for start in (after(600).replace("+00:00", "Z"), after(1, timezone(timedelta(hours=9))), after(3600))
        ]
    finally:
        reader.close()
    assert found == [[1, 1, 0], [1, 0, 0], [3, 1, 0]]


def after(seconds: int, zone: timezone = timezone.utc) -> str:
    return (BEGAN + timedelta(seconds=seconds)).astimezone(zone).isoformat()


@pytest.mark.parametrize("start", ["yesterday", "2026-01-31T12:00:00", ""])
def test_a_start_that_is_no_time_is_refused(created: Settings, start: str) -> None:
    told = Settings(created.bootstrap_servers, created.broker, created.prefix, start=start)
    with pytest.raises(SettingsError, match="neither latest, earliest nor an RFC 3339 time"):
        topics.begin(told, created.group, created.topic("segments"))
    assert committed(created, created.group, created.topic("segments")) == {0: None, 1: None, 2: None}


def test_a_tail_ends_where_the_topic_ended(created: Settings) -> None:
    send(created, "alerts", (0, 0), (2, 1), (0, 2))
    records = sorted(topics.tail(created, created.topic("alerts"), follow=False), key=lambda record: record.value or b"")
    began = epoch_ms(BEGAN)
    assert [(r.partition, r.offset, r.timestamp - began, r.key, r.value, r.headers) for r in records] == [
        (0, 0, 0, b"key", b"0", (("h", b"0"),)),
        (2, 0, 60_000, b"key", b"1", (("h", b"1"),)),
        (0, 1, 120_000, b"key", b"2", (("h", b"2"),)),
    ]


def test_the_tail_of_an_empty_topic_is_empty(created: Settings) -> None:
    assert list(topics.tail(created, created.topic("alerts"), follow=False)) == []


def test_a_tail_that_follows_goes_on_with_what_comes(created: Settings) -> None:
    send(created, "alerts", (1, 0))
    following = topics.tail(created, created.topic("alerts"), follow=True)
    assert next(following).timestamp == epoch_ms(BEGAN)
    send(created, "alerts", (2, 7), (2, 8))
    assert [record.timestamp - epoch_ms(BEGAN) for record in islice(following, 2)] == [7 * 60_000, 8 * 60_000]
    close(following)


def close(following: Iterator[object]) -> None:
    following.close()  # type: ignore[attr-defined]


def test_the_tail_of_a_missing_topic_is_an_error_and_creates_nothing(settings: Settings) -> None:
    with pytest.raises(TopicsError, match=r"no topic .*run `callpulse topics create`"):
        next(topics.tail(settings, settings.topic("alerts"), follow=False))
    with topics.admin(settings) as client:
        assert settings.topic("alerts") not in client.list_topics()


@pytest.mark.parametrize("nobody", ["127.0.0.1:1", "127.0.0.1", "nowhere.invalid:9092", "127.0.0.1:port"])
def test_no_broker_is_an_error_with_the_way_out(nobody: str) -> None:
    way_out = r"no Kafka broker answers at .*--bootstrap-servers or CALLPULSE_BOOTSTRAP_SERVERS"
    with pytest.raises(BrokerError, match=way_out), topics.admin(Settings(nobody)):
        pass


def test_one_server_of_the_list_is_enough(settings: Settings) -> None:
    two = Settings(f"127.0.0.1:1,{settings.bootstrap_servers}", settings.broker, settings.prefix)
    topics.reach(two)
    with pytest.raises(BrokerError):
        topics.reach(Settings("127.0.0.1:1,127.0.0.1:2"))
