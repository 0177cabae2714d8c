"""What can be measured in a call at any time, by name: the words of the rule language and of the summary. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

from streams.conversation import CUSTOMER_SIDE, Conversation, Voice
from streams.turns import Turn

DAY_S = 24 * 3600.0


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
    read: Callable[[Conversation, str], float | None]


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
    """Whose turns stand for this speaker's: "unknown" for the customer while no customer was scored."""
    if speaker != "customer":
        return speaker
    return next((name for name in CUSTOMER_SIDE if name in call.voices and call.voices[name].scored), speaker)


def _voice(call: Conversation, speaker: str) -> Voice:
    return call.voices.get(side(call, speaker), Voice())


def _mean(call: Conversation, speaker: str) -> float | None:
    voice = _voice(call, speaker)
    return voice.mean if voice.scored else None


def _ewma(call: Conversation, speaker: str) -> float | None:
    voice = _voice(call, speaker)
    return voice.ewma if voice.scored else None


_ALL = (
    Measure("score.mean", "score", -1, 1, "Mean score of the speaker's turns.", True, _mean),
    Measure("score.ewma", "score", -1, 1, "Exponentially weighted score: the newest turn weighs 0.3.", True, _ewma),
    Measure("turns.scored", "turns", 0, 1e9, "Turns of the speaker that were scored.", True, lambda c, s: _voice(c, s).scored),
    Measure("position_s", "s", 0, 366 * DAY_S, "From the call's start to the end of what was said last.", False,
            lambda c, _: c.at_ms / 1000),
)  # fmt: skip

MEASURES: Mapping[str, Measure] = {measure.name: measure for measure in _ALL}
