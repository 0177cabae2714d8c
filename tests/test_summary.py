"""The summary of a call that is over."""

import json

import pytest
from builders import NOW, event, folded, scored

from streams.conversation import epoch_ms
from streams.measures import MEASURES
from streams.records import Quarter, Scored, SpeakerSummary
from streams.summary import speaker_summary, summarise
from streams.wire import decode_summary, encode


def side(speaker: str, first: int, said: dict[int, float]) -> list[Scored]:
    """Turns of one speaker: when they end (ms) and their score."""
    return [
        scored(n, score, speaker=speaker, start_ms=end_ms - 1_000, end_ms=end_ms)
        for n, (end_ms, score) in enumerate(said.items(), start=first)
    ]


# The sample call in Contact Lens's documentation, as far as it is published: the quarters and what they add up to.
CUSTOMER = {3_000: -1.0, 7_000: 0.0, 12_000: 1.0, 15_000: 1.0, 20_000: 1.0, 30_000: 1.0, 32_110: 1.0}
AGENT = {2_000: 0.0, 9_000: -1.0, 13_000: -1.0, 18_000: 0.0, 26_000: 1.0, 29_710: 1.0}


def test_the_published_sample_of_contact_lens() -> None:
    speakers = summarise(folded(side("customer", 0, CUSTOMER) + side("agent", 50, AGENT))).speakers
    assert [q.score for q in speakers["customer"].quarters] == [-2.5, 5, 5, 5]
    assert speakers["customer"].score == 3.1
    assert (speakers["customer"].quarters[0].begin_ms, speakers["customer"].quarters[3].end_ms) == (0, 32_110)
    assert [q.score for q in speakers["agent"].quarters] == [0, -5, 0, 5]
    assert speakers["agent"].score == 0
    assert (speakers["agent"].quarters[0].begin_ms, speakers["agent"].quarters[3].end_ms) == (0, 29_710)


def test_an_empty_quarter_is_null_and_left_out_of_the_score() -> None:
    speaker = summarise(folded(side("customer", 0, {5_000: -1.0, 90_000: 1.0, 100_000: 0.0}))).speakers["customer"]
    assert speaker == SpeakerSummary(
        segments=3,
        negative=1,
        neutral=1,
        positive=1,
        score=-1.2,
        trend=7.5,
        quarters=(
            Quarter(0, 25_000, -5),
            Quarter(25_000, 50_000, None),
            Quarter(50_000, 75_000, None),
            Quarter(75_000, 100_000, 2.5),
        ),
        talk_ms=3_000,
        measures=speaker.measures,
    )


def test_a_speaker_who_was_never_scored_has_counts_and_no_score() -> None:
    speaker = speaker_summary(folded([scored(0, speaker="agent"), scored(1, speaker="agent")]), "agent")
    assert (speaker.segments, speaker.talk_ms) == (2, 8_000)
    assert (speaker.score, speaker.trend, {q.score for q in speaker.quarters}) == (None, None, {None})


@pytest.mark.parametrize(
    ("last", "reason", "ended_by"), [("end", "hangup", "end"), ("end", None, "end"), ("update", None, "silence")]
)
def test_it_says_why_the_call_ended(last: str, reason: str | None, ended_by: str) -> None:
    summary = summarise(folded([scored(0, 1.0), event(1, last, reason=reason)]))
    assert (summary.ended_by, summary.reason) == (ended_by, reason)


def test_it_takes_over_what_the_state_knows() -> None:
    call = folded([event(0, "start", started_at=NOW, channel="chat", attributes={"queue": "sales"}), scored(1), scored(2)])
    summary = summarise(call)
    assert (summary.call_id, summary.channel, summary.attributes) == ("call-1", "chat", {"queue": "sales"})
    assert (summary.started_at, epoch_ms(summary.ended_at) - epoch_ms(NOW)) == (NOW, 24_000)
    assert (summary.at_source, summary.duration_ms, summary.silence_ms, summary.overlap_ms) == (
        "call",
        24_000,
        6_000,
        0,
    )


def test_it_has_all_that_was_measured_by_name_and_where_the_mood_went() -> None:
    summary = summarise(folded([scored(0, speaker="bot"), *(scored(n, (n - 4) / 4) for n in range(1, 8))]))
    customer = summary.speakers["customer"]
    assert customer.measures.items() >= {"turns.scored": 7, "score.last": 0.75, "trend": 0.75, "shift": 1.0}.items()
    assert customer.direction == "improving"
    assert summary.measures.items() >= {"bot.score": 0.0, "bot.repeats": 0, "position_s": 74.0, "silence_s": 42.0}.items()
    assert set(summary.measures) | set(customer.measures) <= set(MEASURES)
    assert decode_summary(encode(summary)) == summary


def test_a_customer_who_was_not_scored_does_not_show_the_measures_of_unknown_speakers() -> None:
    speakers = summarise(folded([scored(0), scored(1, -1, speaker="unknown")])).speakers
    assert (speakers["customer"].measures, speakers["customer"].score) == ({}, None)
    assert speakers["unknown"].measures["score.last"] == -1


def test_a_summary_of_the_release_before_is_read_still() -> None:
    summary = summarise(folded([scored(0, -1)]))
    older = json.loads(encode(summary))
    del older["measures"], older["speakers"]["customer"]["measures"], older["speakers"]["customer"]["direction"]
    assert decode_summary(json.dumps(older).encode()).speakers["customer"].measures == {}
