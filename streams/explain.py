"""What each rule saw in a recorded call, turn by turn. Pure.

The recording goes through the same pipeline as a worker's, due times included; between two turns an explanation looks at the
same state that the rules looked at.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from streams.conditions import Condition
from streams.conversation import Conversation, Limits
from streams.episodes import open_episode
from streams.look import Look
from streams.outcome import Outcome
from streams.pipeline import Calls
from streams.records import Alert, Record, Rejected, Scored
from streams.rules import Rule, RuleSet
from streams.timers import bounded
from streams.wire import decode_scored


@dataclass(frozen=True, slots=True)
class Seen:
    """One condition: its words, whether it holds, what it compared, and the conditions in it."""

    text: str
    holds: bool
    values: dict[str, float]
    parts: tuple["Seen", ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """What one rule saw: `state` is "not for this call", "no", "waiting" (for its minimum duration), "open" or "passing" (the
    exit holds, the cooldown runs)."""

    rule: str
    state: str
    when: Seen
    until: Seen | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One utterance (None: a due time, or an event), what the rules saw after it, and the alerts that came."""

    call_id: str
    at_ms: int
    turn: Scored | None
    views: tuple[View, ...]
    alerts: tuple[Alert, ...]

    def to_dict(self) -> dict[str, Any]:
        turn = self.turn
        said = turn and {
            "segment_id": turn.segment_id,
            "speaker": turn.speaker,
            "text": turn.text,
            "score": turn.sentiment.score if turn.sentiment else None,
            "label": turn.sentiment.label if turn.sentiment else None,
        }
        alerts = [
            {"at_ms": a.at_ms, "event": a.event, "severity": a.severity, "rule": a.rule.name, "reason": a.reason}
            for a in self.alerts
        ]
        return {
            "call_id": self.call_id,
            "at_ms": self.at_ms,
            "turn": said,
            "rules": [asdict(view) for view in self.views],
            "alerts": alerts,
        }


def scored_records(records: Sequence[Record]) -> list[Scored] | None:
    """The segments of a recording of calls.sentiment; None where it is one of something else."""
    found = [decode_scored(record.value) for record in records]
    scored = [one for one in found if isinstance(one, Scored)]
    return scored if scored and not any(isinstance(one, Rejected) for one in found) else None


def explained(scored: Iterable[Scored], limits: Limits, rules: RuleSet, names: Sequence[str] = ()) -> Iterator[Step]:
    """The steps in order; `names`: only these rules (none: all)."""
    calls = Calls(limits, partitions=1, rules=rules)
    chosen = [rule for rule in rules.rules if not names or rule.ref.name in names]

    def wanted(outcome: Outcome) -> tuple[Alert, ...]:
        return tuple(alert for alert in outcome.alerts if not names or alert.rule.name in names)

    for turn in map(bounded, scored):
        due, outcome = Outcome(), Outcome()
        calls.tick({turn.source.lane: turn.source.timestamp}, due)
        yield from (Step(alert.call_id, alert.at_ms, None, (), (alert,)) for alert in wanted(due))
        calls.judge(turn, outcome)
        call = outcome.changed.get(turn.call_id)
        if call is not None and (outcome.alerts or (turn.type == "segment" and turn.final)):
            views = tuple(viewed(rule, call) for rule in chosen)
            yield Step(turn.call_id, call.at_ms, turn if turn.type == "segment" else None, views, wanted(outcome))
    last = Outcome()
    calls.tick(dict.fromkeys(calls.timers, 1 << 62), last)
    yield from (Step(alert.call_id, alert.at_ms, None, (), (alert,)) for alert in wanted(last))


def viewed(rule: Rule, call: Conversation) -> View:
    """What a rule sees in a call as it is now."""
    look = Look(call)
    until = _seen(rule.until, look) if rule.until else None
    return View(rule.ref.name, _state(rule, look), _seen(rule.when, look), until)


def _state(rule: Rule, look: Look) -> str:
    call = look.call
    if rule.applies is not None and not rule.applies(look):
        return "not for this call"
    episode = open_episode(call.episodes, rule.ref.name)
    if episode is not None:
        return "passing" if episode.clear_ms is not None else "open"
    return "waiting" if rule.digest in call.watches.since else "no"


def _seen(condition: Condition, look: Look) -> Seen:
    parts = tuple(_seen(part, look) for part in condition.parts)
    return Seen(condition.text, condition.holds(look), {} if parts else dict(condition.values(look)), parts)


def in_words(seen: Seen) -> str:
    """A condition in a line: + what holds, - what does not, with the values."""
    sign = "+" if seen.holds else "-"
    if seen.parts:
        return f"{sign}{seen.text} ({', '.join(map(in_words, seen.parts))})"
    values = ", ".join(f"{value:g}" if len(seen.values) == 1 else f"{name} {value:g}" for name, value in seen.values.items())
    return f"{sign}{seen.text}" + (f" [{values}]" if values else " [nothing yet]")
