"""Short ways to scored segments and calls. Turn `number` of a call starts at number x 10 s and lasts 4 s."""

from collections.abc import Iterable
from datetime import datetime, timezone
from textwrap import dedent
from typing import Any

from msgspec.structs import replace

from models.sentiment import decide
from streams.conversation import Conversation, advance
from streams.records import Model, Scored, Sentiment, Source
from streams.rules import RuleSet, read, rule_set

T0 = 1_700_000_000_000  # when record 0 arrived, ms since 1970
NOW = datetime(2026, 1, 31, 9, 30, tzinfo=timezone.utc)


def sentiment(score: float) -> Sentiment:
    """The sentiment with this score; negative below -0.5, positive above 0.5, neutral between."""
    made = decide((max(0.0, -score), 1 - abs(score), max(0.0, score)))
    return Sentiment(made.label, score, made.negative, made.neutral, made.positive)


def scored(number: int = 0, score: float | None = None, *, lane: int = 0, timestamp: int | None = None, **given: Any) -> Scored:
    """A customer's turn at offset `number` of source partition `lane`, arriving as it starts; `given` says otherwise."""
    start_ms = number * 10_000
    source = Source("topic", lane, number, T0 + start_ms if timestamp is None else timestamp)
    turn = Scored(
        call_id="call-1",
        segment_id=f"s{number}",
        speaker="customer",
        text=f"turn {number}",
        start_ms=start_ms,
        end_ms=start_ms + 4_000,
        source=source,
        scored_at=NOW,
        model=Model("fake", "1", "exact"),
        sentiment=None if score is None else sentiment(score),
    )
    return replace(turn, **given)


def event(number: int, kind: str, **given: Any) -> Scored:
    """A start, update or end, that says only what is given."""
    bare = {"segment_id": None, "speaker": "unknown", "text": "", "start_ms": None, "end_ms": None, "skipped": "event"}
    return scored(number, type=kind, **(bare | given))


def folded(turns: Iterable[Scored]) -> Conversation:
    """The state of the call after these."""
    call = None
    for turn in turns:
        call = advance(call, turn)
    assert call is not None
    return call


def ruleset(text: str) -> RuleSet:
    """The rules of this YAML, which has nothing wrong."""
    found, faults = read(dedent(text), "test.yaml")
    assert not faults, "\n".join(map(str, faults))
    return rule_set(found)


def rule(when: str, **more: str) -> RuleSet:
    """One rule, named r, with this condition; `more` are other keys of it (lasting for `for`), in YAML's flow style."""
    given = {"severity": "warning", "reason": "It holds.", "cooldown": "0s"} | more
    lines = [f"{'for' if name == 'lasting' else name}: {value}" for name, value in given.items()]
    return ruleset("rules:\n  - name: r\n    when: " + when + "".join(f"\n    {line}" for line in lines))
