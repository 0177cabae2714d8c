"""The rules of a worker as their file changes: what is taken and when, what is refused and how it is told."""

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from builders import T0, scored
from lanes import came, run, until
from msgspec.structs import replace
from test_takeover import LOW

from streams import reload as reloading
from streams import state
from streams.agents import Context
from streams.errors import RulesError
from streams.judging import Judging
from streams.pipeline import Calls
from streams.publisher import Outgoing
from streams.records import Alert
from streams.reload import Rules, begin
from streams.rules import load
from streams.settings import Settings
from streams.topics import Found
from streams.wire import decode_alert, encode


def text(when: str = LOW, **more: str) -> str:
    given = {"name": "r", "severity": "info", "reason": "r", "when": when, "cooldown": "0s"} | more
    return "rules:\n  - {" + ", ".join(f"{name}: {value}" for name, value in given.items()) + "}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "rules.yaml"
    made.write_text(text())
    return made


def looked(rules: Rules, times: int = 2) -> Rules:
    for _ in range(times):
        rules.look()
    return rules


def test_a_change_is_the_newest_once_two_looks_agree_and_in_force_once_it_is_taken(path: Path) -> None:
    rules = begin(path, text=True)
    first = rules.take()
    path.write_text(text(severity="critical"))
    assert looked(rules, 1).newest is first
    assert looked(rules, 1).newest.rules[0].severity == "critical"
    assert rules.in_force is first
    assert rules.take() is rules.in_force is rules.newest


def test_a_file_that_is_being_written_is_not_taken(path: Path) -> None:
    rules = begin(path, text=True)
    whole = text() + text(name="s").removeprefix("rules:\n")
    for size in range(len(whole) // 2, len(whole), 9):
        path.write_text(whole[:size])
        assert (looked(rules, 1).newest, rules.refused) == (rules.in_force, "")
    path.write_text(whole)
    assert len(looked(rules).newest.rules) == 2


def test_what_changes_nothing_of_the_rules_changes_nothing(path: Path) -> None:
    rules = begin(path, text=True)
    path.write_text("# a remark\n" + text())
    assert looked(rules).newest is rules.in_force
    path.touch()
    assert looked(rules).newest is rules.in_force


@pytest.mark.parametrize(
    ("broken", "said"),
    [("rules: [", ":1: "), (text("{meassure: x, lt: 1}"), ":2: "), (None, ":1: cannot be read")],
)
def test_what_is_broken_keeps_the_old_rules_and_is_said_once_until_it_is_mended(
    path: Path, caplog: pytest.LogCaptureFixture, broken: str | None, said: str
) -> None:
    caplog.set_level(logging.INFO, "callpulse.rules")
    rules = begin(path, text=True)
    path.unlink() if broken is None else path.write_text(broken)
    assert looked(rules, 9).newest is rules.take()
    [line] = caplog.messages
    assert f"rules refused; rules {rules.in_force.hash} (1) stay in force until this is mended: {path}{said}" in line
    assert f"{path}{said}" in str(rules.status()["refused"])
    path.write_text(text())
    assert looked(rules).status() == {"hash": load(path).hash, "count": 1}
    assert caplog.messages[1:] == [f"rules mended: rules {load(path).hash} (1)"]


def test_rules_that_ask_for_words_are_refused_where_no_text_is_published(path: Path) -> None:
    rules = begin(path, text=False)
    path.write_text(text("{words: refund}"))
    assert looked(rules).newest is rules.in_force
    assert rules.refused.startswith(f"{path}: --no-text: r would never hold")
    with pytest.raises(RulesError, match="--no-text: r would never hold"):
        begin(path, text=False)


def test_a_folder_is_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text(name="a"))
    rules = begin(tmp_path, text=True)
    (tmp_path / "b.yml").write_text(text(name="b"))
    (tmp_path / "notes.txt").write_text("none")
    assert [r.ref.name for r in looked(rules).newest.rules] == ["a", "b"]
    (tmp_path / "a.yaml").unlink()
    assert [r.ref.name for r in looked(rules).newest.rules] == ["b"]
    (tmp_path / "b.yml").unlink()
    assert [r.ref.name for r in looked(rules).newest.rules] == ["b"]
    assert "no *.yaml" in rules.refused


def test_the_default_rules_never_change() -> None:
    rules = looked(Rules())
    assert (rules.take(), rules.status()) == (load(None), {"hash": load(None).hash, "count": 3})


def test_a_watch_looks_again_and_again(path: Path) -> None:
    async def scene() -> None:
        rules = begin(path, text=True)
        watching = asyncio.create_task(rules.watch(0.001))
        path.write_text(text(severity="critical"))
        await until(lambda: rules.newest is not rules.in_force)
        watching.cancel()

    run(scene)


class Stored:
    """In the place of a partition's transactional producer: what has got through; publishing waits while `open` is not set."""

    def __init__(self, *_: Any) -> None:
        self.records, self.open = list[Outgoing](), asyncio.Event()
        self.open.set()

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        return

    async def publish(self, *steps: Any) -> None:
        await self.open.wait()
        self.records += [record for step in steps for record in step]

    def names(self) -> list[str]:
        """The kinds of the records, in order; positions lie on the states' topic."""
        return [record.topic for record in self.records]

    def alerts(self) -> list[Alert]:
        return [decode_alert(record.value or b"") for record in self.records if record.topic == "calls.alerts"]


class Scene:
    """A judge with two partitions, both loaded."""

    def __init__(self, path: Path) -> None:
        topics = {name: Found(f"calls.{name}", name, 2) for name in ("segments", "sentiment", "rejected")}
        self.rules = begin(path, text=True)
        self.context = Context(Settings(), topics, clock=lambda: T0 / 1000, rules=self.rules)
        self.judging = Judging(self.context, None, member=self._member)  # type: ignore[arg-type]
        self.judging.own((0, 1))
        self.stored: list[Any] = [judged.transactions for judged in self.judging.judged.values()]

    async def _member(self) -> bool:
        return True

    def work(self, number: int, *partitions: int) -> Coroutine[Any, Any, Any]:
        turns = [
            (p, encode(replace(scored(number, -1, call_id=f"c{p}"), source=replace(scored(number).source, partition=p))))
            for p in partitions
        ]
        return self.judging.work([came(number, topic="calls.sentiment", partition=p, value=value) for p, value in turns])

    def story(self, partition: int) -> list[tuple[str, str]]:
        return [(a.event, a.severity) for a in self.stored[partition].alerts()]


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    async def states(settings: Settings, partition: int, partitions: int, rules: Any, queues: object) -> Calls:
        return Calls(settings.limits, partitions, rules=rules)

    monkeypatch.setattr(state, "Transactions", Stored)
    monkeypatch.setattr(state, "load", states)


def test_all_partitions_change_between_two_batches_and_one_without_records_at_the_next_tick(path: Path) -> None:
    async def scene() -> None:
        judge = Scene(path)
        await judge.work(0, 0, 1)
        path.write_text(text(severity="critical"))
        looked(judge.rules)
        await judge.work(1, 0)
        assert judge.story(0) == [("open", "info"), ("resolve", "info"), ("open", "critical")]
        assert judge.story(1) == [("open", "info")]
        await judge.judging.tick()
        assert judge.story(1) == [("open", "info"), ("resolve", "info")]
        assert judge.stored[1].names()[-3:] == ["calls.alerts", "calls.state", "calls.state"], "with its state and positions"
        told = len(judge.stored[1].records)
        await judge.judging.tick()
        assert len(judge.stored[1].records) == told, "once"
        await judge.work(2, 1)
        assert judge.story(1)[2:] == [("open", "critical")]

    run(scene)


def test_rules_that_come_amid_a_batch_wait_for_its_end(path: Path) -> None:
    async def scene() -> None:
        judge = Scene(path)
        await judge.work(0, 0)
        judge.stored[0].open.clear()
        batch = asyncio.create_task(judge.work(1, 0, 1))
        await asyncio.sleep(0)
        path.write_text(text(severity="critical"))
        looked(judge.rules)
        assert judge.judging._opened(1).rules is judge.rules.in_force, "nor does a partition that is opened anew have them"
        judge.stored[0].open.set()
        await batch
        assert [judge.story(p) for p in (0, 1)] == [[("open", "info")], [("open", "info")]]
        assert judge.rules.in_force is not judge.rules.newest
        await judge.judging.tick()
        assert [judge.story(p)[1:] for p in (0, 1)] == [[("resolve", "info")]] * 2

    run(scene)


def test_a_partition_that_is_still_loading_is_waited_for_by_its_own_records_only(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> Calls:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(state, "load", never)

    async def scene() -> None:
        judge = Scene(path)
        path.write_text(text(severity="critical"))
        looked(judge.rules)
        await judge.judging.tick()
        assert all(judged.rules is judge.rules.newest for judged in judge.judging.judged.values())
        await judge.judging.stop()

    run(scene)


def test_the_log_says_which_rules_are_in_force_since_when(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, reloading.log.name)
    rules = begin(path, text=True)
    before = rules.take()
    path.write_text(text(severity="critical"))
    looked(rules).take()
    assert caplog.messages == [f"rules {load(path).hash} (1) in force, where rules {before.hash} (1) were"]
