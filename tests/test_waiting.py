"""Who is next, without threads: the budget, the order, the bound, and that everybody has an answer in the end."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.staged import Failure, Result
from models.waiting import CHUNK, Submission, Text, Waiting

SUBMISSIONS = st.lists(st.lists(st.integers(1, 40), max_size=12), max_size=12)
BUDGETS = st.integers(1, 120)


def entered(waiting: Waiting, *submissions: list[int]) -> list[Submission]:
    """Submissions of texts of these lengths, not tokenized yet."""
    made = []
    for lengths in submissions:
        made.append(waiting.enter(["w " * length for length in lengths], [None] * len(lengths)))
    return made


def tokenized(waiting: Waiting) -> None:
    while texts := waiting.to_tokenize():
        for text in texts:
            text.length = len(text.text.split())
        waiting.make_ready(texts)


def batches(waiting: Waiting) -> list[list[Text]]:
    found = []
    while batch := waiting.next_batch():
        found.append(batch)
    return found


def cost(batch: list[Text]) -> int:
    return len(batch) * max(text.length for text in batch)


def said(text: Text) -> Result:
    return Failure(str(text.number))


@given(SUBMISSIONS, BUDGETS)
def test_every_text_is_in_one_batch_within_the_budget(submissions: list[list[int]], budget: int) -> None:
    waiting = Waiting(10_000, budget)
    entered(waiting, *submissions)
    tokenized(waiting)
    found = batches(waiting)
    assert sorted(text.number for batch in found for text in batch) == [*range(1, sum(map(len, submissions)) + 1)]
    assert all(cost(batch) <= budget or len(batch) == 1 for batch in found)
    assert waiting.next_batch() == []


@pytest.mark.parametrize(("texts", "sizes"), [(40, [20, 20]), (400, [64] * 6 + [16]), (3, [3])])
def test_what_is_ready_is_shared_out_among_replicas_but_not_crumbs(texts: int, sizes: list[int]) -> None:
    waiting = Waiting(10_000, 1024, replicas=2)
    entered(waiting, [16] * texts)
    tokenized(waiting)
    assert [len(batch) for batch in batches(waiting)] == sizes


@given(SUBMISSIONS, BUDGETS)
def test_the_batch_with_the_oldest_text_goes_first(submissions: list[list[int]], budget: int) -> None:
    waiting = Waiting(10_000, budget)
    entered(waiting, *submissions)
    tokenized(waiting)
    left = set(range(1, sum(map(len, submissions)) + 1))
    for batch in batches(waiting):
        assert min(left) in {text.number for text in batch}
        left -= {text.number for text in batch}


@given(SUBMISSIONS, SUBMISSIONS, st.integers(0, 5), BUDGETS)
def test_what_was_ready_before_goes_before_what_comes_later(
    first: list[list[int]], second: list[list[int]], taken: int, budget: int
) -> None:
    waiting = Waiting(10_000, budget)
    entered(waiting, *first)
    tokenized(waiting)
    order = [batch for _ in range(taken) if (batch := waiting.next_batch())]
    entered(waiting, *second)
    tokenized(waiting)
    numbers = [text.number for batch in [*order, *batches(waiting)] for text in batch]
    count = sum(map(len, first))
    assert not order or set(numbers[:count]) == set(range(1, count + 1))
    assert sorted(numbers) == [*range(1, len(numbers) + 1)]


@given(SUBMISSIONS, BUDGETS, st.randoms())
def test_a_submission_has_its_answers_in_its_order_whenever_they_come(
    submissions: list[list[int]], budget: int, random: "st.RandomLike"
) -> None:
    waiting = Waiting(10_000, budget)
    made = entered(waiting, *submissions)
    tokenized(waiting)
    texts = [text for batch in batches(waiting) for text in batch]
    random.shuffle(texts)
    finished = list(chain(*(waiting.answer([text], [said(text)]) for text in texts)))
    assert sorted(map(id, finished)) == sorted(id(one) for one in made if one.answers)
    assert [answer for one in made for answer in one.answers] == [Failure(str(n + 1)) for n in range(len(texts))]
    assert (waiting.unanswered, waiting.open) == (0, {})


def test_what_is_known_is_answered_and_takes_no_room() -> None:
    waiting = Waiting(2, 64)
    known = waiting.enter(["a", "b"], [Failure("1"), Failure("2")])
    assert (known.answers, known.left, waiting.unanswered, waiting.open) == ([Failure("1"), Failure("2")], 0, 0, {})
    partly = waiting.enter(["a", "b"], [Failure("1"), None])
    [text] = waiting.to_tokenize()
    assert (text.text, text.index, partly.left, waiting.fits(1), waiting.fits(2)) == ("b", 1, 1, True, False)


def test_no_more_than_a_chunk_is_tokenized_at_a_time() -> None:
    waiting = Waiting(10_000, 64)
    entered(waiting, [1] * (CHUNK + 1))
    assert [len(waiting.to_tokenize()) for _ in range(3)] == [CHUNK, 1, 0]


@given(st.lists(st.integers(1, 40), min_size=2, max_size=40), BUDGETS)
def test_a_batch_that_was_too_much_is_cut_and_what_was_planned_is_planned_anew(lengths: list[int], budget: int) -> None:
    waiting = Waiting(10_000, budget)
    entered(waiting, lengths)
    tokenized(waiting)
    big = waiting.next_batch()
    if len(big) == 1:
        return
    before = waiting.budget
    parts = waiting.shrink(big)
    assert waiting.budget == cost(big) // 2 <= before // 2
    assert len(parts) > 1
    assert sorted(text.number for part in parts for text in part) == sorted(text.number for text in big)
    rest = batches(waiting)
    assert all(cost(batch) <= waiting.budget or len(batch) == 1 for batch in [*parts, *rest])
    assert sorted(text.number for batch in [*parts, *rest] for text in batch) == [*range(1, len(lengths) + 1)]


def test_whoever_is_given_up_is_given_up_once() -> None:
    waiting = Waiting(10_000, 4)
    [one] = entered(waiting, [1] * (CHUNK + 1))
    tokenizing = waiting.to_tokenize()
    assert waiting.drop() == [one]
    waiting.make_ready(tokenizing)
    assert waiting.drop() == []


@pytest.mark.parametrize("stage", ["untokenized", "ready", "planned"])
def test_what_is_given_up_is_nowhere_and_leaves_room(stage: str) -> None:
    waiting = Waiting(10, 4)
    one, other = entered(waiting, [2, 2], [3, 3])
    if stage != "untokenized":
        tokenized(waiting)
    under_way = waiting.next_batch() if stage == "planned" else []
    assert waiting.drop() == ([other] if under_way else [one, other])
    assert waiting.unanswered == len(under_way)
    assert (waiting.to_tokenize(), waiting.next_batch()) == ([], [])
    assert waiting.answer(under_way, map(said, under_way)) == ([one] if under_way else [])
    assert waiting.open == {}
