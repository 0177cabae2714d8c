"""The scorer's agent on batches: what is published, who is blamed, what is skipped, what the log says; and the clock."""

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import TopicAuthorizationFailedError
from lanes import came
from stages import Staged

from models.errors import ScoringError
from models.sentiment import LexiconScorer, Scorer, Sentiment
from streams import agents, pipeline
from streams.agents import Context, Scoring, anchored
from streams.delivery import Event
from streams.errors import PoisonError
from streams.metrics import Counts
from streams.publisher import Outgoing
from streams.settings import Settings
from streams.topics import Found
from streams.wire import decode_scored

NAMES = ("segments", "sentiment", "rejected", "alerts", "summaries", "state")
TOPICS = {name: Found(f"calls.{name}", f"id-of-{name}", 4) for name in NAMES}
NOW_S = 1_000.0
SECRET = "my card number is 4711"


class FakePublisher:
    def __init__(self) -> None:
        self.published: list[Outgoing] = []

    async def publish(self, *steps: Iterable[Outgoing]) -> None:
        self.published += [record for step in steps for record in step]


class Moody(LexiconScorer):
    """Fails on any batch with the secret, and on batches of more than `most`; counts how often it is asked."""

    def __init__(self, most: int = 100) -> None:
        self.most, self.asked = most, 0

    def score(self, texts: Sequence[str]) -> list[Sentiment]:
        self.asked += 1
        if len(texts) > self.most:
            raise MemoryError(f"{len(texts)} at once")
        if SECRET in texts:
            raise RuntimeError("index out of range")
        return super().score(texts)


def event(offset: int, text: str, **given: Any) -> Event:
    value = json.dumps({"call_id": "c", "speaker": "customer", "text": text}).encode()
    return came(offset, **{"key": b"c", "timestamp": round(NOW_S * 500), "value": value} | given)


BATCH = [
    event(5, "terrible"),
    event(6, "junk", value=b"{junk", headers=[("trace", b"1")]),
    event(7, SECRET, headers=[("trace", b"2")]),
    event(8, "wonderful"),
    event(9, SECRET),
]
POISON = "calls.segments:0:7"


def context(*skip: str) -> Context:
    return Context(Settings(), TOPICS, frozenset(skip), clock=lambda: NOW_S)


@contextmanager
def scoring(shared: Context, scorer: Scorer, publisher: FakePublisher, behind: Sequence[Event] = ()) -> Iterator[Scoring]:
    """The agent, whose engine is closed afterwards."""
    made = Scoring(shared, scorer, publisher, lambda: behind)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        asyncio.run(made.stop())


def worked(batch: Sequence[Event], *skip: str, scorer: LexiconScorer | None = None) -> tuple[Context, list[Outgoing]]:
    """What the agent's context is afterwards, and what was published. Everything of the batch is done."""
    shared, publisher = context(*skip), FakePublisher()
    with scoring(shared, scorer or Moody(), publisher) as agent:
        assert asyncio.run(agent.work(batch)) == batch
    return shared, publisher.published


def scores(published: Sequence[Outgoing]) -> dict[int, str]:
    """What lies on calls.sentiment in its order: source offsets and labels."""
    scored = [decode_scored(record.value) for record in published if record.topic == "calls.sentiment"]
    return {s.source.offset: s.sentiment.label for s in scored}  # type: ignore[union-attr]


def test_a_batch_is_published_in_order_with_its_places_and_times() -> None:
    shared, published = worked([*BATCH[:2], event(8, "wonderful", timestamp=2000 * round(NOW_S))])
    assert list(scores(published).items()) == [(5, "negative"), (8, "positive")]
    assert [(record.topic, record.timestamp) for record in published] == [
        ("calls.sentiment", 500_000),
        ("calls.rejected", None),
        ("calls.sentiment", 1_000_000),  # never ahead of the clock
    ]
    first = decode_scored(published[0].value)
    assert (first.source.topic_id, first.source.partition, first.scored_at.timestamp()) == ("id-of-segments", 0, NOW_S)  # type: ignore[union-attr]
    assert (shared.counts.received, shared.counts.scored, shared.counts.rejected) == (3, 2, 1)


def rejections(published: Sequence[Outgoing]) -> list[dict[str, bytes]]:
    """What calls.rejected says about each record there."""
    return [dict(record.headers) for record in published if record.topic == "calls.rejected"]  # type: ignore[arg-type]


def test_a_text_that_the_scorer_fails_on_is_rejected_and_the_others_are_scored_in_order() -> None:
    shared, published = worked(BATCH)
    assert list(scores(published).items()) == [(5, "negative"), (8, "positive")]
    found = [[said[f"callpulse-{name}"] for name in ("offset", "stage", "reason", "detail")] for said in rejections(published)]
    assert [row[0] for row in found] == [b"6", b"7", b"9"]
    assert found[1] == [b"7", b"score", b"scoring_failed", b"RuntimeError"]
    assert (shared.counts.received, shared.counts.scored, shared.counts.rejected) == (5, 2, 3)


@pytest.mark.parametrize("count", [1, 3])
def test_a_scorer_that_fails_on_everything_stops_the_worker_and_nothing_is_published(count: int) -> None:
    publisher = FakePublisher()
    everything = pytest.raises(ScoringError, match="fails on every text: MemoryError")
    with scoring(context(), Moody(most=0), publisher) as agent, everything:
        asyncio.run(agent.work([event(n, "terrible") for n in range(count)]))
    assert publisher.published == []


def test_texts_that_all_fail_are_rejected_where_the_scorer_is_well() -> None:
    _, published = worked([event(1, SECRET), event(2, SECRET, key=b"other")])
    assert [said["callpulse-reason"] for said in rejections(published)] == [b"scoring_failed"] * 2


def test_a_scorer_that_fails_on_whole_batches_only_scores_all_in_the_end() -> None:
    _, published = worked([event(n, "terrible") for n in range(3)], scorer=Moody(most=1))
    assert scores(published) == dict.fromkeys(range(3), "negative")


@pytest.mark.parametrize("function", ["decode", "_assembled", "_rounded"])
def test_a_record_that_our_own_code_fails_on_is_named_and_nothing_is_published(
    monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    whole = getattr(pipeline, function)

    def broken(*given: Any) -> Any:
        if "wonderful" in str(given) or (function == "_rounded" and given[0].label == "positive"):
            raise RuntimeError("index out of range")
        return whole(*given)

    monkeypatch.setattr(pipeline, function, broken)
    publisher = FakePublisher()
    named = pytest.raises(PoisonError, match=r"calls\.segments partition 0 offset 8")
    with scoring(context(), Moody(), publisher) as agent, named as caught:
        asyncio.run(agent.work(BATCH))
    assert caught.value.place == "calls.segments:0:8"
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert publisher.published == []


class Ahead:
    """An agent with what waits behind its batch; `asked` are the texts that the model was given, in its batches."""

    agent_at_work: Scoring

    def __init__(self, *texts: str) -> None:
        self.waiting = [event(n, text) for n, text in enumerate(texts)]
        self.scorer, self.publisher = Staged(budget=10_000), FakePublisher()

    @contextmanager
    def agent(self, **given: Any) -> Iterator[Scoring]:
        with scoring(
            Context(Settings(**given), TOPICS, clock=lambda: NOW_S), self.scorer, self.publisher, self.waiting
        ) as made:
            yield made

    def take(self, count: int) -> list[Event]:
        taken, self.waiting[:count] = self.waiting[:count], []
        return taken

    @property
    def asked(self) -> list[str]:
        return [text for batch in self.scorer.batches for text in batch]


def test_what_waits_is_scored_while_the_batch_is_published_and_published_in_its_own_turn() -> None:
    stage = Ahead("awful", "thanks", "line")
    publish = stage.publisher.publish

    async def slow(*steps: Iterable[Outgoing]) -> None:
        while len(stage.asked) < 3:  # the model goes on though the batch is not delivered
            await asyncio.sleep(0)
        await publish(*steps)

    async def scene(agent: Scoring) -> None:
        stage.publisher.publish = slow  # type: ignore[method-assign]
        await agent.work(stage.take(1))
        assert list(scores(stage.publisher.published)) == [0]
        stage.waiting.append(event(3, "wonderful"))  # has come since
        await agent.work(stage.take(3))

    with stage.agent() as agent:
        asyncio.run(scene(agent))
    assert list(scores(stage.publisher.published)) == [0, 1, 2, 3]
    assert sorted(stage.asked) == ["awful", "line", "thanks", "wonderful"]


def test_what_comes_meanwhile_is_begun_at_once_and_all_that_is_scored_is_the_next_batch() -> None:
    stage = Ahead("awful", "thanks")
    publish = stage.publisher.publish

    async def slow(*steps: Iterable[Outgoing]) -> None:
        for number, text in ((2, "line"), (3, "wonderful")):
            stage.waiting.append(event(number, text))
            stage.agent_at_work.came()
            while len(stage.asked) <= number:
                await asyncio.sleep(0)
        await publish(*steps)

    async def scene(agent: Scoring) -> None:
        stage.agent_at_work, stage.publisher.publish = agent, slow  # type: ignore[method-assign]
        await agent.work(stage.take(1))
        stage.publisher.publish = publish  # type: ignore[method-assign]
        while not all(part.results.done() for part in agent.ahead):
            await asyncio.sleep(0)
        assert len(agent.ahead) == 3
        assert agent.size(stage.waiting) == 3
        await agent.work(stage.take(3))

    with stage.agent() as agent:
        asyncio.run(scene(agent))
    assert list(scores(stage.publisher.published)) == [0, 1, 2, 3]
    assert stage.asked == ["awful", "thanks", "line", "wonderful"]


def test_what_was_scored_ahead_and_is_given_up_is_never_published() -> None:
    stage = Ahead("awful", "thanks", "line")

    async def scene(agent: Scoring) -> None:
        await agent.work(stage.take(1))
        stage.waiting[:] = [event(7, "wonderful", generation=2)]  # a rebalance: 1 and 2 are another's
        await agent.work(stage.take(1))
        await agent.work([event(1, "thanks", generation=3)])  # and come back

    with stage.agent() as agent:
        asyncio.run(scene(agent))
        assert agent.counts.received == 3
        timed = {stage: sum(times.counts) for stage, times in agent.metrics.stages.items()}
    assert timed == {"consumed": 5, "scored": 3, "published": 3, "judged": 0}  # two were taken in and given up
    assert list(scores(stage.publisher.published)) == [0, 7, 1]


def test_no_more_is_scored_ahead_than_the_next_batch_takes() -> None:
    stage = Ahead(*(f"w{n} " + "x" * 400 for n in range(50)))

    async def scene(agent: Scoring) -> None:
        await agent.work(stage.take(1))
        assert sum(len(part.events) for part in agent.ahead) == agent.size(stage.waiting) < 10
        await agent.work(stage.take(agent.size(stage.waiting)))

    stage.scorer.budget = 64
    with stage.agent() as agent:
        asyncio.run(scene(agent))


def test_a_record_ahead_that_our_own_code_fails_on_does_not_stop_the_batch_before(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, decode = Ahead("awful", "unspeakable"), pipeline.decode
    monkeypatch.setattr(pipeline, "decode", lambda value: 1 / 0 if b"unspeakable" in value else decode(value))

    async def scene(agent: Scoring) -> None:
        await agent.work(stage.take(1))
        with pytest.raises(PoisonError, match="offset 1"):
            await agent.work(stage.take(1))

    with stage.agent() as agent:
        asyncio.run(scene(agent))
    assert list(scores(stage.publisher.published)) == [0]


def test_the_counts_say_what_the_model_did_and_what_it_was_spared() -> None:
    stage = Ahead("okay", "line", "okay")

    async def scene(agent: Scoring) -> Counts:
        for _ in range(3):
            last, stage.waiting[1:] = stage.waiting[1:], []
            await agent.work(stage.take(1))
            stage.waiting[:] = last
        return agent.counts

    with stage.agent() as agent:
        counts = asyncio.run(scene(agent))
    assert (counts.scored, counts.cached, counts.batches, counts.tokens) == (3, 1, 2, 2)


def test_what_is_skipped_is_on_rejected_as_it_was_and_the_rest_is_scored_in_order() -> None:
    shared, published = worked(BATCH, POISON, "calls.segments:0:9", "calls.segments:1:5", "calls.sentiment:0:8")
    assert list(scores(published).items()) == [(5, "negative"), (8, "positive")]
    kept = [record for record in published if record.topic == "calls.rejected"]
    assert [dict(record.headers)["callpulse-offset"] for record in kept] == [b"6", b"7", b"9"]
    assert [dict(record.headers)["callpulse-reason"] for record in kept] == [b"not_json", b"skipped", b"skipped"]
    original = BATCH[2]
    assert (kept[1].key, kept[1].value, kept[1].headers[:1]) == (original.key, original.value, (("trace", b"2"),))
    assert dict(kept[1].headers)["callpulse-stage"] == b"score"
    assert (shared.counts.received, shared.counts.scored, shared.counts.rejected) == (5, 2, 3)


def test_a_batch_of_nothing_but_skipped_records_asks_the_scorer_nothing() -> None:
    scorer = Moody()
    _, published = worked([BATCH[2]], POISON, scorer=scorer)
    assert [record.topic for record in published] == ["calls.rejected"]
    assert scorer.asked == 0


def test_a_record_that_is_blamed_is_named_in_the_log_with_the_way_out_and_without_its_text(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, decode = context(), pipeline.decode
    monkeypatch.setattr(pipeline, "decode", lambda value: int(SECRET) if SECRET.encode() in value else decode(value))
    with scoring(shared, Moody(), FakePublisher()) as agent, pytest.raises(PoisonError) as caught:
        asyncio.run(agent.work(BATCH))
    shared.failed(caught.value, BATCH)
    assert (shared.failure, shared.stop.is_set()) == (caught.value, True)
    [said] = caplog.records
    assert said.levelno == logging.CRITICAL
    assert said.getMessage() == (
        "stopping on an unexpected error at calls.segments partition 0 offset 7; "
        f"`callpulse worker --skip {POISON}` sends that record to calls.rejected instead"
    )
    assert "ValueError" in caplog.text  # the cause, with its traceback and without its message, which quotes the text
    assert "4711" not in caplog.text


@pytest.mark.parametrize(
    ("batch", "where"),
    [(BATCH, "in a batch of 5 that begins at calls.segments partition 0 offset 5"), ([], "between batches")],
    ids=["batch", "between"],
)
def test_any_other_error_stops_the_worker_with_where_it_stood(
    batch: list[Event], where: str, caplog: pytest.LogCaptureFixture
) -> None:
    shared = context()
    shared.failed(MemoryError("3 at once"), batch)
    assert isinstance(shared.failure, MemoryError)
    assert shared.stop.is_set()
    [said] = caplog.records
    assert said.getMessage() == f"stopping on an unexpected error {where}"
    assert "MemoryError: 3 at once" in caplog.text
    assert "--skip" not in caplog.text
    assert "4711" not in caplog.text


def test_a_right_that_is_missing_is_said_in_words_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    context().failed(TopicAuthorizationFailedError("calls.segments"), [])
    assert "stopping between batches: the broker denies Read on topic calls.segments" in caplog.text
    assert "Traceback" not in caplog.text


def test_the_clock_begins_with_the_wall_s_and_is_not_moved_when_that_one_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    world = SimpleNamespace(time=lambda: 5_000.0, monotonic=lambda: 70.0)
    monkeypatch.setattr(agents, "time", world)
    clock = anchored()
    assert clock() == 5_000.0
    for wall in (8_600.0, 1_400.0):  # an hour forth, an hour back
        world.time = lambda wall=wall: wall
        assert clock() == 5_000.0
    world.monotonic = lambda: 82.5
    assert clock() == 5_012.5
    assert anchored()() == 1_400.0
