"""What a rule may say: the words of the rule language, their types and their limits. Pure.

These structs are what `rules check` reads and what `rules schema` publishes, so an editor completes what the check accepts.
Spans are text with a unit ("30s", "10m") or a number of seconds.
"""

import re
from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from streams.records import MAX_WHOLE, Label, Severity

LONGEST_S = 600  # windows reach back no further than the turns that a state keeps
MOST_TURNS = 64
MOST_HITS = 5
MOST_RULES = 200
MOST_TIMED = 24 * 3600  # seconds of a minimum duration, a cooldown, an escalation

Span = (
    Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$", description='a number and ms, s, m or h: "30s"')]
    | Annotated[float, Meta(ge=0, description="seconds")]
)
Turns = Annotated[int, Meta(ge=1, le=MOST_TURNS, description="so many last turns of the speaker, at most 64")]
Within = Annotated[Span, Meta(description="the last so many seconds of the call, at most 10 minutes")]
Who = Annotated[
    Literal["customer", "agent", "bot", "system", "unknown", "any"],
    Meta(description="whose turns; by default the scope's speaker. Nobody known as the customer: the unknown speakers"),
]
Globs = (
    Annotated[str, Meta(min_length=1)]
    | bool
    | float
    | Annotated[list[Annotated[str, Meta(min_length=1)] | bool | float], Meta(min_length=1)]
)
Condition = Any


class Compare(Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """At least one of: gte (at or above), gt, lte, lt."""

    gte: float | None = None
    gt: float | None = None
    lte: float | None = None
    lt: float | None = None

    @property
    def said(self) -> bool:
        return any(bound is not None for bound in (self.gte, self.gt, self.lte, self.lt))


Least = Annotated[float | Compare, Meta(description="a number: at least; or a comparison, {gt: 0.5}")]


class Scope(Struct, forbid_unknown_fields=True, frozen=True):
    """The calls that a rule is for, and whose turns it means. Globs: * any characters, ? one; a list: any of them."""

    speaker: Who = "customer"
    channel: Globs | None = None
    language: Annotated[Globs | None, Meta(description='"ko" is also "ko-KR"; what was last stated of the call')] = None
    attributes: Annotated[dict[str, Globs], Meta(description="of the call, e.g. queue; they may come later")] = {}


class Evidence(Struct, forbid_unknown_fields=True, frozen=True):
    """The customer's scored turns that an alert quotes: the last `turns`, those of one label only if one is named."""

    turns: Annotated[int, Meta(ge=0, le=5)] = 5
    label: Label | None = None


class Escalation(Struct, forbid_unknown_fields=True, frozen=True):
    """To a graver severity: when a condition holds, after so long an episode, or both."""

    to: Severity
    when: Condition = UNSET
    after: Span | None = None


class Rule(Struct, forbid_unknown_fields=True, frozen=True):
    """One rule. `when` opens an episode, `until` (or that `when` has passed) resolves it."""

    name: Annotated[str, Meta(pattern="^[a-z][a-z0-9_.-]{0,39}$", description="small letters, digits, _ . -")]
    severity: Severity
    reason: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=300,
            description="one sentence for a person; {score.ewma} or {score.ewma:+.2f} is a value compared",
        ),
    ]
    when: Condition
    version: Annotated[int, Meta(ge=1, le=MAX_WHOLE, description="count it up when you change the rule")] = 1
    about: Annotated[str, Meta(description="what it is for")] = ""
    scope: Scope = Scope()
    until: Annotated[Condition, Meta(description="the exit, if it is not that `when` has passed: hysteresis")] = UNSET
    lasting: Annotated[Span, Meta(description="how long `when` must hold before the alert")] = field(default=0.0, name="for")
    cooldown: Annotated[Span, Meta(description="how long the exit must hold before the episode resolves: flapping is one")] = (
        30.0
    )
    escalate: Annotated[Escalation | list[Escalation], Meta(description="while the episode lasts")] = []
    evidence: Evidence = Evidence()
    resolved: Annotated[str, Meta(min_length=1, max_length=300)] = "What raised the alert has passed."


class Measured(Struct, forbid_unknown_fields=True, frozen=True):
    """A measure of the call against bounds."""

    measure: str
    speaker: Who | None = None
    gte: float | None = None
    gt: float | None = None
    lte: float | None = None
    lt: float | None = None

    @property
    def bounds(self) -> Compare:
        return Compare(self.gte, self.gt, self.lte, self.lt)


class Labelled(Struct, forbid_unknown_fields=True, frozen=True):
    """Turns of a label among the last scored turns: how many (by default one), or their share."""

    label: Label
    speaker: Who | None = None
    turns: Turns | None = None
    within: Within | None = None
    count: Least | None = None
    share: Annotated[Least | None, Meta(description="0 to 1 of the scored turns in the window")] = None
    min_turns: Annotated[int, Meta(ge=1, le=MOST_TURNS, description="fewer scored turns: it does not hold")] = 1


class Averaged(Struct, forbid_unknown_fields=True, frozen=True):
    """The mean score of the last scored turns, in [-1, 1]."""

    mean: Compare
    speaker: Who | None = None
    turns: Turns | None = None
    within: Within | None = None
    min_turns: Annotated[int, Meta(ge=1, le=MOST_TURNS)] = 1


class _Change(Struct, forbid_unknown_fields=True, frozen=True):
    speaker: Who | None = None
    turns: Turns | None = None
    within: Within | None = None
    against: Annotated[
        Turns | Span | None, Meta(description="with what came before: turns (or a span); by default as long as the window")
    ] = None
    to: Annotated[Compare | None, Meta(description="where the mean of the last turns must lie, too")] = None


class Dropped(_Change, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The mean score of the last turns lies so much below that of the turns before; one model revision only."""

    drop: Annotated[float, Meta(gt=0, le=2)]


class Risen(_Change, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The mean score of the last turns lies so much above that of the turns before; one model revision only."""

    rise: Annotated[float, Meta(gt=0, le=2)]


class Streak(Struct, forbid_unknown_fields=True, frozen=True):
    """The last scored turns of the speaker, all of one label."""

    streak: Label
    turns: Turns
    speaker: Who | None = None


class Heard(Struct, forbid_unknown_fields=True, frozen=True):
    """Words in utterances: of the last `turns`, `within` a span, or (neither given) of the whole call."""

    words: Annotated[str, Meta(min_length=1)] | Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]
    speaker: Who | None = None
    turns: Turns | None = None
    within: Within | None = None
    count: Annotated[int, Meta(ge=1, le=MOST_HITS, description="utterances in which they were heard")] = 1


class Matched(Struct, forbid_unknown_fields=True, frozen=True):
    """A regular expression (Python's, and the regex package's) found in utterances, capitals or not."""

    regex: Annotated[str, Meta(min_length=1, max_length=1000)]
    speaker: Who | None = None
    turns: Turns | None = None
    within: Within | None = None
    count: Annotated[int, Meta(ge=1, le=MOST_HITS)] = 1


class Silent(Struct, forbid_unknown_fields=True, frozen=True):
    """Nobody has been heard for so long, by the records' clock: it holds although nothing arrives."""

    silence: Span


KINDS: dict[str, Any] = {
    "measure": Measured,
    "label": Labelled,
    "mean": Averaged,
    "drop": Dropped,
    "rise": Risen,
    "streak": Streak,
    "words": Heard,
    "regex": Matched,
    "silence": Silent,
}
"""The conditions by the key that tells them apart; all, any and not combine them."""

COMBINING = ("all", "any", "not")
LONGEST_SPAN_MS = 10**15
UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}


def milliseconds(span: str | float) -> int:
    """A span, which has the form that `Span` asks for; one that is longer than any is LONGEST_SPAN_MS."""
    if not isinstance(span, str):
        return round(min(span * 1000, LONGEST_SPAN_MS))
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", span).groups()  # type: ignore[union-attr]
    return round(min(float(number) * UNITS_MS[unit], LONGEST_SPAN_MS))


def schema(measures: dict[str, str], library: tuple[str, ...]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a rules file; `measures` says of each by its name what it is."""
    types = [Rule, *KINDS.values()]
    parts, components = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    named = [{"const": name, "description": about} for name, about in measures.items()]
    components["Measured"]["properties"]["measure"] = {"oneOf": named}
    any_of = {"type": "array", "items": {"$ref": "#/$defs/condition"}, "minItems": 1}
    combined: list[dict[str, Any]] = [{"all": any_of}, {"any": any_of}, {"not": {"$ref": "#/$defs/condition"}}]
    objects = [{"type": "object", "properties": c, "required": list(c), "additionalProperties": False} for c in combined]
    components["condition"] = {"description": "one condition", "anyOf": [*parts[1:], *objects]}
    for part, names in (("Rule", ("when", "until")), ("Escalation", ("when",))):
        for name in names:
            components[part]["properties"][name] |= {"$ref": "#/$defs/condition"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "callpulse rules",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "rules": {"type": "array", "items": parts[0]},
            "use": {"type": "array", "items": {"enum": list(library)}, "description": "rules of the library, as they ship"},
        },
        "$defs": components,
    }


def digest(content: Any, size: int = 6) -> str:
    """So many hex characters of SHA-256 that stand for a value of JSON's types, whatever the order of its keys."""
    return sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()[:size]


def escalations_of(rule: Rule) -> list[Escalation]:
    """One or several, as a list."""
    return rule.escalate if isinstance(rule.escalate, list) else [rule.escalate]


def unset(condition: Condition) -> bool:
    return isinstance(condition, UnsetType)
