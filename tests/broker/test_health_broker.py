"""What a worker says while it lives: ready, alive, stalled; what it could not read; a restart as the same member."""

import json
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition

from streams import topics
from streams.rules import load
from streams.settings import Settings

from .apache import free_ports
from .conftest import Cluster
from .messages import call, now_ms
from .plays import committed
from .running import RULES, Topics, laid_out, own, running, side_by_side

STALL_S = 3.0
PATIENT_S = 8.0  # of the worker that is fine: a busy machine may hold it up for some seconds
Answer = tuple[int, dict[str, Any]]
"""A status, and what was said with it."""


@dataclass
class Scene:
    topics: Topics
    logs: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


def served(cluster: Cluster, stall_s: float) -> Settings:
    [port] = free_ports(1)
    return own(cluster, web_port=port, stall_s=stall_s)


def ask(settings: Settings, page: str) -> Answer:
    """Raises OSError when no server answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.web_port}/{page}", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


class Asking:
    """Asks a page again and again, from before the worker is there on."""

    def __init__(self, settings: Settings, page: str) -> None:
        self.settings, self.page, self.answers, self.over = settings, page, list[Answer](), threading.Event()
        self.thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self.over.wait(0.05):
            with suppress(OSError):
                self.answers.append(ask(self.settings, self.page))

    def __enter__(self) -> list[Answer]:
        self.thread.start()
        return self.answers

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def caught_up(laid: Topics, count: int) -> None:
    """Returns when so many messages are scored and judged, and both is committed."""
    laid.until(lambda _: sum(committed(laid, "score", "segments")) == count, f"{count} scored and committed")
    laid.until(lambda _: sum(committed(laid, "judge", "sentiment")) == count, f"{count} judged and committed")


def fine(cluster: Cluster) -> Scene:
    """A worker starts, works, and has nothing to do for longer than it may stand still."""
    settings = served(cluster, PATIENT_S)
    with laid_out(settings) as laid, Asking(settings, "readyz") as ready, Asking(settings, "healthz") as alive:
        with running(settings) as worker:
            before = len(alive)
            laid.send(call("call", range(40), now_ms() - 400_000, end=False))
            caught_up(laid, 40)
            idle_until = time.monotonic() + PATIENT_S + 2
            laid.until(lambda _: time.monotonic() > idle_until, "time")
            notes = {"ready": ready[:], "alive": alive[:], "asked": len(alive) - before, "last": ask(settings, "readyz")}
            worker.stop(signal.SIGTERM)
        return Scene(laid, [worker.log], notes)


HANGING = """
import sys, threading
from models.sentiment import LexiconScorer
from streams import cli

class Scorer(LexiconScorer):
    def score(self, texts):
        if "for ever" in texts:
            threading.Event().wait()
        return super().score(texts)

cli._load = lambda settings: Scorer()
cli.main(["worker"])
"""


def hung(cluster: Cluster) -> Scene:
    """A scorer that never returns."""
    settings = served(cluster, STALL_S)
    with laid_out(settings) as laid, running(settings, command=(sys.executable, "-c", HANGING)) as worker:
        laid.send(call("call", range(8), now_ms() - 100_000, end=False))
        caught_up(laid, 8)
        notes: dict[str, Any] = {"before": ask(settings, "healthz")}
        laid.send([(b"call", b'{"call_id":"call","speaker":"customer","text":"for ever"}', now_ms())])
        since = time.monotonic()
        with Asking(settings, "healthz") as alive:
            laid.until(lambda _: bool(alive) and alive[-1][0] == 503, "a stalled worker")
        return Scene(laid, [worker.log], notes | {"after": alive[-1], "seconds": time.monotonic() - since})


def deleted(cluster: Cluster) -> Scene:
    """Retention takes what a stopped worker has not read; another one joins before anything is committed anew."""
    settings = own(cluster)
    with laid_out(settings, segments=1) as laid:
        with running(settings) as first:
            laid.send(call("call", range(10), now_ms() - 400_000, end=False))
            caught_up(laid, 10)
            first.stop(signal.SIGTERM)
        laid.send(call("call", range(10, 30), now_ms() - 300_000, end=False))
        with topics.admin(settings) as client:
            client.delete_records({TopicPartition(settings.topic("segments"), 0): 17})
        with running(settings) as second:
            laid.until(lambda _: committed(laid, "score", "segments") == [30], "the rest is scored")
            second.stop(signal.SIGTERM)
        with running(settings) as third:
            third.stop(signal.SIGTERM)
        laid.read_to_the_end()
        return Scene(laid, [first.log, second.log, third.log])


def restarted(cluster: Cluster) -> Scene:
    """A worker with a name of its own stops, and starts again before its session is over."""
    settings = own(cluster, instance_id="pod-1", log_level="debug")
    groups = {role: f"{settings.group}-{role}" for role in ("score", "judge")}
    with laid_out(settings) as laid:
        with running(settings) as first:
            laid.send(call("call", range(8), now_ms() - 200_000, end=False))
            caught_up(laid, 8)
            stopped = first.stop(signal.SIGTERM)
        with topics.admin(settings) as client:
            described = client.describe_groups([*groups.values()])
        between = time.monotonic()
        with running(settings) as second:
            seconds = time.monotonic() - between
            laid.send(call("call", range(8, 16), now_ms() - 100_000, end=False))
            caught_up(laid, 16)
            second.stop(signal.SIGTERM)
        return Scene(laid, [first.log, second.log], {"stopped": stopped, "members": described, "seconds": seconds})


Play = Callable[[Cluster], Scene]


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Callable[[Play], Scene]]:
    plays: tuple[Play, ...] = (fine, hung) if cluster.profile == "embedded" else (fine, hung, deleted, restarted)
    with side_by_side(plays, cluster) as played:
        yield played


@pytest.fixture
def on_apache(cluster: Cluster, scene: Callable[[Play], Scene]) -> Callable[[Play], Scene]:
    if cluster.profile == "embedded":
        pytest.skip("the embedded broker deletes nothing and describes no group")
    return scene


def test_a_worker_is_ready_once_its_agents_have_their_share_and_stays_so(scene: Callable[[Play], Scene]) -> None:
    notes = scene(fine).notes
    statuses = [status for status, _ in notes["ready"]]
    assert set(statuses) == {503, 200}
    assert statuses == sorted(statuses, reverse=True)
    first, last = notes["ready"][0][1], notes["ready"][-1][1]
    assert (first["status"], set(first["waiting_for"]) <= {"score", "judge"}) == ("not ready", True)
    assert last == {"status": "ready", "waiting_for": []}
    assert notes["last"][0] == 200


def test_a_worker_that_works_or_has_nothing_to_do_is_alive(scene: Callable[[Play], Scene]) -> None:
    notes = scene(fine).notes
    assert [said for status, said in notes["alive"] if status != 200] == []
    assert notes["asked"] > 10
    assert notes["alive"][-1][1] == {
        "status": "ok",
        "agents": {name: {"lag": 0, "still_s": 0.0, "degraded": False} for name in ("score", "judge")},
        "rules": {"hash": load(Path(RULES)).hash, "count": 2},
    }


def test_an_agent_that_stands_still_with_work_to_do_is_stalled_and_named(scene: Callable[[Play], Scene]) -> None:
    notes = scene(hung).notes
    assert notes["before"][0] == 200
    status, said = notes["after"]
    assert (status, said["status"]) == (503, "stalled")
    stuck, other = said["agents"]["score"], said["agents"]["judge"]
    assert (stuck["lag"], stuck["degraded"], stuck["still_s"] >= STALL_S) == (1, True, True)
    assert other == {"lag": 0, "still_s": 0.0, "degraded": False}
    assert notes["seconds"] > STALL_S / 2  # it may have been looked at last a while before


def test_what_retention_has_deleted_unread_is_said_and_counted_once_and_the_stream_goes_on(
    on_apache: Callable[[Play], Scene],
) -> None:
    over = on_apache(deleted)
    first, second, third = over.logs
    said = f"{over.topics.settings.topic('segments')} partition 0: 7 records were deleted by retention unread"
    assert [log.count("deleted by retention") for log in (first, second, third)] == [0, 1, 0]
    assert said in second
    assert re.search(r"stopped: .*\b7 lost", second)
    assert "lost" not in first + third
    sources = [scored.source.offset for partition in over.topics.scored for scored in partition]
    assert sources == [*range(10), *range(17, 30)]


def test_a_named_worker_that_stops_keeps_its_membership_and_goes_on_without_a_rebalance(
    on_apache: Callable[[Play], Scene],
) -> None:
    over = on_apache(restarted)
    assert over.notes["stopped"][0] == 0
    for group, described in over.notes["members"].items():
        assert described["group_state"] == "Stable"
        [member] = described["members"]
        assert member["group_instance_id"] == "pod-1-" + group.rpartition("-")[2]
    generations = [set(re.findall(r"Joined group '(\S+)' \(generation (\d+)\)", log)) for log in over.logs]
    assert generations[0] == generations[1]
    assert len(generations[0]) == 2
    assert sum(map(len, over.topics.scored)) == 16
    assert len(over.topics.records["sentiment"]) == 16
