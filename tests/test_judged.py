"""A judged partition that is given up amid its transaction: the transaction comes to its end first."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from builders import T0, scored
from lanes import run, until

from streams import state
from streams.errors import FencedError
from streams.pipeline import Calls
from streams.publisher import Outgoing
from streams.records import Record
from streams.settings import Settings
from streams.state import Judged
from streams.topics import Found
from streams.wire import encode

TOPICS = {name: Found(f"calls.{name}", name, 4) for name in ("sentiment", "rejected")}


class FakeTransactions:
    """Publishes once it may; notes what happened in which order."""

    def __init__(self, *_: Any) -> None:
        self.may, self.happened = asyncio.Event(), list[str]()

    async def start(self) -> None:
        self.happened.append("started")

    async def publish(self, *steps: Iterable[Outgoing]) -> None:
        self.happened.append("begun")
        await self.may.wait()
        self.happened.append("committed")

    async def stop(self) -> None:
        self.happened.append("stopped")


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    async def load(settings: Settings, partition: int, partitions: int, rules: object, queues: object) -> Calls:
        return Calls(settings.limits, partitions)

    monkeypatch.setattr(state, "Transactions", FakeTransactions)
    monkeypatch.setattr(state, "load", load)


def record() -> Record:
    return Record("calls.sentiment", 0, 0, T0, b"call-1", encode(scored(0, -0.5)))


def judged() -> tuple[Judged, Any]:
    made = Judged(Settings(), 0, TOPICS, None, clock=lambda: T0 / 1000)  # type: ignore[arg-type]
    return made, made.transactions


def test_a_producer_is_stopped_behind_its_transaction() -> None:
    async def scene() -> list[str]:
        made, transactions = judged()
        judging = asyncio.create_task(made.judge([record()]))
        await until(lambda: "begun" in transactions.happened)
        closing = asyncio.create_task(made.close())
        await asyncio.sleep(0)
        assert not closing.done()
        transactions.may.set()
        assert (await judging).judged == 1
        await closing
        happened: list[str] = transactions.happened
        return happened

    assert run(scene) == ["started", "begun", "committed", "stopped"]


def test_a_transaction_that_does_not_end_is_left_to_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "STOP_S", 0.01)

    async def scene() -> list[str]:
        made, transactions = judged()
        judging = asyncio.create_task(made.judge([record()]))
        await until(lambda: "begun" in transactions.happened)
        await made.close()
        judging.cancel()
        happened: list[str] = transactions.happened
        return happened

    assert run(scene) == ["started", "begun"]


def test_nothing_is_written_after_the_partition_was_given_up() -> None:
    async def scene() -> list[str]:
        made, transactions = judged()
        await made.loading
        await made.close()
        with pytest.raises(FencedError):
            await made.judge([record()])
        happened: list[str] = transactions.happened
        return happened

    assert run(scene) == ["started", "stopped"]
