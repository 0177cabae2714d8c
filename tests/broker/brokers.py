"""The brokers that faults are played on, and what is needed to reach and to torment them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from streams.broker import embedded
from streams.settings import SASL_PASSWORD

from .apache import Node, apache_kafka, three_nodes
from .conftest import Cluster
from .secured import PASSWORD, Secured, secured_kafka


@dataclass(frozen=True)
class Where:
    """A running broker; `given` are the settings to reach it, `secured` gives and takes rights."""

    cluster: Cluster
    nodes: Sequence[Node] = ()
    given: Mapping[str, str] = field(default_factory=dict)
    secured: Secured | None = None


@contextmanager
def brokers(name: str, folder: Path) -> Iterator[Where]:
    """embedded; of Apache Kafka apache (one node), secured (one with TLS and SASL), three (nodes)."""
    home = Path(os.environ.get("KAFKA_HOME", ""))
    if name == "embedded":
        with embedded(announce=lambda _: None) as bootstrap:
            yield Where(Cluster(bootstrap, "embedded"))
    elif name == "apache":
        with apache_kafka(home, folder) as node:
            yield Where(Cluster(node.bootstrap, "kafka"), [node])
    elif name == "secured":
        os.environ[SASL_PASSWORD] = PASSWORD
        with secured_kafka(home, folder) as secured:
            tls = {"security_protocol": "SASL_SSL", "ssl_ca_file": str(secured.folder / "ca.pem")}
            given = tls | {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "bob"}
            yield Where(Cluster(secured.sasl, "kafka"), [secured.node], given, secured)
    else:
        with three_nodes(home, folder) as nodes:
            yield Where(Cluster(",".join(node.bootstrap for node in nodes), "kafka"), nodes)
