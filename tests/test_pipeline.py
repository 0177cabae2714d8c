"""Scoring without a broker: one result a record, in order, and a reason for every segment that is not scored."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from builders import NOW, T0
from hypothesis import given
from hypothesis import strategies as st

from models.sentiment import LexiconScorer, Sentiment
from streams.pipeline import Policy, score
from streams.records import Model, Record, Rejected, Scored, Segment, Source
from streams.records import Sentiment as Published


@dataclass
class Listening(LexiconScorer):
    """Remembers what it was asked."""

    asked: list[list[str]] = field(default_factory=list)

    def score(self, texts: Sequence[str]) -> list[Sentiment]:
        self.asked.append(list(texts))
        return [s._replace(truncated="long" in text) for s, text in zip(super().score(texts), texts, strict=True)]


def record(offset: int, value: bytes | None = None, **message: Any) -> Record:
    whole = {"call_id": "c1", "speaker": "customer", "text": f"thanks {offset}"} | message
    return Record("calls.segments", 3, offset, T0 + offset, None, json.dumps(whole).encode() if value is None else value)


DEFAULT = Policy()


def results(*records: Record, policy: Policy = DEFAULT, scorer: Listening | None = None) -> list[Scored | Rejected]:
    return score(records, scorer or Listening(), policy, "topic-1", lambda: NOW)


def test_one_result_a_record_in_order_and_one_call_of_the_scorer() -> None:
    scorer = Listening()
    bad, agent, end = record(1, b"{"), record(2, speaker="agent"), record(3, type="end")
    found = results(record(0, text="awful"), bad, agent, end, record(4, text="perfect, long"), scorer=scorer)
    assert scorer.asked == [["awful", "perfect, long"]]
    assert [isinstance(result, Rejected) for result in found] == [False, True, False, False, False]
    labels = [result.sentiment and result.sentiment.label for result in found if isinstance(result, Scored)]
    assert labels == ["negative", None, None, "positive"]
    assert [result.truncated for result in found if isinstance(result, Scored)] == [False, False, False, True]


def test_a_scored_segment_is_the_input_with_what_the_scorer_says_and_where_it_came_from() -> None:
    (found,) = results(
        record(7, segment_id="s9", start_ms=10, end_ms=20, language="en", attributes={"queue": "q"}, text="awful")
    )
    assert isinstance(found, Scored)
    given_fields = {name: getattr(found, name) for name in Segment.__struct_fields__}
    assert Segment(**given_fields) == Segment(
        call_id="c1", segment_id="s9", speaker="customer", text="awful", start_ms=10, end_ms=20, language="en",
        attributes={"queue": "q"},
    )  # fmt: skip
    assert found.source == Source("topic-1", 3, 7, T0 + 7)
    assert (found.model, found.scored_at, found.skipped) == (Model("lexicon", "1", "exact"), NOW, None)
    raw = LexiconScorer().score(["awful"])[0]
    assert found.sentiment == Published(
        "negative", round(raw.score, 5), round(raw.negative, 5), round(raw.neutral, 5), round(raw.positive, 5)
    )


def test_nothing_to_score_is_no_call_of_the_scorer() -> None:
    scorer = Listening()
    assert len(results(record(0, speaker="agent"), record(1, b"["), scorer=scorer)) == 2
    assert results(scorer=scorer) == []
    assert scorer.asked == []


def test_the_place_in_the_topic_stands_for_a_missing_segment_id() -> None:
    segment, end = results(record(7), record(8, type="end"))
    assert isinstance(segment, Scored)
    assert isinstance(end, Scored)
    assert (segment.segment_id, end.segment_id) == ("3:7", None)


@pytest.mark.parametrize(
    ("policy", "message", "skipped"),
    [
        (DEFAULT, {}, None),
        (DEFAULT, {"speaker": "unknown"}, None),
        (DEFAULT, {"speaker": "agent"}, "speaker"),
        (DEFAULT, {"speaker": "bot", "text": "", "final": False}, "speaker"),
        (DEFAULT, {"final": False, "text": ""}, "partial"),
        (DEFAULT, {"text": " \n"}, "empty"),
        (DEFAULT, {"type": "start"}, "event"),
        (DEFAULT, {"type": "update", "text": "awful"}, "event"),
        (Policy(partials=True), {"final": False}, None),
        (Policy(partials=True), {"final": False, "text": ""}, "empty"),
        (Policy(frozenset({"agent"})), {"speaker": "agent"}, None),
        (Policy(frozenset({"agent"})), {"speaker": "customer"}, "speaker"),
        (Policy(frozenset()), {}, "speaker"),
    ],
)
def test_the_policy_says_what_is_scored_and_why_not(policy: Policy, message: dict[str, Any], skipped: str | None) -> None:
    scorer = Listening()
    (found,) = results(record(0, **message), policy=policy, scorer=scorer)
    assert isinstance(found, Scored)
    assert found.skipped == skipped
    assert (found.sentiment is None) == (skipped is not None) == (scorer.asked == [])


@given(st.binary())
def test_scoring_never_fails_on_what_lies_in_the_topic(value: bytes) -> None:
    assert len(results(record(0), record(1, value), record(2))) == 3
