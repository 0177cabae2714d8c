"""Conditions as functions: what a rule's words ask of a call, compiled once. Pure.

A condition looks at a call and says whether it holds, what it compared, and (if it depends on time) in how many milliseconds it
may change although nothing arrives. Spans of time in windows end with what was said last; only silence and the measures in
GROWS go on while nobody speaks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.compare import all_of, any_of, bounds, checked, none_of
from streams.compare import holds as holds_when
from streams.compare import text as text_of
from streams.language import (
    Averaged,
    Compare,
    Dropped,
    Heard,
    Labelled,
    Matched,
    Measured,
    Risen,
    Silent,
    Streak,
    digest,
    milliseconds,
)
from streams.look import GROWS, UNREAD, Look, Span
from streams.turns import Turn
from streams.words import Matcher, pattern, phrases


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is listened to for which words; `key` names it in the state, where the last `keep` hits stay."""

    key: str
    speaker: str
    found: Matcher
    keep: int


@dataclass(frozen=True, slots=True)
class Condition:
    """`text` says it in a line; `wakes` give the ms from a look until it may change by itself, None if it will not."""

    text: str
    holds: Callable[[Look], bool]
    values: Callable[[Look], Mapping[str, float]]
    names: tuple[str, ...] = ()
    wakes: tuple[Callable[[Look], int | None], ...] = ()
    listeners: tuple[Listener, ...] = ()
    parts: tuple["Condition", ...] = ()


@dataclass(slots=True)
class Naming:
    """The names of a rule's values: what is read in the same way has one name, another thing of that name becomes "mean.2"; and
    the rule's own speaker."""

    speaker: str
    used: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def name(self, wanted: str, *identity: Any) -> str:
        for name in (wanted, *(f"{wanted}.{n}" for n in range(2, 1000))):
            if self.used.setdefault(name, identity) == identity:
                return name
        raise AssertionError(wanted)

    def whose(self, spec: Any) -> str:
        return str(spec.speaker or self.speaker)


def compiled(spec: Any, naming: Naming) -> Condition:
    """The condition of a struct of the language, or of ("all" | "any" | "not", parts); it has been checked."""
    if isinstance(spec, tuple):
        return _combined(spec[0], tuple(compiled(part, naming) for part in spec[1]))
    return _COMPILERS[type(spec)](spec, naming)


def _combined(how: str, parts: tuple[Condition, ...]) -> Condition:
    holds = tuple(part.holds for part in parts)
    deciding = {"all": all_of, "any": any_of, "not": none_of}[how]
    return Condition(
        text=f"{how} of" if how != "not" else "not",
        holds=deciding(holds),
        values=lambda look: {name: value for part in parts for name, value in part.values(look).items()},
        names=tuple(name for part in parts for name in part.names),
        wakes=tuple(wake for part in parts for wake in part.wakes),
        listeners=tuple(listener for part in parts for listener in part.listeners),
        parts=parts,
    )


def _condition(text: str, name: str, read: Callable[[Look], float | None], compare: float | Compare, **more: Any) -> Condition:
    """Something that is read against bounds; None never holds."""
    return Condition(
        f"{text} {text_of(compare)}", holds_when(read, compare), lambda look: _value(name, read(look)), (name,), **more
    )


def _value(name: str, value: float | None) -> dict[str, float]:
    return {} if value is None else {name: round(value, 3)}


def _measured(spec: Measured, naming: Naming) -> Condition:
    speaker = naming.whose(spec)
    key = spec.measure, speaker
    own = spec.speaker in (None, naming.speaker)
    text = spec.measure if own else f"{spec.measure}.{speaker}"
    wakes = tuple(_growing(key, sign, bound) for sign, bound in bounds(spec.bounds)) if spec.measure in GROWS else ()
    return _condition(text, naming.name(text, key), _reader(key), spec.bounds, wakes=wakes)


def _reader(key: tuple[str, str]) -> Callable[[Look], float | None]:
    def read(look: Look) -> float | None:
        found = look.memo.get(key, UNREAD)
        return look.value(key) if found is UNREAD else found

    return read


def _growing(key: tuple[str, str], sign: str, bound: float) -> Callable[[Look], int | None]:
    def wake(look: Look) -> int | None:
        value = look.value(key)
        return None if value is None else _ahead(math.ceil((bound - value) * 1000 - 1e-6) + (sign in (">", "<=")))

    return wake


def _ahead(ms: int) -> int | None:
    return ms if ms > 0 else None


def _span(spec: Any) -> Span:
    return Span(spec.turns or 0, milliseconds(spec.within) if spec.within is not None else None)


def window_text(spec: Any) -> str:
    if spec.turns:
        return f"in the last {spec.turns} turns" if spec.turns > 1 else "in the last turn"
    return f"in the last {milliseconds(spec.within) / 1000:g} s" if spec.within is not None else "in the call"


def _labelled(spec: Labelled, naming: Naming) -> Condition:
    speaker, span, label = naming.whose(spec), _span(spec), spec.label
    share = spec.share is not None
    compare = spec.share if spec.share is not None else spec.count if spec.count is not None else 1.0
    names = tuple(naming.name(f"{label}.{name}", speaker, span) for name in ("count", "of", *(("share",) if share else ())))

    def counted(look: Look) -> tuple[int, int] | None:
        turns = look.turns(speaker, span)
        return (sum([turn.label == label for turn in turns]), len(turns)) if len(turns) >= spec.min_turns else None

    def read(look: Look) -> float | None:
        found = counted(look)
        return None if found is None else found[0] / found[1] if share else found[0]

    def values(look: Look) -> Mapping[str, float]:
        found = counted(look)
        return {} if found is None else dict(zip(names, (*found, round(found[0] / found[1], 3)), strict=False))

    return Condition(
        f"{names[-1 if share else 0]} {window_text(spec)} {text_of(compare)}", holds_when(read, compare), values, names
    )


def _mean(turns: Sequence[Turn]) -> float:
    return sum([turn.score or 0.0 for turn in turns]) / len(turns)


def _averaged(spec: Averaged, naming: Naming) -> Condition:
    speaker, span = naming.whose(spec), _span(spec)

    def read(look: Look) -> float | None:
        turns = look.turns(speaker, span)
        return _mean(turns) if len(turns) >= spec.min_turns else None

    return _condition(f"mean {window_text(spec)}", naming.name("mean", speaker, span), read, spec.mean)


def _changed(spec: Dropped | Risen, naming: Naming) -> Condition:
    sign, word, least = (-1, "drop", spec.drop) if isinstance(spec, Dropped) else (1, "rise", spec.rise)
    speaker, to = naming.whose(spec), checked(spec.to) if spec.to is not None else None
    reach, now_of = _reach(spec)
    identity = speaker, spec.turns, spec.within, spec.against
    names = tuple(naming.name(name, *identity) for name in ("before", "now", word))

    def read(look: Look) -> tuple[float, float] | None:
        turns = look.turns(speaker, reach)
        same = [turn for turn in turns if turn.revision == turns[-1].revision]
        last = now_of(same, look.call.at_ms)
        return (_mean(same[:-last]), _mean(same[-last:])) if 0 < last < len(same) else None

    def holds(look: Look) -> bool:
        found = read(look)
        return found is not None and sign * (found[1] - found[0]) >= least and (to is None or to(found[1]))

    def values(look: Look) -> Mapping[str, float]:
        found = read(look)
        return (
            {}
            if found is None
            else dict(zip(names, (round(value, 3) for value in (*found, sign * (found[1] - found[0]))), strict=True))
        )

    ending = f", to {text_of(spec.to)}" if spec.to is not None else ""
    return Condition(f"{word} {window_text(spec)} >= {least:g}{ending}", holds, values, names)


def _reach(spec: Dropped | Risen) -> tuple[Span, Callable[[Sequence[Turn], int], int]]:
    """What is read of the turns, and how many (of one revision, at a time) are the last ones; the others came before."""
    if spec.turns is not None:
        last = spec.turns
        return Span(last + int(spec.against or last)), lambda _, __: last
    within = milliseconds(spec.within or 0)
    back = within + (milliseconds(spec.against) if spec.against is not None else within)
    return Span(0, back), lambda turns, at_ms: sum([turn.end_ms >= at_ms - within for turn in turns])


def _streak(spec: Streak, naming: Naming) -> Condition:
    speaker, label, span = naming.whose(spec), spec.streak, Span(spec.turns)

    def read(look: Look) -> float:
        count = 0
        for turn in reversed(look.turns(speaker, span)):
            if turn.label != label:
                break
            count += 1
        return count

    name = f"streak.{label}"
    return _condition(name, naming.name(name, speaker, span), read, float(spec.turns))


def _heard(spec: Heard | Matched, naming: Naming) -> Condition:
    speaker, span = naming.whose(spec), _span(spec)
    if isinstance(spec, Heard):
        said = [spec.words] if isinstance(spec.words, str) else spec.words
        found, what = phrases(said), "words"
    else:
        said, found, what = [spec.regex], pattern(spec.regex), "regex"
    key = digest([what, speaker, spec.count, said], 10)  # two alike would hear each other's words

    def read(look: Look) -> float:
        hits = look.watches.hits.get(key)
        if not hits:
            return 0
        if span.within_ms is not None:
            return sum([hit >= look.call.at_ms - span.within_ms for hit in hits])
        if not span.turns:
            return len(hits)
        turns = look.turns(speaker, span, scored=False)
        return sum([hit >= turns[0].end_ms for hit in hits]) if turns else 0

    text = f"{what} ({', '.join(said)[:60]}) {window_text(spec)}"
    return _condition(
        text, naming.name(what, key, span), read, float(spec.count), listeners=(Listener(key, speaker, found, spec.count),)
    )


def _silent(spec: Silent, naming: Naming) -> Condition:
    least = milliseconds(spec.silence)

    def idle(look: Look) -> float | None:
        return look.idle_ms / 1000 if look.call.status == "live" else None

    wakes = (lambda look: _ahead(least - look.idle_ms),)
    return _condition("silence_s", naming.name("silence_s"), idle, least / 1000, wakes=wakes)


_COMPILERS: dict[type, Callable[[Any, Naming], Condition]] = {
    Measured: _measured,
    Labelled: _labelled,
    Averaged: _averaged,
    Dropped: _changed,
    Risen: _changed,
    Streak: _streak,
    Heard: _heard,
    Matched: _heard,
    Silent: _silent,
}
