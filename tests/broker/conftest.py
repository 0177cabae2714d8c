"""Tests on real sockets: each runs on the embedded broker and, where KAFKA_HOME is set, on Apache Kafka."""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from streams.broker import embedded

from .apache import apache_kafka


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running broker; profile "embedded" wants the embedded broker's client settings, "kafka" is the real one."""

    bootstrap: str
    profile: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.broker)


@pytest.fixture(scope="session")
def kafka_home() -> Path:
    """Where Apache Kafka is; skips the test where it is not."""
    if not (home := os.environ.get("KAFKA_HOME")):
        pytest.skip("set KAFKA_HOME to run on Apache Kafka")
    return Path(home)


@pytest.fixture(scope="session", params=["embedded", "apache"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One broker for all tests of the session: take topics and groups under `prefix`."""
    if request.param == "embedded":
        with embedded(announce=lambda _: None) as bootstrap:
            yield Cluster(bootstrap, "embedded")
    else:
        home: Path = request.getfixturevalue("kafka_home")
        with apache_kafka(home, tmp_path_factory.mktemp("kafka")) as node:
            yield Cluster(node.bootstrap, "kafka")


@pytest.fixture
def prefix() -> str:
    """A topic prefix that no other test has."""
    return f"t-{uuid.uuid4().hex[:8]}."
