"""What is done to brokers under load: restarted, killed while they lead, away for so long that a topic takes nothing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType

from streams import topics
from streams.settings import Settings

from .apache import Node
from .secured import Secured
from .stage import Stage

DENIAL = "the broker denies Write on topic"
NOTICED_S = 60.0  # until a cluster has noticed that a broker is gone, or back


def restarted(stage: Stage, times: int) -> None:
    """The only broker goes and comes back: in good order, killed, in good order …"""
    [node] = stage.nodes
    for n in range(times):
        stage.progress()
        with away(stage, node, kill=n % 2 == 1):
            stage.pause(1, 5)
        stage.injected += 1
    stage.progress()


def leader_killed(stage: Stage, times: int) -> None:
    """Of three brokers the one that leads a partition of calls.sentiment is killed, and comes back."""
    for _ in range(times):
        stage.progress()
        with away(stage, leader(stage), kill=True):
            stage.pause(5, 10)
            stage.progress()
        stage.injected += 1
        stage.until(lambda: in_sync(stage) == len(stage.nodes), "all replicas in sync", NOTICED_S)
    stage.progress()


def below_minimum(stage: Stage, seconds: int) -> None:
    """calls.sentiment wants all three replicas, of which one is away: it takes nothing while calls.segments does."""
    with topics.admin(stage.settings) as client:
        wanted = {"min.insync.replicas": str(len(stage.nodes))}
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, stage.settings.topic("sentiment"), wanted)])
    stage.progress()
    start_mb = resident_mb(stage)
    most_mb, sent = start_mb, stage.sender.sent
    with away(stage, stage.nodes[-1], kill=False):
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            stage.pause(1, 1)
            most_mb = max(most_mb, resident_mb(stage))
    stage.injected += 1
    stage.figures |= {"memory_start_mb": start_mb, "memory_most_mb": most_mb, "sent_meanwhile": stage.sender.sent - sent}
    stage.progress()


def denied(stage: Stage, times: int) -> None:
    """The workers may no longer write calls.sentiment: they end, and say what the broker denies them. Then they may again."""
    secured, user = stage.where.secured, stage.fleet.settings.sasl_username
    assert secured is not None
    right = ("All", "topic", stage.settings.topic("sentiment"))
    for _ in range(times):
        stage.progress()
        said = len(stage.fleet.exits)
        secured.revoke(user, right)
        stage.until(partial(_said, stage, said), DENIAL, NOTICED_S)
        stage.injected += 1
        stage.pause(1, 5)
        secured.grant(user, right)
    stage.progress()


def _said(stage: Stage, before: int) -> bool:
    return any(DENIAL in words for words in stage.fleet.exits[before:])


def let_in(secured: Secured, user: str, settings: Settings) -> None:
    """Gives somebody all that a worker needs."""
    for name in topics.NAMES:
        secured.grant(user, ("All", "topic", settings.topic(name)))
    for kind in ("group", "transactional id"):
        secured.grant(user, ("All", kind, f"{settings.group}*"))


@contextmanager
def away(stage: Stage, node: Node, kill: bool) -> Iterator[None]:
    """A broker that does not run for the length of the context."""
    began = time.monotonic()
    (node.kill if kill else node.stop)()
    try:
        yield
    finally:
        node.start()
        stage.figures["outage_s"] = max(stage.figures.get("outage_s", 0), time.monotonic() - began)


def resident_mb(stage: Stage) -> float:
    """Of the largest worker."""
    return max((member.rss_mb or 0 for member in stage.fleet.members), default=0)


def leader(stage: Stage) -> Node:
    """A broker that leads a partition of calls.sentiment, drawn by lot."""
    ids = sorted({partition["leader_id"] for partition in described(stage)})
    chosen: int = stage.random.choice(ids)
    return stage.nodes[chosen - 1]


def in_sync(stage: Stage) -> int:
    """How many replicas the least replicated partition of calls.sentiment has."""
    return min(len(partition["isr_nodes"]) for partition in described(stage))


def described(stage: Stage) -> list[dict[str, Any]]:
    with topics.admin(stage.settings) as client:
        [topic] = client.describe_topics([stage.settings.topic("sentiment")])
        return list(topic["partitions"])
