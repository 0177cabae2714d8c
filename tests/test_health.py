"""Liveness: an agent is stalled when for long nothing moves though there is something to do, and only then."""

from hypothesis import given
from hypothesis import strategies as st

from streams.health import Progress, health

STALL_S = 60.0


def looked_at(*looks: tuple[float, dict[str, int], int], began: float = 0.0) -> Progress:
    """An agent after looks at it: when, offsets reached by partition, lag."""
    progress = Progress(began)
    for now, reached, lag in looks:
        progress.observe(reached, lag, False, now)
    return progress


def alive(progress: Progress, now: float) -> bool:
    return health({"score": progress}, STALL_S, now)[0]


Look = tuple[float, dict[str, int], int]
offsets = st.dictionaries(st.sampled_from("abc"), st.integers(0, 5))
looks = st.lists(st.tuples(st.floats(0.1, 30), offsets, st.integers(0, 2)), max_size=30)


@given(looks, st.floats(0, 200))
def test_stalled_is_who_had_lag_and_was_never_further_than_before_for_the_whole_time(seen: list[Look], patience: float) -> None:
    progress, now, moved_at, ever = Progress(0.0), 0.0, 0.0, dict[str, int]()
    for later, reached, lag in seen:
        now += later
        progress.observe(reached, lag, False, now)
        furthest = {name: max(offset, ever.get(name, -1)) for name, offset in reached.items()}
        if lag == 0 or ever | furthest != ever:
            moved_at = now
        ever |= furthest
    lag = bool(seen) and seen[-1][2] > 0
    assert alive(progress, now + patience) == (not lag or now + patience - moved_at <= STALL_S)
    assert progress.still_s(now + patience) == (now + patience - moved_at if lag else 0.0)


@given(looks, st.floats(0, 1e6))
def test_who_has_nothing_to_do_is_never_stalled(seen: list[Look], patience: float) -> None:
    progress = looked_at(*((float(n), reached, 0) for n, (_, reached, _) in enumerate(seen)))
    assert alive(progress, len(seen) + patience)
    assert progress.still_s(len(seen) + patience) == 0.0


def test_work_that_comes_after_a_long_rest_has_the_whole_time() -> None:
    rested = looked_at((0, {"a": 5}, 0), (1_000, {"a": 5}, 0), (1_005, {"a": 5}, 9))
    assert alive(rested, 1_060)
    assert not alive(rested, 1_061)


def test_one_partition_that_moves_is_enough() -> None:
    assert alive(looked_at((0, {"a": 5, "b": 5}, 9), (50, {"a": 5, "b": 6}, 9)), 110)


def test_a_partition_that_comes_back_has_moved_only_when_it_is_further_than_ever() -> None:
    lost = looked_at((0, {"a": 5}, 9), (10, {}, 9))
    lost.observe({"a": 3}, 9, False, 50)  # what was not committed is done again
    lost.observe({"a": 5}, 9, False, 55)
    assert not alive(lost, 61)
    lost.observe({"a": 6}, 9, False, 61)
    assert alive(lost, 61)


def test_a_partition_that_is_new_has_moved() -> None:
    assert alive(looked_at((0, {"a": 5}, 9), (50, {"a": 5, "b": 0}, 9)), 110)


def test_degraded_is_who_is_paused_or_still_for_half_of_the_time() -> None:
    agents = {"score": looked_at((0, {"a": 5}, 9)), "judge": looked_at((0, {"a": 5}, 0))}
    at = {now: health(agents, STALL_S, now)[1]["agents"] for now in (30.0, 30.25)}
    assert at[30.0] == {
        "score": {"lag": 9, "still_s": 30.0, "degraded": False},
        "judge": {"lag": 0, "still_s": 0.0, "degraded": False},
    }
    assert at[30.25]["score"] == {"lag": 9, "still_s": 30.2, "degraded": True}
    agents["judge"].observe({"a": 5}, 0, True, 31.0)
    assert health(agents, STALL_S, 31.0)[1]["agents"]["judge"]["degraded"]


def test_one_stalled_agent_is_enough_and_it_is_named_by_its_lag() -> None:
    stalled, said = health({"score": looked_at((0, {}, 3)), "judge": looked_at((0, {}, 0))}, STALL_S, 61.0)
    assert (stalled, said["status"]) == (False, "stalled")
    assert said["agents"]["score"] == {"lag": 3, "still_s": 61.0, "degraded": True}
    fine, said = health({"score": looked_at((0, {}, 3))}, STALL_S, 60.0)
    assert (fine, said["status"]) == (True, "ok")


def test_an_agent_that_never_gets_its_partitions_is_not_alive_for_ever() -> None:
    progress = Progress(moved_at=0.0)
    progress.unassigned()
    assert health({"score": progress}, 120, 100.0)[0]
    assert not health({"score": progress}, 120, 121.0)[0]
    progress.observe({"p": 1}, 0, False, 130.0)
    assert health({"score": progress}, 120, 1000.0)[0]


def test_a_judge_tells_its_rules() -> None:
    said = health({"judge": looked_at((0, {}, 0))}, STALL_S, 1.0, {"hash": "a1b2", "count": 3})[1]
    assert said["rules"] == {"hash": "a1b2", "count": 3}
    assert "rules" not in health({"score": looked_at((0, {}, 0))}, STALL_S, 1.0)[1]
