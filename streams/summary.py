"""A call that is over, as its Summary. Pure.

The scale is Contact Lens's: -5 to 5 a quarter of a speaker's time, the overall score the mean of the quarters that have one.
A quarter's score is 5 x (positive - negative) / scored turns. What else was measured goes by its name in `measures`.
"""

from streams.conversation import Conversation
from streams.measures import band, measured, side
from streams.records import Quarter, RaisedAlert, SpeakerSummary, Summary
from streams.timeline import Timeline


def summarise(call: Conversation) -> Summary:
    """The summary of a call as its last state left it."""
    return Summary(
        call_id=call.call_id,
        channel=call.channel,
        started_at=call.at(0),
        ended_at=call.at(call.at_ms),
        at_source=call.origin,
        ended_by="end" if call.ended_clock is not None else "silence",
        reason=call.reason,
        duration_ms=call.at_ms,
        speakers={name: speaker_summary(call, name) for name in sorted(call.voices)},
        silence_ms=call.silence_ms,
        overlap_ms=call.overlap_ms,
        alerts=tuple(RaisedAlert(e.alert_id, e.rule.name, e.severity, e.opened_ms) for e in call.episodes),
        attributes=call.attributes,
        measures=measured(call, None),
    )


def speaker_summary(call: Conversation, name: str) -> SpeakerSummary:
    voice = call.voices[name]
    quarters = tuple(Quarter(*quarter) for quarter in call.timelines.get(name, Timeline()).quarters(voice.end_ms))
    scores = [quarter.score for quarter in quarters if quarter.score is not None]
    measures = measured(call, name) if side(call, name) == name else {}  # else they are those of unknown speakers
    return SpeakerSummary(
        segments=voice.segments,
        negative=voice.negative,
        neutral=voice.neutral,
        positive=voice.positive,
        score=round(sum(scores) / len(scores), 1) if scores else None,
        trend=round(scores[-1] - scores[0], 1) if scores else None,
        quarters=quarters,
        talk_ms=voice.talk_ms,
        measures=measures,
        direction=band(measures["trend"]) if "trend" in measures else None,
    )
