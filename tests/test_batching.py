from hypothesis import given
from hypothesis import strategies as st

from models.batching import plan, take

LENGTHS = st.lists(st.integers(1, 600), max_size=80)
BUDGETS = st.integers(1, 5000)
ROWS = st.none() | st.integers(1, 20)


@given(LENGTHS, BUDGETS, ROWS)
def test_each_text_is_in_one_batch_once(lengths: list[int], budget: int, rows: int | None) -> None:
    assert sorted(index for batch in plan(lengths, budget, rows) for index in batch) == list(range(len(lengths)))


@given(LENGTHS, BUDGETS, ROWS)
def test_only_a_text_by_itself_goes_over_the_budget(lengths: list[int], budget: int, rows: int | None) -> None:
    for batch in plan(lengths, budget, rows):
        padded = len(batch) * max(lengths[index] for index in batch)
        assert padded <= budget or len(batch) == 1
        assert rows is None or len(batch) <= rows


@given(LENGTHS, BUDGETS, ROWS)
def test_the_longest_come_first_and_no_batch_could_take_the_next_text(
    lengths: list[int], budget: int, rows: int | None
) -> None:
    batches = plan(lengths, budget, rows)
    order = [lengths[index] for batch in batches for index in batch]
    assert order == sorted(order, reverse=True)
    for batch in batches[:-1]:
        assert (len(batch) + 1) * lengths[batch[0]] > budget or len(batch) == rows


def test_texts_of_one_length_keep_their_order() -> None:
    assert plan([3, 5, 3, 5], 10) == [[1, 3], [0, 2]]


def test_no_texts_make_no_batches() -> None:
    assert plan([], 10) == []


@given(LENGTHS, BUDGETS)
def test_as_many_of_the_oldest_are_taken_as_the_budget_holds(lengths: list[int], budget: int) -> None:
    count = take(lengths, budget)
    assert sum(lengths[:count]) <= budget or count == 1
    assert count == len(lengths) or sum(lengths[: count + 1]) > budget


def test_the_oldest_is_taken_though_it_is_over_the_budget_by_itself() -> None:
    assert take([11, 1], 10) == 1
    assert take([4, 6, 1], 10) == 2
    assert take([], 10) == 0


def test_no_more_of_the_waiting_are_looked_at_than_needed() -> None:
    waiting = iter([5, 5, 5, 5, 5])
    assert take(waiting, 10) == 2
    assert list(waiting) == [5, 5]
