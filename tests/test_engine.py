"""The engine on its threads: answers in order whatever fails, a bound, a cache, memory that runs out, an end."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import pytest
from checkpoints import TEXTS, load, save_classifier
from hypothesis import given, settings
from hypothesis import strategies as st
from stages import STAGES, Staged

from models.engine import Engine
from models.errors import BusyError, ClosedError, ScoringError
from models.line import AHEAD
from models.sentiment import LexiconScorer, Sentiment
from models.staged import Failure, Result
from models.waiting import LEAST, Waiting

PATIENCE = 20
WORDS = st.sampled_from(["awful", "thanks", "line", "long", "bad1", "bad2", "bad3"])
SENTENCES = st.lists(WORDS, max_size=6).map(" ".join)
SUBMISSIONS = st.lists(st.lists(SENTENCES, max_size=8), max_size=6)
POISONS = st.fixed_dictionaries({}, optional=dict(zip(STAGES, map(st.just, ("bad1", "bad2", "bad3")), strict=True)))


def expected(text: str, poison: dict[str, str]) -> Result:
    bad = any(word in text.split() for word in poison.values())
    return Failure("ValueError") if bad else LexiconScorer().score([text])[0]


def answers(future: "Future[list[Result]]") -> list[Result]:
    return future.result(PATIENCE)


@settings(max_examples=60)
@given(SUBMISSIONS, POISONS, st.integers(1, 40), st.integers(1, 40), st.sampled_from([0, 3]))
def test_every_text_is_answered_once_in_order_whatever_fails(
    submissions: list[list[str]], poison: dict[str, str], budget: int, memory: int, cache: int
) -> None:
    scorer = Staged(budget=budget, memory=max(memory, 6), poison=poison)
    with Engine(scorer, cache=cache) as engine:
        futures = [engine.submit(texts) for texts in submissions]
        found = [answers(future) for future in futures]
        figures = engine.figures
    assert found == [[expected(text, poison) for text in texts] for texts in submissions]
    assert figures.failed == sum(isinstance(result, Failure) for results in found for result in results)
    assert figures.waiting == 0
    sizes = engine.batch_texts, engine.batch_tokens
    assert [(sum(of.counts), of.sum) for of in sizes] == [(figures.batches, figures.texts), (figures.batches, figures.tokens)]
    for batch in scorer.batches:
        assert len(batch) == 1 or len(batch) * max(map(scorer.length, batch)) <= budget


@settings(max_examples=30)
@given(SUBMISSIONS, st.integers(1, 10))
def test_no_more_wait_than_may(submissions: list[list[str]], bound: int) -> None:
    scorer = Staged()
    scorer.gate.clear()
    waiting, taken = 0, []
    with Engine(scorer, bound=bound, cache=0) as engine:
        for texts in submissions:
            if waiting + len(texts) <= bound:
                taken.append((texts, engine.submit(texts)))
                waiting += len(texts)
            else:
                with pytest.raises(BusyError, match=f"{waiting} of {bound} wait"):
                    engine.submit(texts)
            assert engine.figures.waiting == waiting
        scorer.gate.set()
        assert all(answers(future) == LexiconScorer().score(texts) for texts, future in taken)


@given(st.lists(SENTENCES, max_size=30), st.integers(1, 9))
def test_whoever_can_wait_is_given_room(texts: list[str], bound: int) -> None:
    with Engine(Staged(), bound=bound, cache=0) as engine, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(engine.score, texts) for _ in range(3)]
        assert [one.result(PATIENCE) for one in asked] == [LexiconScorer().score(texts)] * 3


def test_what_waits_is_taken_together_when_the_model_is_free() -> None:
    scorer = Staged(budget=4)
    scorer.gate.clear()
    with Engine(scorer, cache=0) as engine:
        first = engine.submit(["awful"])
        assert scorer.begun.acquire(timeout=PATIENCE)
        later = [engine.submit([f"line {n}"]) for n in range(3)]
        with engine._changed:
            assert engine._changed.wait_for(lambda: len(engine._waiting.ready) == 3, PATIENCE)
        scorer.gate.set()
        for future in [first, *later]:
            answers(future)
    assert scorer.batches == [["awful"], ["line 0", "line 1"], ["line 2"]]


def test_no_more_batches_are_given_to_a_device_than_it_needs() -> None:
    scorer, computing, go = Staged(budget=1), threading.Event(), threading.Event()

    def slow(logits: Sequence[str]) -> None:
        computing.set()
        assert go.wait(PATIENCE)

    scorer.wait = slow  # type: ignore[method-assign]
    with Engine(scorer, cache=0) as engine:
        future = engine.submit([f"w{n}" for n in range(8)])
        assert computing.wait(PATIENCE)
        with engine._changed:
            assert engine._changed.wait_for(lambda: engine._line.under_way == 1 + AHEAD, PATIENCE)
        assert len(scorer.batches) == 1 + AHEAD
        go.set()
        assert len(answers(future)) == 8


def test_replicas_compute_at_once_each_on_a_thread_of_its_own() -> None:
    scorer = Staged(budget=64, replicas=2)
    scorer.gate.clear()
    with Engine(scorer, cache=0) as engine:
        future = engine.submit([f"line {n}" for n in range(200)])
        assert scorer.begun.acquire(timeout=PATIENCE)
        assert scorer.begun.acquire(timeout=PATIENCE)  # neither has got through the gate
        scorer.gate.set()
        assert len(answers(future)) == 200
    assert len(scorer.threads) == 2
    assert sum(map(len, scorer.batches)) == 200


def test_a_few_texts_wait_for_the_pass_under_way_and_many_do_not() -> None:
    scorer = Staged(budget=1024, replicas=2)
    scorer.gate.clear()
    with Engine(scorer, cache=0) as engine:
        first = engine.submit(["awful"])
        assert scorer.begun.acquire(timeout=PATIENCE)
        few = [engine.submit([f"w{n}"]) for n in range(9)]
        with engine._changed:
            assert engine._changed.wait_for(lambda: len(engine._waiting.ready) == 9, PATIENCE)
            assert not engine._line._free()
        many = engine.submit(["line by line"] * LEAST)
        assert scorer.begun.acquire(timeout=PATIENCE)
        scorer.gate.set()
        assert all(len(answers(future)) == 1 for future in (first, *few))
        assert len(answers(many)) == LEAST
    shortest, *others = sorted(scorer.batches, key=len)  # whichever thread came first through the gate
    assert shortest == ["awful"]
    assert min(map(len, others)) > 1


def test_memory_that_runs_out_halves_the_budget_for_good_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    scorer = Staged(budget=16, memory=5)
    with Engine(scorer, cache=0) as engine:
        assert not any(isinstance(result, Failure) for result in answers(engine.submit(["line"] * 16)))
        asked = len(scorer.batches)
        answers(engine.submit(["line"] * 16))
    assert max(map(len, scorer.batches[asked:])) == 4
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory with 16 texts: 8 padded tokens a batch now (--batch-tokens)",
        "out of memory with 8 texts: 4 padded tokens a batch now (--batch-tokens)",
    ]


def test_a_text_that_alone_is_too_much_for_the_memory_is_a_failure() -> None:
    with Engine(Staged(budget=16, memory=3), cache=0) as engine:
        found = answers(engine.submit(["line", "one two three four", "line"]))
    assert [isinstance(result, Failure) for result in found] == [False, True, False]
    assert found[1] == Failure("OutOfMemoryError")


def test_a_failure_is_said_once_with_its_place_and_without_the_text(caplog: pytest.LogCaptureFixture) -> None:
    with Engine(Staged(poison={"forward": "bad"})) as engine:
        answers(engine.submit(["bad secret"] * 4))
    [said] = caplog.records
    assert said.levelno == logging.WARNING
    assert "ValueError at " in said.getMessage()
    assert "stages.py" in said.getMessage()
    assert "secret" not in caplog.text


def test_score_raises_where_a_text_fails_and_does_not_quote_it() -> None:
    with Engine(Staged(poison={"forward": "bad"})) as engine:
        with pytest.raises(ScoringError, match="ValueError") as caught:
            engine.score(["thanks", "bad secret"])
        assert "secret" not in str(caught.value)
        assert engine.score(["thanks"]) == LexiconScorer().score(["thanks"])


@pytest.mark.parametrize("stage", ["forward", "decode"])
def test_too_few_answers_are_never_shifted_onto_other_texts(stage: str) -> None:
    scorer = Staged()
    whole = getattr(scorer, stage)
    setattr(scorer, stage, lambda rows, *rest: whole(rows, *rest)[: max(1, len(rows) - 1)])
    with Engine(scorer, cache=0) as engine:
        assert engine.score(["awful", "thanks", "line"]) == LexiconScorer().score(["awful", "thanks", "line"])


def test_a_score_that_is_no_number_is_a_failure() -> None:
    scorer, nothing = Staged(), float("nan")
    scorer.decode = lambda logits, _: [Sentiment("negative", nothing, nothing, nothing, nothing)] * len(logits)  # type: ignore[method-assign]
    with Engine(scorer) as engine:
        assert answers(engine.submit(["thanks"] * 2)) == [Failure("NaN")] * 2


def test_a_text_that_was_scored_is_not_scored_again() -> None:
    scorer = Staged()
    with Engine(scorer, cache=2) as engine:
        first = engine.score(["okay", "thanks long"])
        assert engine.score(["thanks long", "okay"]) == first[::-1]
        assert (len(scorer.batches), engine.figures.cached) == (1, 2)
        assert answers(engine.submit(["okay"], fresh=True)) == first[:1]
        assert (len(scorer.batches), engine.figures.cached) == (2, 2)


def test_failures_are_not_remembered_and_without_a_cache_nothing_is() -> None:
    scorer = Staged(poison={"forward": "bad"})
    with Engine(scorer) as engine:
        assert answers(engine.submit(["bad"])) == [Failure("ValueError")]
        scorer.poison = {}
        assert isinstance(answers(engine.submit(["bad"]))[0], Sentiment)
    with Engine(scorer, cache=0) as engine:
        assert engine.score(["okay"]) == engine.score(["okay"])
        assert (engine.figures.batches, engine.figures.cached) == (2, 0)


@contextmanager
def held(scorer: Staged) -> Iterator[tuple[Engine, list["Future[list[Result]]"]]]:
    """An engine whose model is at the first of two submissions until the gate is opened."""
    scorer.gate.clear()
    engine = Engine(scorer, cache=0)
    futures = [engine.submit(["awful"])]
    assert scorer.begun.acquire(timeout=PATIENCE)
    futures.append(engine.submit(["thanks", "line"]))
    yield engine, futures
    assert [thread for thread in engine._line.threads if thread.is_alive()] == []


@pytest.mark.parametrize("finish", [True, False])
def test_closing_finishes_or_cancels_what_waits_and_ends_the_threads(finish: bool) -> None:
    scorer = Staged()
    with held(scorer) as (engine, futures):
        closing = threading.Thread(target=engine.close, kwargs={"finish": finish})
        closing.start()
        with engine._changed:
            assert engine._changed.wait_for(lambda: engine._line.over, PATIENCE)
        if not finish:
            with pytest.raises(CancelledError):
                answers(futures[1])
        scorer.gate.set()
        closing.join(PATIENCE)
        assert isinstance(answers(futures[0])[0], Sentiment)
        assert futures[1].cancelled() != finish
        assert futures[1].done()
        with pytest.raises(ClosedError):
            engine.submit(["thanks"])
        with pytest.raises(ClosedError):
            engine.score(["thanks"])
    engine.close()  # once more does nothing


def test_whoever_waits_for_room_or_answers_is_told_of_the_end() -> None:
    scorer = Staged()
    scorer.gate.clear()
    engine = Engine(scorer, bound=4, cache=0)
    first = engine.submit(["awful"])
    assert scorer.begun.acquire(timeout=PATIENCE)
    with ThreadPoolExecutor(2) as pool:
        waits = pool.submit(engine.score, ["line"] * 9)
        with engine._changed:
            assert engine._changed.wait_for(lambda: engine._waiting.unanswered == 4, PATIENCE)
        closed = pool.submit(engine.close, finish=False)
        with pytest.raises(ClosedError):
            waits.result(PATIENCE)
        scorer.gate.set()
        closed.result(PATIENCE)
    assert len(answers(first)) == 1


def test_whoever_waits_for_a_future_that_is_given_up_is_told() -> None:
    scorer = Staged(budget=1)
    with held(scorer) as (engine, futures), ThreadPoolExecutor(1) as pool:
        closed = pool.submit(engine.close, finish=False)
        assert wait(futures[1:], PATIENCE).done == set(futures[1:])
        scorer.gate.set()
        closed.result(PATIENCE)


def test_replicas_that_wait_for_room_end_when_decoding_fails_for_good() -> None:
    scorer, go, told = Staged(budget=1, replicas=2), threading.Event(), threading.Event()
    taken, tokenize = threading.Event(), scorer.tokenize

    def slow(texts: Sequence[str]) -> tuple[list[str], list[bool]]:
        if "late" in texts:
            taken.set()
            assert told.wait(PATIENCE)
        return tokenize(texts)

    def broken(*_: object) -> list[Sentiment]:
        assert go.wait(PATIENCE)
        raise SystemExit

    scorer.tokenize, scorer.decode = slow, broken  # type: ignore[method-assign]
    engine = Engine(scorer, cache=0)
    engine.submit([f"w{n}" for n in range(9)])
    with engine._changed:
        assert engine._changed.wait_for(lambda: engine._line.under_way >= 2 + AHEAD, PATIENCE)
    late = engine.submit(["late"])
    assert taken.wait(PATIENCE)
    go.set()
    with pytest.raises(ScoringError, match="SystemExit"):
        answers(late)
    with engine._changed:
        assert engine._line._free()  # whoever waited for room is let on, though nothing is decoded any more
    told.set()  # what becomes ready now is left to nobody
    for thread in engine._line.threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_submission_that_was_cancelled_troubles_nobody() -> None:
    scorer = Staged()
    with held(scorer) as (engine, futures):
        assert futures[1].cancel()
        scorer.gate.set()
        assert len(answers(futures[0])) == 1
        assert engine.score(["thanks"]) == LexiconScorer().score(["thanks"])
        engine.close()


def test_an_engine_that_fails_itself_tells_whoever_waits(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Waiting, "next_batch", lambda _: 1 / 0)
    with Engine(Staged(), cache=0) as engine:
        with pytest.raises(ScoringError, match="the engine has failed: ZeroDivisionError"):
            answers(engine.submit(["thanks"]))
        with pytest.raises(ScoringError, match="the engine has failed"):
            engine.submit(["thanks"])
    assert "the engine has failed" in caplog.text


def test_an_event_loop_awaits_a_submission() -> None:
    async def scene(engine: Engine) -> list[list[Result]]:
        return await asyncio.gather(*(asyncio.wrap_future(engine.submit([text])) for text in ("awful", "thanks")))

    with Engine(LexiconScorer()) as engine:
        assert asyncio.run(scene(engine)) == [LexiconScorer().score([text]) for text in ("awful", "thanks")]


def test_a_checkpoint_scores_through_the_engine_as_without_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    scorer = load(save_classifier(tmp_path_factory.mktemp("checkpoint")), budget=32)
    texts = [*TEXTS, "awful " * 100] * 3
    with Engine(scorer, cache=0) as engine:
        for one, other in zip(engine.score(texts), scorer.score(texts), strict=True):
            assert (one.label, one.truncated) == (other.label, other.truncated)
            assert one.score == pytest.approx(other.score, abs=1e-5)
        assert engine.figures.batches > 1


def test_the_time_in_forward_passes_is_added_up_and_so_is_that_in_which_a_device_had_one() -> None:
    scorer = Staged()
    scorer.gate.clear()
    began = time.monotonic()
    with Engine(scorer) as engine:
        future = engine.submit(["awful"])
        assert scorer.begun.acquire(timeout=PATIENCE)
        time.sleep(0.05)
        scorer.gate.set()
        answers(future)
        engine.score(["thanks"])
    took, figures = time.monotonic() - began, engine.figures
    assert 0.05 <= figures.forward_s <= took
    assert 0 < figures.busy_s <= took
    assert figures.busy_s < figures.forward_s  # a pass that gives its logits at once leaves nothing to a device
