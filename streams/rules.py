"""The built-in rules: what each one sees in a call. Pure; `alerts` turns what they see into the life of an alert.

A rule looks at the state after a customer's turn and says whether it holds (a severity), has passed (clear), or neither:
between the two thresholds an open alert stays open and a closed one stays closed (hysteresis).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from streams.conversation import Conversation
from streams.records import Evidence, RuleRef, Severity

MIN_TURNS = 3
MIN_CALL_MS = 20_000

SUSTAINED = RuleRef("sustained_negative", 1)
DROP = RuleRef("sharp_drop", 1)


@dataclass(frozen=True, slots=True)
class Sight:
    """What a rule sees: `severity` None when it does not hold; `clear` when an open alert should resolve; `values` are the
    measures that it compared, scores in [-1, 1]."""

    severity: Severity | None
    clear: bool
    reason: str
    values: Mapping[str, float] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    ref: RuleRef
    see: Callable[[Conversation], Sight]


def ripe(call: Conversation) -> bool:
    """Nothing is judged before three customer turns and 20 s of the call."""
    return call.customer.scored >= MIN_TURNS and call.at_ms >= MIN_CALL_MS


def sustained_negative(call: Conversation) -> Sight:
    """The customer's exponentially weighted score is at -0.35 or below (critical: -0.6) and most of the last five turns are
    negative. Passes at -0.15 or above."""
    score = call.customer.ewma
    window = call.recent[-5:]
    negative = tuple(turn for turn in window if turn.label == "negative")
    holds = ripe(call) and score <= -0.35 and 2 * len(negative) > len(window)
    severity: Severity | None = ("critical" if score <= -0.6 else "warning") if holds else None
    return Sight(
        severity,
        clear=score >= -0.15,
        reason=f"The customer stays negative: {len(negative)} of the last {len(window)} turns.",
        values={"ewma": round(score, 3), "negative_turns": len(negative), "turns": len(window)},
        evidence=negative,
    )


def sharp_drop(call: Conversation) -> Sight:
    """The mean of the customer's last three turns lies 0.7 or more below that of the up to five before, and at -0.4 or below.
    Passes when the last three are back at -0.1 or above."""
    last, before = call.recent[-3:], call.recent[:-3]
    if not before:
        return Sight(None, clear=False, reason="")
    now, then = _mean(last), _mean(before)
    holds = ripe(call) and now <= -0.4 and then - now >= 0.7
    return Sight(
        "warning" if holds else None,
        clear=now >= -0.1,
        reason=f"The customer's mood dropped from {then:+.1f} to {now:+.1f} within three turns.",
        values={"before": round(then, 3), "now": round(now, 3), "drop": round(then - now, 3)},
        evidence=(max(before, key=lambda turn: turn.score), *last),
    )


def _mean(turns: tuple[Evidence, ...]) -> float:
    return sum(turn.score for turn in turns) / len(turns)


BUILT_IN = (Rule(SUSTAINED, sustained_negative), Rule(DROP, sharp_drop))
