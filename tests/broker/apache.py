"""One node of Apache Kafka for the tests, from a download that KAFKA_HOME names; it can be restarted and killed."""

import base64
import os
import random
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from streams.broker import answers, stop

START_TIMEOUT = 60.0  # seconds; about 3 on a quiet machine
STOP_TIMEOUT = 20.0

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
"""

THREE = """
node.id={n}
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
"""


@dataclass(slots=True)
class Node:
    """A formatted node: broker and controller in one process, always on the same ports and the same data."""

    home: Path
    folder: Path
    bootstrap: str
    cluster_id: str
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it and wait until it answers. Raises RuntimeError with the end of its log."""
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.home / "bin/kafka-server-start.sh", self.folder / "server.properties"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(self.folder),
                start_new_session=True,  # Ctrl-C ends the tests, which then stop it
            )
        if not answers(self.process, self.bootstrap, self.cluster_id, time.monotonic() + START_TIMEOUT):
            self.kill()
            raise RuntimeError(f"Kafka did not start:\n{(self.folder / 'server.log').read_text()[-4000:]}")

    def stop(self) -> None:
        """An orderly end; does nothing when it does not run."""
        self._end(STOP_TIMEOUT)

    def kill(self) -> None:
        """SIGKILL: no farewell to anybody, nothing flushed; does nothing when it does not run."""
        if self.process is not None:
            self.process.kill()
        self._end(STOP_TIMEOUT)

    def _end(self, patience: float) -> None:
        if self.process is not None:
            stop(self.process, patience)
            self.process = None


@contextmanager
def apache_kafka(home: Path, folder: Path, extra: str = "", formatting: Sequence[str] = ()) -> Iterator[Node]:
    """A running node with its data under `folder`, stopped at the end. `extra` properties come last, so they win; {port},
    {controller} and {folder} in them are filled in. `formatting` goes to kafka-storage.sh format: users, for one."""
    port, controller = free_ports(2)
    node = Node(home, folder, f"127.0.0.1:{port}", _new_cluster_id())
    properties = folder / "server.properties"
    properties.write_text((PROPERTIES + extra).format(port=port, controller=controller, folder=folder))
    _format(node, properties, ("--standalone", *formatting))
    try:
        node.start()
        yield node
    finally:
        node.stop()


@contextmanager
def three_nodes(home: Path, folder: Path) -> Iterator[list[Node]]:
    """A running cluster in which every topic has three replicas, and takes records while two of them are in sync."""
    ports, cluster_id, nodes = free_ports(6), _new_cluster_id(), list[Node]()
    voters = "controller.quorum.voters=" + ",".join(f"{n}@127.0.0.1:{port}" for n, port in enumerate(ports[3:], 1))
    for n, port, controller in zip((1, 2, 3), ports[:3], ports[3:], strict=True):
        node = Node(home, folder / str(n), f"127.0.0.1:{port}", cluster_id)
        node.folder.mkdir()
        properties = node.folder / "server.properties"
        made = (PROPERTIES + THREE).format(port=port, controller=controller, folder=node.folder, n=n)
        properties.write_text(made.replace(f"controller.quorum.bootstrap.servers=127.0.0.1:{controller}", voters))
        _format(node, properties, ())
        nodes.append(node)
    try:
        with ThreadPoolExecutor(len(nodes)) as pool:  # one alone never answers
            list(pool.map(Node.start, nodes))
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def _format(node: Node, properties: Path, more: Sequence[str]) -> None:
    command = [str(node.home / "bin/kafka-storage.sh"), "format"]
    command += ["-t", node.cluster_id, "-c", str(properties), *more]
    done = subprocess.run(command, env=_environment(node.folder), capture_output=True, text=True, timeout=START_TIMEOUT)
    if done.returncode:
        raise RuntimeError(f"kafka-storage.sh format failed:\n{done.stdout}{done.stderr}")


def _environment(folder: Path) -> dict[str, str]:
    """LOG_DIR: a download's scripts write their logs under KAFKA_HOME otherwise, which may be read-only."""
    return os.environ | {"KAFKA_HEAP_OPTS": "-Xmx512m -XX:TieredStopAtLevel=1", "LOG_DIR": str(folder / "logs")}


def _new_cluster_id() -> str:
    """A UUID as Kafka writes it; "A" in front, as the tools would take a leading "-" for an option."""
    return "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


def free_ports(count: int) -> list[int]:
    """Ports below the range from which the kernel takes clients' ports: else, while the node is down, a client that
    keeps calling can be given the node's own port."""
    ports: list[int] = []
    while len(ports) < count:
        with socket.socket() as probe:
            port = random.randrange(20_000, 30_000)
            if port not in ports and probe.connect_ex(("127.0.0.1", port)):
                ports.append(port)
    return ports
