"""What can be measured in a call at any time, by name: the words of the rule language and of the summary. Pure.

A measure is read in constant time from what the state holds; it has its unit, its range and one sentence in MEASURES.
Scores lie in [-1, 1]; only the two measures in points are on Contact Lens's scale of -5 to 5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

from streams.conversation import Conversation
from streams.course import PART, Mood, Voice
from streams.quotes import CUSTOMER_SIDE
from streams.records import LONGEST_MS, Band
from streams.timeline import Timeline
from streams.turns import Turn

STEADY = 0.25
"""How far a trend may be from 0 and still be called steady."""
ENOUGH_TALK_MS = 5_000  # words per minute of less say nothing
Read = Callable[[Conversation, str], float | None]


@dataclass(frozen=True, slots=True)
class Measure:
    """`read(call, speaker)` gives a number in `low`..`high`, or None where there is nothing to measure yet. A measure that is
    not `per_speaker` is the same for all; "customer" stands for unknown speakers where no customer was scored."""

    name: str
    unit: str
    low: float
    high: float
    about: str
    per_speaker: bool
    read: Read


def window(
    call: Conversation, speaker: str | None, *, turns: int | None = None, seconds: float | None = None, scored: bool = True
) -> tuple[Turn, ...]:
    """The last turns of a speaker (None: of all), at most `turns` of them, that end within `seconds` before call.at_ms; only
    the scored ones unless told otherwise. Reaches back as far as Conversation.turns."""
    name = side(call, speaker) if speaker else None
    since = 0.0 if seconds is None else call.at_ms - 1000 * seconds
    found = (
        turn
        for turn in reversed(call.turns)
        if (name is None or turn.speaker == name) and turn.end_ms >= since and (turn.score is not None or not scored)
    )
    return tuple(islice(found, turns))[::-1]


def side(call: Conversation, speaker: str) -> str:
    """Whose turns stand for this speaker's: "unknown" for the customer where no customer was scored."""
    if speaker != "customer":
        return speaker
    voices = call.course.voices
    for name in CUSTOMER_SIDE:
        if name in voices and voices[name].scored:
            return name
    return speaker


def band(trend: float) -> Band:
    """A trend in a word."""
    return "worsening" if trend <= -STEADY else "improving" if trend >= STEADY else "steady"


def measured(call: Conversation, speaker: str | None) -> dict[str, float]:
    """All that can be said of a speaker, or of the call as a whole (None), by name, to three decimals."""
    read = {m.name: m.read(call, speaker or "customer") for m in MEASURES.values() if m.per_speaker == (speaker is not None)}
    return {name: round(value, 3) for name, value in read.items() if value is not None}


def _of_voice(read: Callable[[Voice], float | None]) -> Read:
    """None of a speaker who has not spoken."""

    def of(call: Conversation, speaker: str) -> float | None:
        voice = call.voices.get(side(call, speaker))
        return None if voice is None else read(voice)

    return of


def _of_mood(read: Callable[[Mood], float | None]) -> Read:
    """None of a speaker who was not scored."""
    return _of_voice(lambda voice: read(voice.mood) if voice.scored else None)


def _trend(mood: Mood) -> float | None:
    """The mean of the last three turns less that of the three before; of four or five turns, of their halves."""
    if len(mood.latest) < 4:
        return None
    half = len(mood.latest) // 2
    return _mean(mood.latest[-half:]) - _mean(mood.latest[:-half])


def _shift(mood: Mood) -> float | None:
    return _mean(mood.latest[-PART:]) - mood.first / PART if mood.since >= 2 * PART else None


def _mean(scores: tuple[float, ...]) -> float:
    return sum(scores) / len(scores)


def _average(total: tuple[float, int]) -> float | None:
    return total[0] / total[1] if total[1] else None


def _streak(label: str) -> Read:
    return _of_mood(lambda mood: mood.streak if mood.streak_label == label else 0)


def _last(turns: int) -> Read:
    """The mean of the last turns; at most so many, all of one revision."""
    return _of_mood(lambda mood: _mean(mood.latest[-turns:]))


def _quarters(call: Conversation, speaker: str) -> list[float]:
    """The scores of the filled quarters."""
    name = side(call, speaker)
    if name not in call.timelines:
        return []
    quarters = call.timelines.get(name, Timeline()).quarters(call.voices[name].end_ms)
    return [score for _, _, score in quarters if score is not None]


def _quarter(call: Conversation, speaker: str) -> float | None:
    return next(reversed(_quarters(call, speaker)), None)


def _overall(call: Conversation, speaker: str) -> float | None:
    quarters = _quarters(call, speaker)
    return sum(quarters) / len(quarters) if quarters else None


def _talk_share(call: Conversation, speaker: str) -> float | None:
    voice, talked = call.voices.get(side(call, speaker)), sum(voice.talk_ms for voice in call.voices.values())
    return voice.talk_ms / talked if voice is not None and talked else None


def _wpm(voice: Voice) -> float | None:
    """None where nothing was said in words that were published (--no-text)."""
    return 60_000 * voice.words / voice.talk_ms if voice.talk_ms >= ENOUGH_TALK_MS and voice.words else None


def _since_spoke(call: Conversation, speaker: str) -> float | None:
    ends = [call.voices[name].end_ms for name in _names(speaker) if name in call.voices]
    return (call.at_ms - max(ends)) / 1000 if ends else None


def _names(speaker: str) -> tuple[str, ...]:
    """Any of the customer's side has spoken when one of them has, scored or not."""
    return CUSTOMER_SIDE if speaker == "customer" else (speaker,)


def _of_call(read: Callable[[Conversation], float | None]) -> Read:
    return lambda call, _: read(call)


def _handover(call: Conversation) -> float | None:
    at = call.course.handover_ms
    return None if at is None else at / 1000


def _with_bot(call: Conversation) -> float | None:
    return _of_voice(lambda voice: _average(voice.with_bot))(call, "customer")


def _with_agent(call: Conversation) -> float | None:
    return _of_voice(lambda voice: _average(voice.with_agent))(call, "customer")


def _repeats(call: Conversation) -> float | None:
    return call.course.repeats if "bot" in call.voices else None


def _spoken(call: Conversation, value: float) -> float | None:
    return value / 1000 if call.voices else None


LONGEST_S = LONGEST_MS / 1000
MANY = 1e9
_SPEAKER = (
    ("score.mean", "score", -1, 1, "Mean score of the speaker's turns.", _of_voice(lambda v: v.mean if v.scored else None)),
    ("score.ewma", "score", -1, 1, "Weighted score: starts at 0, each turn counts 0.3 and what was before 0.7.",
     _of_mood(lambda m: m.ewma)),
    ("score.last", "score", -1, 1, "Score of the speaker's last turn.", _last(1)),
    ("score.last3", "score", -1, 1, "Mean score of the speaker's last three turns (of one model revision).", _last(3)),
    ("score.last5", "score", -1, 1, "Mean score of the speaker's last five turns (of one model revision).", _last(5)),
    ("score.low", "score", -1, 1, "The lowest that the weighted score has been.", _of_mood(lambda m: m.low)),
    ("score.quarter", "points", -5, 5, "Score of the latest quarter of the speaker's time that has one.", _quarter),
    ("score.overall", "points", -5, 5, "Mean of the quarters of the speaker's time that have one.", _overall),
    ("trend", "score", -2, 2, "Mean of the last three turns less that of the three before (halves of four or five).",
     _of_mood(_trend)),
    ("shift", "score", -2, 2, "Mean of the last three turns less that of the first three, from the sixth turn on.",
     _of_mood(_shift)),
    ("recovery", "score", 0, 2, "How far the weighted score has risen from its lowest.", _of_mood(lambda m: m.ewma - m.low)),
    ("streak.negative", "turns", 0, MANY, "Negative turns in a row up to now.", _streak("negative")),
    ("streak.positive", "turns", 0, MANY, "Positive turns in a row up to now.", _streak("positive")),
    ("streak.negative_longest", "turns", 0, MANY, "The most negative turns in a row so far.", _of_mood(lambda m: m.longest)),
    ("turns.said", "turns", 0, MANY, "Turns of the speaker, scored or not.", _of_voice(lambda v: v.segments)),
    ("turns.scored", "turns", 0, MANY, "Turns of the speaker that were scored.", _of_voice(lambda v: v.scored)),
    ("turns.negative", "turns", 0, MANY, "Turns of the speaker that were negative.", _of_voice(lambda v: v.negative)),
    ("turns.positive", "turns", 0, MANY, "Turns of the speaker that were positive.", _of_voice(lambda v: v.positive)),
    ("talk_s", "s", 0, LONGEST_S, "Time in which the speaker spoke.", _of_voice(lambda v: v.talk_ms / 1000)),
    ("talk_share", "share", 0, 1, "The speaker's part of everybody's talk.", _talk_share),
    ("wpm", "words/min", 0, MANY, "Words a minute of the speaker's talk, after five seconds of it.", _of_voice(_wpm)),
    ("interruptions", "times", 0, MANY,
     "How often the speaker began 0.5 s or more before another had stopped, and went on longer.",
     _of_voice(lambda v: v.interruptions)),
    ("since_spoke_s", "s", 0, LONGEST_S, "Time since the speaker's last word, up to the last word of all.", _since_spoke),
)  # fmt: skip
_CALL = (
    ("position_s", "s", 0, LONGEST_S, "Time from the call's start to the end of what was said last.",
     lambda c: c.at_ms / 1000),
    ("duration_s", "s", 0, LONGEST_S, "Time from the first word to the end of what was said last.",
     lambda c: _spoken(c, c.at_ms - c.course.talk.first_ms)),
    ("silence_s", "s", 0, LONGEST_S, "Time in which nobody spoke since the first word.", lambda c: _spoken(c, c.silence_ms)),
    ("overlap_s", "s", 0, 5 * LONGEST_S, "Time in which two spoke at once.", lambda c: _spoken(c, c.overlap_ms)),
    ("since_customer_spoke_s", "s", 0, LONGEST_S, "Time since the customer's last word, up to the last word of all.",
     lambda c: _since_spoke(c, "customer")),
    ("handover_s", "s", 0, LONGEST_S, "When an agent took over from a bot, from the call's start.", _handover),
    ("bot.score", "score", -1, 1, "Mean score of the customer between a bot's first word and the agent's.", _with_bot),
    ("agent.score", "score", -1, 1, "Mean score of the customer since an agent took over from a bot.", _with_agent),
    ("bot.repeats", "times", 0, MANY, "How often the bot said again one of its last eight prompts.", _repeats),
)  # fmt: skip

MEASURES: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        *(Measure(name, unit, low, high, about, True, read) for name, unit, low, high, about, read in _SPEAKER),
        *(Measure(name, unit, low, high, about, False, _of_call(read)) for name, unit, low, high, about, read in _CALL),
    )
}
