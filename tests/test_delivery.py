"""A lane, from its events to its batches: what is worked, in which order, what is done then, how it ends."""

import asyncio
from contextlib import suppress
from itertools import chain, pairwise

import pytest
from aiokafka import TopicPartition
from lanes import PATIENCE, FakeFetch, Line, came, place, run, turns, until

from streams import delivery
from streams.errors import PassedOverError


def test_batches_come_in_order_and_are_done_in_order_once_their_work_has_returned() -> None:
    async def scene() -> list[list[int]]:
        line = Line(most=3, gated=True)
        line.put(*range(8))
        for batches, done in ((1, None), (2, 3), (3, 6)):
            await until(lambda n=batches: len(line.work.begun) == n)  # type: ignore[misc]
            await turns()
            assert len(line.work.begun) == batches  # the next waits until this one is done
            assert line.lane.done.get(place()) == done
            line.work.gate.release()
        await line.is_done(8)
        await line.stop()
        return line.work.begun

    assert run(scene) == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_events_are_counted_as_they_are_taken_and_batches_timed_when_they_are_done() -> None:
    async def scene() -> list[tuple[int, int]]:
        line = Line(most=3, gated=True)
        line.put(*range(5))
        seen = []
        for batches in (1, 2):
            await until(lambda n=batches: len(line.work.begun) == n)  # type: ignore[misc]
            seen.append((line.lane.taken, sum(line.lane.batches.counts)))
            line.work.gate.release()
        await line.is_done(5)
        await line.stop()
        return [*seen, (line.lane.taken, sum(line.lane.batches.counts))]

    assert run(scene) == [(3, 0), (5, 1), (5, 2)]


def test_what_comes_while_a_batch_is_under_way_is_the_next_batch() -> None:
    async def scene() -> list[list[int]]:
        line = Line(gated=True)
        line.put(0)
        await until(lambda: line.work.begun == [[0]])  # one event is enough: nothing is waited for
        line.put(1, 2, 3, 4)
        await turns()
        line.work.gate.release()
        await until(lambda: len(line.work.begun) == 2)
        await line.stop()
        return line.work.begun

    assert run(scene) == [[0], [1, 2, 3, 4]]


def test_what_is_done_is_told_by_partition() -> None:
    async def scene() -> Line:
        line = Line(most=1)
        for n, partition in enumerate((0, 1, 0, 1, 1)):
            line.put(10 * partition + n, partition=partition)
        await line.is_done(15, partition=1)
        await line.stop()
        return line

    assert run(scene).lane.done == {place(0): 3, place(1): 15}


def test_of_work_that_raises_and_after_it_nothing_is_done() -> None:
    async def scene() -> Line:
        line = Line(most=2, broken=5)
        line.put(*range(20))
        await until(lambda: bool(line.failures))
        line.put(*range(20, 30))
        await turns()
        await line.lane.settle()
        await line.stop()
        return line

    line = run(scene)
    assert line.work.begun == [[0, 1], [2, 3], [4, 5]]
    assert line.app.commits == [{place(): 4}]
    [(error, batch)] = line.failures
    assert str(error) == "the model is broken"
    assert batch == [4, 5]


def test_a_tick_that_raises_is_a_failure_between_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "TICK_S", 0.01)

    async def scene() -> Line:
        line = Line(ticking=True, broken_tick=True)
        await until(lambda: bool(line.failures))
        await line.stop()
        return line

    [(error, batch)] = run(scene).failures
    assert str(error) == "the clock is broken"
    assert batch == []


def test_a_lane_whose_work_is_cancelled_from_outside_has_failed_and_a_closed_one_has_not() -> None:
    async def scene(close: bool) -> Line:
        line = Line(gated=not close)
        line.put(0, 1)
        await until(lambda: bool(line.work.begun))
        if close:
            await line.lane.close()
        else:
            line.lane.tasks[0].cancel()
        with suppress(asyncio.CancelledError):
            await line.lane.tasks[0]
        await line.stop()
        return line

    [(error, batch)] = run(lambda: scene(close=False)).failures
    assert isinstance(error, asyncio.CancelledError)
    assert batch == [0, 1]
    assert run(lambda: scene(close=True)).failures == []


def test_after_a_failure_settling_does_not_hang() -> None:
    async def scene() -> Line:
        line = Line(broken=0)
        line.put(0)
        await until(lambda: bool(line.failures))
        await asyncio.wait_for(line.lane.settle(), PATIENCE)
        await asyncio.wait_for(line.lane.close(), PATIENCE)
        await line.stop()
        return line

    assert run(scene).app.asked == []


def test_events_of_an_old_generation_are_neither_worked_nor_done() -> None:
    async def scene() -> Line:
        line = Line()
        line.app.consumer_generation_id = 2
        line.put(0, 1, generation=1)
        line.put(0, 1, 2, generation=2)
        line.put(7, partition=1, generation=1)
        await line.is_done(3)
        await until(lambda: line.taken == 6)
        await turns()
        await line.stop()
        return line

    line = run(scene)
    assert line.worked == [0, 1, 2]
    assert line.lane.done == {place(): 3}


def test_a_settled_lane_begins_nothing_until_it_is_resumed() -> None:
    async def scene() -> Line:
        line = Line()
        line.put(0)
        await line.is_done(1)
        await line.lane.settle()
        line.put(1)
        await until(lambda: line.taken == 2)
        await turns()
        assert line.worked == [0]
        line.lane.resume({place(): 1}, {place(): 1})
        await line.is_done(2)
        await line.stop()
        return line

    assert run(scene).worked == [0, 1]


def test_a_closed_lane_takes_nothing_more() -> None:
    async def scene() -> Line:
        line = Line()
        await line.lane.close()
        line.put(0)
        await until(lambda: line.taken == 1)
        await turns()
        await line.stop()
        return line

    line = run(scene)
    assert line.work.begun == []
    assert list(line.lane.waiting) == []
    assert all(task.done() for task in line.lane.tasks)


@pytest.mark.parametrize("at_once", [1, 48])
def test_a_full_lane_is_paused_and_takes_no_more_until_there_is_room(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(delivery, "CAPACITY", 4)

    async def scene() -> Line:
        line = Line(most=2, gated=True)
        line.put(0, 1)
        await until(lambda: bool(line.work.begun))
        assert not line.lane.paused
        line.put(*range(2, 50), at_once=at_once)
        await until(lambda: line.lane.paused)
        assert line.taken <= 4 + 1 + at_once
        for _ in range(25):
            assert len(line.lane.waiting) <= 4
            line.work.gate.release()
            await turns()
        await line.is_done(50)
        assert not line.lane.paused
        await line.stop()
        return line

    assert run(scene).worked == list(range(50))


def test_a_lane_is_full_of_bytes_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "CAPACITY_BYTES", 100)

    async def scene() -> Line:
        line = Line(most=1, gated=True)
        line.put(*range(20), size=30)
        await until(lambda: line.lane.paused)
        assert line.lane.waiting_bytes == 120
        for _ in range(20):
            line.work.gate.release()
            await turns()
            assert line.lane.waiting_bytes <= 120
        await line.is_done(20)
        assert line.lane.waiting_bytes == 0
        line.put(20, 21, 22, 23, 24, size=30)
        await until(lambda: line.lane.paused)
        line.work.gate.release()
        await line.lane.settle()
        assert line.lane.waiting_bytes == 0
        await line.stop()
        return line

    assert run(scene).worked == list(range(21))


def test_the_work_hears_of_what_has_come_and_of_a_full_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "CAPACITY", 4)

    async def scene() -> tuple[int, int]:
        line = Line(gated=True)
        line.put(0, 1, at_once=2)
        await until(lambda: bool(line.work.begun))
        told = line.work.told
        line.put(*range(2, 9), at_once=7)
        await until(lambda: line.lane.paused)
        full = line.work.told
        await line.stop()
        return told, full

    assert run(scene) == (1, 2)


def test_work_that_fails_at_what_has_come_stops_the_lane() -> None:
    async def scene() -> Line:
        line = Line()
        line.work.came = lambda: {}[0]  # type: ignore[method-assign]
        line.put(0)
        await until(lambda: bool(line.failures))
        line.put(1)
        await turns()
        await line.stop()
        return line

    line = run(scene)
    assert [type(error) for error, _ in line.failures] == [KeyError]
    assert 1 not in line.worked


@pytest.mark.parametrize("at_once", [1, 9])
def test_settling_a_full_lane_lets_its_feeder_go_on(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(delivery, "CAPACITY", 2)

    async def scene() -> Line:
        line = Line(most=1, gated=True)
        line.put(*range(9), at_once=at_once)
        await until(lambda: line.lane.paused)
        line.work.gate.release()
        await line.lane.settle()  # what is left of a fetch is given up too
        line.work.gated = False
        line.reassigned(p0=1)
        line.put(1, 2)
        await line.is_done(3)
        await line.stop()
        return line

    assert run(scene).worked == [0, 1, 2]


@pytest.mark.parametrize("loaded", [False, True], ids=["idle", "loaded"])
def test_ticks_come_at_their_pace_whether_anything_arrives_or_not(monkeypatch: pytest.MonkeyPatch, loaded: bool) -> None:
    monkeypatch.setattr(delivery, "TICK_S", 0.05)

    async def scene() -> list[float]:
        line, sent = Line(ticking=True, most=1), 0
        while len(line.work.ticks) < 5:
            if loaded and line.taken == sent:
                line.put(*range(sent, sent + 50))  # 50 batches: something always waits
                sent += 50
            await asyncio.sleep(0)
        assert bool(line.lane.done) == loaded
        await line.stop()
        return line.work.ticks

    ticks = run(scene)
    gaps = [later - earlier for earlier, later in pairwise(ticks)]
    assert min(gaps) >= 0.05
    assert sorted(gaps)[len(gaps) // 2] < 0.1


def test_offsets_that_are_missing_are_noted_by_partition() -> None:
    async def scene() -> Line:
        line = Line()
        line.reassigned(p0=5, p2=3)
        line.put(5, 6, 9)
        line.put(70, 72, partition=1)
        line.put(4, partition=2)
        line.put(10)
        await line.is_done(11)
        await line.is_done(5, partition=2)
        await line.stop()
        return line

    line = run(scene)
    assert sorted(line.lane.jumps) == [(place(0), 7, 9), (place(1), 71, 72), (place(2), 3, 4)]


def test_what_another_worker_has_done_meanwhile_was_not_jumped_over() -> None:
    async def scene() -> Line:
        line = Line()
        line.put(0, 1)
        await line.is_done(2)
        await line.lane.settle()
        line.put(2)  # it was on its way
        line.put(50, generation=2)  # it comes before the lane is told
        await until(lambda: line.taken == 3)
        line.reassigned(p0=50)
        line.put(51)
        await line.is_done(52)
        await line.stop()
        return line

    assert list(run(scene).lane.jumps) == []


def test_what_was_passed_over_stops_the_lane_before_anything_behind_it_is_done() -> None:
    asked: list[tuple[TopicPartition, int, int]] = []

    async def scene() -> Line:
        line = Line()

        async def passed_over(where: TopicPartition, expected: int, found: int) -> bool:
            asked.append((where, expected, found))
            return where == place(1)

        line.lane.passed_over = passed_over
        line.reassigned(p0=5, p1=0)
        line.put(6, 8, 11)  # not at the beginning; the end of a transaction; three of them
        await line.is_done(12)
        line.put(3, 4, partition=1)
        line.put(12)
        await until(lambda: bool(line.failures))
        await turns()
        await line.stop()
        return line

    line = run(scene)
    assert asked == [(place(0), 5, 6), (place(0), 7, 8), (place(0), 9, 11), (place(1), 0, 3)]
    assert [*chain(*line.work.begun)] == [6, 8, 11]
    [(error, offsets)] = line.failures
    assert isinstance(error, PassedOverError)
    assert offsets == [3]


def test_what_comes_of_a_partition_whose_beginning_is_not_known_stops_the_lane() -> None:
    async def scene() -> Line:
        line = Line()
        line.reassigned(p0=5)
        del line.lane.expected[place(), line.app.consumer_generation_id]
        generation = line.app.consumer_generation_id
        line.queue.put_nowait(FakeFetch([came(7, generation)], generation))
        await until(lambda: bool(line.failures))
        await line.stop()
        return line

    line = run(scene)
    assert line.work.begun == []
    [(error, offsets)] = line.failures
    assert isinstance(error, PassedOverError)
    assert offsets == [7]


def test_what_was_taken_in_before_is_not_taken_in_again() -> None:
    async def scene() -> Line:
        line = Line()
        line.reassigned(p0=5)
        line.put(3, 4, 5, 6, 5, 6, 7)
        await line.is_done(8)
        await line.stop()
        return line

    assert [*chain(*run(scene).work.begun)] == [5, 6, 7]


def test_no_more_jumps_are_kept_than_a_lane_holds() -> None:
    async def scene() -> Line:
        line = Line()
        line.put(*range(0, 3 * delivery.CAPACITY, 2))
        await line.is_done(3 * delivery.CAPACITY - 1)
        await line.stop()
        return line

    jumps = run(scene).lane.jumps
    assert len(jumps) == delivery.CAPACITY
    assert jumps[-1] == (place(), 3 * delivery.CAPACITY - 3, 3 * delivery.CAPACITY - 2)
