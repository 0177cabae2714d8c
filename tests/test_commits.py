"""A lane, from what is done to what is committed: when, up to where, and what is never acknowledged."""

import asyncio

import pytest
from lanes import Line, Offsets, place, run, turns, until

from streams import delivery

NEVER_S = 1e6
LATER_S = 0.01


@pytest.fixture(autouse=True)
def only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "COMMIT_S", NEVER_S)


def test_about_once_a_second_what_is_new_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert delivery.COMMIT_S == NEVER_S
    monkeypatch.setattr(delivery, "COMMIT_S", LATER_S)

    async def scene() -> list[Offsets]:
        line = Line()
        line.reassigned(p0=0, p1=7)
        line.put(0, 1, 2)
        await until(lambda: len(line.app.commits) == 1)
        await asyncio.sleep(5 * LATER_S)  # nothing is new
        line.put(7, partition=1)
        line.put(3)
        await line.is_done(4)
        await until(lambda: line.lane.committed == {place(0): 4, place(1): 8})
        await line.stop()
        return line.app.asked

    first, *others = run(scene)
    assert first == {place(0): 3}
    assert all(set(offsets.items()) <= {(place(0), 4), (place(1), 8)} for offsets in others)
    assert 1 <= len(others) <= 2


def test_settling_gives_up_what_waits_and_finishes_and_commits_what_is_under_way_at_once() -> None:
    async def scene() -> Line:
        line = Line(most=2, gated=True)
        line.put(*range(6))
        await until(lambda: bool(line.work.begun))
        settling = asyncio.create_task(line.lane.settle())
        await turns()
        assert not settling.done()
        line.work.gate.release()
        await settling
        await turns()
        assert (line.lane.done, line.lane.committed) == ({}, {})
        await line.stop()
        return line

    line = run(scene)
    assert line.work.begun == [[0, 1]]
    assert line.app.commits == [{place(): 2}]


def test_closing_commits_what_is_done() -> None:
    async def scene() -> Line:
        line = Line()
        line.put(0, 1)
        await line.is_done(2)
        await line.lane.close()
        await line.stop()
        return line

    assert run(scene).app.commits == [{place(): 2}]


def test_a_batch_that_outlasts_settling_is_not_committed_then_nor_done_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivery, "SETTLE_S", LATER_S)

    async def scene() -> Line:
        line = Line(most=2, gated=True)
        line.put(0, 1, 2)
        await until(lambda: bool(line.work.begun))
        await line.lane.settle()
        line.reassigned(p0=0)
        line.work.gate.release()
        await until(lambda: line.work.finished == [[0, 1]])
        await turns()
        assert line.lane.done == {place(): 0}
        assert await line.lane.commit()
        assert line.app.asked == []
        line.put(0, 1)
        line.work.gate.release()
        await line.is_done(2)
        await line.stop()
        return line

    assert run(scene).work.begun == [[0, 1], [0, 1]]
    assert "gave up waiting for a batch" in caplog.text


def test_while_a_commit_is_under_way_settling_waits_for_it_and_commits_the_rest() -> None:
    async def scene() -> Line:
        line = Line()
        line.put(0)
        await line.is_done(1)
        line.app.open.clear()
        committing = asyncio.create_task(line.lane.commit())
        await until(lambda: bool(line.app.under_way))
        line.put(1)
        await line.is_done(2)
        settling = asyncio.create_task(line.lane.settle())
        await turns()
        assert not settling.done()
        line.app.open.set()
        await asyncio.gather(committing, settling)
        await line.stop()
        return line

    assert run(scene).app.commits == [{place(): 1}, {place(): 2}]


def test_events_that_the_work_does_not_return_are_neither_done_nor_committed() -> None:
    async def scene() -> Line:
        line = Line(lost={1})
        line.put(0, 1)
        line.put(10, 11, partition=1)
        line.put(2)
        await line.is_done(3)
        assert line.lane.done == {place(0): 3}
        await line.lane.settle()
        await line.stop()
        return line

    line = run(scene)
    assert sorted(line.worked) == [0, 1, 2, 10, 11]
    assert line.app.commits == [{place(0): 3}]


def test_behind_what_was_not_done_nothing_of_its_partition_is_done_until_it_is_assigned_anew() -> None:
    async def scene() -> Line:
        line = Line(lost={1})
        line.put(10, partition=1)
        line.put(0)
        await line.is_done(1)
        line.work.lost.clear()  # the work would do it now
        line.put(11, partition=1)
        line.put(1)
        await line.is_done(2)
        assert line.lane.done == {place(0): 2}
        await line.lane.settle()
        line.reassigned(p0=2, p1=10)
        line.put(10, 11, partition=1)
        await line.is_done(12, partition=1)
        await line.stop()
        return line

    assert sorted(run(scene).worked) == [0, 1, 10, 10, 11]


def test_what_the_group_does_not_take_is_not_committed(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> Line:
        line = Line()
        line.put(0, 1)
        await line.is_done(2)
        line.app.takes = False
        assert not await line.lane.commit()
        assert line.lane.committed == {}
        line.app.takes = True
        assert await line.lane.commit()
        assert line.lane.committed == {place(): 2}
        await line.stop()
        return line

    line = run(scene)
    assert (line.app.asked, line.app.commits) == ([{place(): 2}] * 2, [{place(): 2}])
    assert "not committed, as the group has moved on" in caplog.text
    assert line.failures == []


def test_committing_again_asks_the_group_whether_this_worker_is_still_a_member() -> None:
    async def scene() -> list[bool]:
        line = Line()
        nothing = await line.lane.commit(again=True)
        line.reassigned(p0=3)
        member = await line.lane.commit(again=True)
        assert line.app.commits == [{place(): 3}]
        line.app.takes = False
        stranger = await line.lane.commit(again=True)
        await line.stop()
        return [nothing, member, stranger]

    assert run(scene) == [False, True, False]


def test_what_was_deleted_unread_is_committed_though_nothing_comes_so_that_it_is_lost_once() -> None:
    async def scene() -> list[Offsets]:
        line = Line()
        line.lane.resume({place(0): 9, place(1): 5}, {place(0): 4, place(1): 5})
        await line.lane.settle()
        await line.stop()
        return line.app.commits

    assert run(scene) == [{place(0): 9}]


def test_an_error_in_committing_is_a_failure_between_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "COMMIT_S", LATER_S)

    async def scene() -> Line:
        line = Line()
        line.app.broken = OSError("the network is down")
        line.put(0)
        await until(lambda: bool(line.failures))
        await line.stop()
        return line

    line = run(scene)
    assert [(str(error), batch) for error, batch in line.failures] == [("the network is down", [])]
    assert line.lane.committed == {}
