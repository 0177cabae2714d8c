"""What fails as a whole is tried again in parts."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from models.attempts import attempt, halves
from models.staged import Failure


def outcomes(items: Sequence[int], bad: set[int]) -> tuple[list[tuple[list[int], object]], list[list[int]]]:
    """What came of it, and what was tried."""
    tried: list[list[int]] = []

    def act(part: Sequence[int]) -> str:
        tried.append(list(part))
        if bad & set(part):
            raise KeyError(part)
        return "done"

    return [(list(part), outcome) for part, outcome in attempt(items, act, lambda part, _: halves(part))], tried


@given(st.integers(1, 60), st.sets(st.integers(0, 59)))
def test_what_fails_by_itself_is_a_failure_and_all_else_is_done_in_order(count: int, bad: set[int]) -> None:
    found, tried = outcomes(range(count), bad)
    assert [item for part, _ in found for item in part] == list(range(count))
    for part, outcome in found:
        assert outcome == (Failure("KeyError") if bad & set(part) else "done")
        assert outcome == "done" or len(part) == 1
    assert len(tried) <= 2 * count - 1
    assert all(sum(item in part for part in tried) <= count.bit_length() + 1 for item in range(count))


def test_what_succeeds_is_tried_once_and_the_order_of_retries_is_that_of_the_items() -> None:
    assert outcomes(range(3), set())[1] == [[0, 1, 2]]
    assert outcomes(range(4), {1})[1] == [[0, 1, 2, 3], [0, 1], [0], [1], [2, 3]]


def test_the_split_may_know_better_than_halves() -> None:
    def act(part: Sequence[int]) -> int:
        if len(part) > 2:
            raise MemoryError
        return len(part)

    thirds = list(attempt(range(6), act, lambda part, _: [part[:2], part[2:4], part[4:]]))
    assert [(list(part), outcome) for part, outcome in thirds] == [([0, 1], 2), ([2, 3], 2), ([4, 5], 2)]


def test_where_there_are_no_parts_all_of_it_is_given_up() -> None:
    def act(part: Sequence[int]) -> int:
        raise OSError

    assert list(attempt([1, 2], act, lambda *_: [])) == [([1, 2], Failure("OSError"))]


def test_halves_make_up_the_whole_and_are_smaller() -> None:
    assert halves([1, 2, 3]) == [[1], [2, 3]]
    assert halves([1]) == []
