"""The scorer's agent on batches: what is published, who is blamed, what is skipped, what the log says; and the clock."""

import asyncio
import json
import logging
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import TopicAuthorizationFailedError
from lanes import FakeEvent, FakeMessage

from models.sentiment import LexiconScorer, Sentiment
from streams import agents
from streams.agents import Context, Scoring, anchored
from streams.errors import PoisonError
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


def event(offset: int, text: str, **given: Any) -> FakeEvent:
    value = json.dumps({"call_id": "c", "speaker": "customer", "text": text}).encode()
    return FakeEvent(FakeMessage(offset, **{"key": b"c", "timestamp": NOW_S / 2, "value": value} | given))


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


def worked(batch: Sequence[FakeEvent], *skip: str, scorer: LexiconScorer | None = None) -> tuple[Context, list[Outgoing]]:
    """What the agent's context is afterwards, and what was published. Everything of the batch is done."""
    shared, publisher = context(*skip), FakePublisher()
    scoring = Scoring(shared, scorer or Moody(), publisher)  # type: ignore[arg-type]
    try:
        assert asyncio.run(scoring.work(batch)) == batch
    finally:
        scoring.thread.shutdown()
        if not publisher.published:
            assert shared.counts.received == 0
    return shared, publisher.published


def scores(published: Sequence[Outgoing]) -> dict[int, str]:
    """What lies on calls.sentiment in its order: source offsets and labels."""
    scored = [decode_scored(record.value) for record in published if record.topic == "calls.sentiment"]
    return {s.source.offset: s.sentiment.label for s in scored}  # type: ignore[union-attr]


def test_a_batch_is_published_in_order_with_its_places_and_times() -> None:
    shared, published = worked([*BATCH[:2], event(8, "wonderful", timestamp=2 * NOW_S)])
    assert list(scores(published).items()) == [(5, "negative"), (8, "positive")]
    assert [(record.topic, record.timestamp) for record in published] == [
        ("calls.sentiment", 500_000),
        ("calls.rejected", None),
        ("calls.sentiment", 1_000_000),  # never ahead of the clock
    ]
    first = decode_scored(published[0].value)
    assert (first.source.topic_id, first.source.partition, first.scored_at.timestamp()) == ("id-of-segments", 0, NOW_S)  # type: ignore[union-attr]
    assert (shared.counts.received, shared.counts.scored, shared.counts.rejected) == (3, 2, 1)


def test_the_first_record_that_the_scorer_fails_on_is_named_and_nothing_is_published() -> None:
    publisher = FakePublisher()
    scoring = Scoring(context(), Moody(), publisher)  # type: ignore[arg-type]
    with pytest.raises(PoisonError, match=r"calls\.segments partition 0 offset 7") as caught:
        asyncio.run(scoring.work(BATCH))
    scoring.thread.shutdown()
    assert caught.value.place == POISON
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert publisher.published == []


def test_what_is_skipped_is_on_rejected_as_it_was_and_the_rest_is_scored_in_order() -> None:
    shared, published = worked(BATCH, POISON, "calls.segments:0:9", "calls.segments:1:5", "calls.sentiment:0:8")
    assert list(scores(published).items()) == [(5, "negative"), (8, "positive")]
    kept = [record for record in published if record.topic == "calls.rejected"]
    assert [dict(record.headers)["callpulse-offset"] for record in kept] == [b"6", b"7", b"9"]
    assert [dict(record.headers)["callpulse-reason"] for record in kept] == [b"not_json", b"skipped", b"skipped"]
    original = BATCH[2].message
    assert (kept[1].key, kept[1].value, kept[1].headers[:1]) == (original.key, original.value, (("trace", b"2"),))
    assert dict(kept[1].headers)["callpulse-stage"] == b"score"
    assert (shared.counts.received, shared.counts.scored, shared.counts.rejected) == (5, 2, 3)


def test_a_batch_of_nothing_but_skipped_records_asks_the_scorer_nothing() -> None:
    scorer = Moody()
    _, published = worked([BATCH[2]], POISON, scorer=scorer)
    assert [record.topic for record in published] == ["calls.rejected"]
    assert scorer.asked == 0


def test_a_scorer_that_fails_on_the_whole_batch_only_has_the_original_error_raised() -> None:
    with pytest.raises(MemoryError, match="3 at once"):
        worked([event(n, "terrible") for n in range(3)], scorer=Moody(most=1))


def test_blame_is_given_up_when_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "BLAME_S", -1)
    scorer = Moody()
    with pytest.raises(RuntimeError, match="out of range"):
        worked(BATCH, scorer=scorer)
    assert scorer.asked == 1


def test_a_record_that_is_blamed_is_named_in_the_log_with_the_way_out_and_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shared = context()
    scoring = Scoring(shared, Moody(), FakePublisher())  # type: ignore[arg-type]
    with pytest.raises(PoisonError) as caught:
        asyncio.run(scoring.work(BATCH))
    scoring.thread.shutdown()
    shared.failed(caught.value, [event.message for event in BATCH])
    assert (shared.failure, shared.stop.is_set()) == (caught.value, True)
    [said] = caplog.records
    assert said.levelno == logging.CRITICAL
    assert said.getMessage() == (
        "stopping on an unexpected error at calls.segments partition 0 offset 7; "
        f"`callpulse worker --skip {POISON}` sends that record to calls.rejected instead"
    )
    assert "RuntimeError: index out of range" in caplog.text  # the cause, with its traceback
    assert "score(" in caplog.text
    assert "4711" not in caplog.text


@pytest.mark.parametrize(
    ("batch", "where"),
    [(BATCH, "in a batch of 5 that begins at calls.segments partition 0 offset 5"), ([], "between batches")],
    ids=["batch", "between"],
)
def test_any_other_error_stops_the_worker_with_where_it_stood(
    batch: list[FakeEvent], where: str, caplog: pytest.LogCaptureFixture
) -> None:
    shared = context()
    shared.failed(MemoryError("3 at once"), [event.message for event in batch])
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
