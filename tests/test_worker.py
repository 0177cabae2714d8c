"""An agent's role in a worker, without a broker: where it goes on, what it counts as lost, when its progress is seen."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from lanes import FakeApp, FakeWork, place, turns

from streams import pages, role, worker
from streams.agents import Context
from streams.backlog import Begin
from streams.delivery import Lane
from streams.metrics import Agent
from streams.role import Role
from streams.settings import Settings

Jump = tuple[TopicPartition, int, int]


class FakeBacklog:
    """Answers as it is told; raises while the broker is `away`."""

    group = "callpulse-score"

    def __init__(self) -> None:
        self.away = self.slow = False
        self.begin: dict[TopicPartition, Begin] = {}
        self.lag = 0
        self.asked: list[list[Jump]] = []

    async def begins(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, Begin]:
        self._answers()
        while self.slow:
            await asyncio.sleep(0)
        return self.begin

    async def deleted(self, jumps: Iterable[Jump]) -> dict[TopicPartition, int]:
        self.asked.append(list(jumps))
        self._answers()
        return {place: found - expected for place, expected, found in self.asked[-1]}

    async def lags(self, reached: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        self._answers()
        return dict.fromkeys(reached, self.lag)

    def _answers(self) -> None:
        if self.away:
            raise KafkaConnectionError("no broker")


class Stage:
    """A role, and what stands around it."""

    def __init__(self) -> None:
        self.context = Context(Settings(), {})
        app: Any = FakeApp()
        app.conf = type("Conf", (), {"id": "callpulse-score"})
        self.lane = Lane(app, FakeWork(), lambda *_: None)
        self.backlog = FakeBacklog()
        unused: Any = None
        backlog: Any = self.backlog
        self.role = Role("score", app, self.lane, unused, asyncio.Event(), backlog)

    async def begin(self) -> None:
        await self.role.begin(self.context, [place()])

    def seen(self) -> Agent:
        return pages.seen(self.role, self.context.settings)

    async def watch(self) -> None:
        await self.role.watch(self.context)


def played(scene: Callable[[Stage], Any]) -> Stage:
    async def play() -> Stage:
        stage = Stage()
        await scene(stage)
        return stage

    return asyncio.run(play())


def test_a_lane_goes_on_where_the_group_does_and_what_was_deleted_unread_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(stage: Stage) -> None:
        stage.backlog.begin = {place(): Begin(9, 4)}
        await stage.begin()

    stage = played(scene)
    assert (stage.lane.done, stage.lane.committed) == ({place(): 9}, {place(): 5})
    assert stage.lane.running.is_set()
    assert stage.context.counts.lost == 4
    assert [record.getMessage() for record in caplog.records] == [
        "calls.segments partition 0: 4 records were deleted by retention unread"
    ]


def test_a_lane_waits_until_the_broker_says_where_it_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role, "RETRY_S", 0.0)

    async def scene(stage: Stage) -> None:
        stage.backlog.away, stage.backlog.begin = True, {place(): Begin(9, 0)}
        beginning = asyncio.create_task(stage.begin())
        while "the broker does not answer" not in caplog.text:
            await asyncio.sleep(0)
        assert not stage.lane.running.is_set()
        stage.backlog.away = False
        await beginning

    stage = played(scene)
    assert (stage.lane.done, stage.lane.running.is_set()) == ({place(): 9}, True)


def test_an_answer_that_comes_after_the_next_rebalance_is_of_no_use() -> None:
    async def scene(stage: Stage) -> None:
        stage.backlog.begin, stage.backlog.slow = {place(): Begin(9, 0)}, True
        beginning = asyncio.create_task(stage.begin())
        await asyncio.sleep(0)
        await stage.lane.settle()
        stage.backlog.slow = False
        await beginning

    assert not played(scene).lane.running.is_set()


def test_an_answer_that_comes_while_the_lane_settles_does_not_let_it_go_on() -> None:
    async def scene(stage: Stage) -> None:
        stage.backlog.begin, stage.backlog.slow = {place(): Begin(9, 0)}, True
        stage.role.assigned(stage.context, [place()])
        await asyncio.sleep(0)
        stage.lane.idle.clear()  # a batch is under way
        settling = asyncio.create_task(stage.role.revoked())
        await asyncio.sleep(0)
        stage.backlog.slow = False
        await turns()
        assert not settling.done()
        stage.lane.idle.set()
        await settling

    assert not played(scene).lane.running.is_set()


def test_an_answer_that_is_just_there_when_partitions_are_taken_away_does_not_let_the_lane_go_on() -> None:
    """As wait_for gives it before Python 3.12, though it is cancelled."""

    async def scene(stage: Stage) -> None:
        async def begins(_: Iterable[TopicPartition]) -> dict[TopicPartition, Begin]:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return {place(): Begin(9, 4)}

        stage.backlog.begins = begins  # type: ignore[method-assign]
        stage.role.assigned(stage.context, [place()])
        await asyncio.sleep(0)
        await stage.role.revoked()
        await turns()

    stage = played(scene)
    assert not stage.lane.running.is_set()
    assert (stage.lane.done, stage.lane.expected, stage.context.counts.lost) == ({}, {}, 0)


def test_what_was_jumped_over_is_asked_about_until_the_broker_answers_and_counted_once() -> None:
    jumps = [(place(0), 3, 7), (place(1), 8, 9)]

    async def scene(stage: Stage) -> None:
        stage.lane.jumps.extend(jumps)
        stage.backlog.away = True
        await stage.watch()
        stage.backlog.away = False
        await stage.watch()
        await stage.watch()

    stage = played(scene)
    assert stage.backlog.asked == [jumps, jumps, []]
    assert stage.context.counts.lost == 4 + 1


def test_progress_is_what_the_lane_has_done_and_what_lies_behind() -> None:
    async def scene(stage: Stage) -> None:
        stage.lane.resume({place(): 5}, {})
        stage.backlog.lag = 3
        stage.lane.room.clear()
        await stage.watch()

    progress = played(scene).role.progress
    assert (progress.reached, progress.lag, progress.paused) == ({place(): 5}, 3, True)
    assert time.monotonic() - progress.moved_at < 5


def test_the_lag_that_is_told_is_of_the_partitions_that_are_its_own_now() -> None:
    seen = []

    async def scene(stage: Stage) -> None:
        stage.lane.resume({place(0): 5, place(1): 7}, {})
        stage.backlog.lag = 3
        await stage.watch()
        seen.append(stage.seen())
        await stage.lane.settle()
        seen.append(stage.seen())
        stage.lane.resume({place(1): 9}, {})
        seen.append(stage.seen())
        stage.backlog.away = True  # as before, while the broker does not answer
        await stage.watch()
        seen.append(stage.seen())

    played(scene)
    mine = {("calls.segments", 1): 3}
    assert [agent.lags for agent in seen] == [mine | {("calls.segments", 0): 3}, {}, mine, mine]
    assert {(agent.role, agent.group, agent.topic) for agent in seen} == {("score", "callpulse-score", "calls.segments")}


@pytest.mark.parametrize("why", ["settled", "away"])
def test_nobody_looks_while_partitions_are_taken_away_or_the_broker_does_not_answer(why: str) -> None:
    async def scene(stage: Stage) -> None:
        stage.lane.resume({place(): 5}, {})
        stage.backlog.lag = 3
        await stage.watch()
        stage.role.progress.moved_at = 0.0
        stage.backlog.lag, stage.backlog.away = 0, why == "away"
        if why == "settled":
            await stage.lane.settle()
        await stage.watch()

    progress = played(scene).role.progress
    assert (progress.lag, progress.moved_at) == (3, 0.0)


@pytest.mark.parametrize("task", [worker._watch, worker._report])
def test_a_task_that_raises_what_nobody_expects_stops_the_worker(
    monkeypatch: pytest.MonkeyPatch, task: Callable[[Context, list[Role]], Coroutine[Any, Any, None]]
) -> None:
    monkeypatch.setattr(worker, "REPORT_S", 0.0)

    async def scene(stage: Stage) -> None:
        stage.context.settings = replace(stage.context.settings, stall_s=0.01)
        stage.lane.jumps = None  # type: ignore[assignment]
        stage.role.progress = None  # type: ignore[assignment]
        stage.role.ready.set()
        stage.lane.running.set()
        await asyncio.wait_for(task(stage.context, [stage.role]), 20)

    context = played(scene).context
    assert context.stop.is_set()
    assert isinstance(context.failure, (TypeError, AttributeError))
