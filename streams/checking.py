"""From plain values to rules that can be compiled: every fault with its line, and with the way out. Pure."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from streams.compare import bounds
from streams.language import (
    COMBINING,
    KINDS,
    LONGEST_S,
    MOST_TIMED,
    MOST_TURNS,
    Averaged,
    Compare,
    Dropped,
    Escalation,
    Heard,
    Labelled,
    Matched,
    Measured,
    Risen,
    Rule,
    Silent,
    escalations_of,
    milliseconds,
    unset,
)
from streams.located import Document, Path
from streams.measures import MEASURES
from streams.records import SEVERITIES
from streams.words import pattern, phrases, too_slow

WAYS = {
    "turns": f"write a whole number from 1 to {MOST_TURNS}: a state keeps no more turns",
    "min_turns": f"write a whole number from 1 to {MOST_TURNS}",
    "within": f"write a span such as 60s or 5m, at most {LONGEST_S // 60}m: a state keeps no more",
    "against": "write a whole number of turns beside `turns`, a span beside `within`",
    "count": "write a whole number; for `label` a comparison such as {gte: 3} may stand there",
    "share": "write a number from 0 to 1, or a comparison such as {gt: 0.5}",
    "mean": "write a comparison, e.g. mean: {lte: -0.4}",
    "to": "write a comparison such as {lte: -0.4}; in `escalate` a severity",
    "severity": "write info, warning or critical",
    "name": "write 1 to 40 small letters, digits, _ . or -, a letter first",
    "for": "write a span: 30s, 2m",
    "cooldown": "write a span: 30s, 2m",
    "after": "write a span: 30s, 2m",
    "silence": "write a span: 30s, 2m",
    "reason": "write one sentence for a person",
    "speaker": "write customer, agent, bot, system, unknown or any",
}
Spec = Any
"""A struct of the language, or ("all" | "any" | "not", [Spec, ...])."""


def rule(document: Document, path: Path, raw: Any) -> Rule | None:
    """A rule whose conditions are specs, or None; what is wrong with it is among the document's faults."""
    before = len(document.faults)
    spec: Rule | None = _struct(document, path, raw, Rule)
    if spec is None:
        return None
    when = condition(document, (*path, "when"), spec.when, spec)
    until = spec.until if unset(spec.until) else condition(document, (*path, "until"), spec.until, spec)
    escalate = _escalations(document, (*path, "escalate"), spec)
    for name in ("lasting", "cooldown"):
        _span(document, (*path, "for" if name == "lasting" else name), getattr(spec, name), MOST_TIMED)
    if len(document.faults) > before:
        return None
    return msgspec.structs.replace(spec, when=when, until=until, escalate=escalate)


def condition(document: Document, path: Path, raw: Any, rule: Rule) -> Spec | None:
    """One condition with all that is in it."""
    if not isinstance(raw, dict):
        document.fault(path, f"a condition is a mapping such as {{measure: score.ewma, lte: -0.35}}, not {_shown(raw)}")
        return None
    kinds = [key for key in (*COMBINING, *KINDS) if key in raw]
    if len(kinds) != 1:
        document.fault(path, _unclear(kinds, raw))
        return None
    if kinds[0] in COMBINING:
        return _combined(document, path, raw, kinds[0], rule)
    spec = _struct(document, path, raw, KINDS[kinds[0]])
    if spec is not None:
        for text, at in _wrong(spec, rule):
            document.fault((*path, at), text)
    return spec


def _unclear(kinds: list[str], raw: Mapping[str, Any]) -> str:
    if kinds:
        return f"a condition is one thing, this is {' and '.join(kinds)}: put each in an item of `all:` or `any:`"
    near = [match for key in raw for match in difflib.get_close_matches(str(key), [*COMBINING, *KINDS], 1)]
    meant = f"did you mean `{near[0]}`? " if near else ""
    return f"this is no condition: {meant}it needs one of {', '.join((*COMBINING, *KINDS))}"


def _combined(document: Document, path: Path, raw: Mapping[str, Any], how: str, rule: Rule) -> Spec | None:
    for key in raw:
        if key != how:
            document.fault((*path, key), f"`{key}` cannot stand beside `{how}`: put it in an item below")
    inner = [raw[how]] if how == "not" else raw[how]
    if not isinstance(inner, list) or not inner:
        document.fault((*path, how), f"`{how}` needs a list of conditions, each with a dash before it")
        return None
    places = [(*path, how) if how == "not" else (*path, how, i) for i in range(len(inner))]
    parts = [condition(document, place, part, rule) for place, part in zip(places, inner, strict=True)]
    return None if any(part is None for part in parts) else (how, parts)


def _struct(document: Document, path: Path, raw: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        document.fault(*_told(str(error), path, kind))
        return None


def _told(message: str, path: Path, kind: Any) -> tuple[Path, str]:
    """msgspec's complaint as ours: where, what, and the way out."""
    said, _, where = message.partition(" - at `$")
    inside = tuple(int(number) if number else name for name, number in re.findall(r"\.(\w+)|\[(\d+)\]", where))
    if unknown := re.search(r"unknown field `(.*)`", said):
        owner = _owner(kind, inside)
        return (*path, *inside, unknown[1]), f"`{unknown[1]}` is not known here: {_meant(unknown[1], owner)}"
    if missing := re.search(r"missing required field `(.*)`", said):
        return (*path, *inside), f"`{missing[1]}` is missing: {WAYS.get(missing[1], 'add it')}"
    name = next((str(part) for part in reversed(inside) if isinstance(part, str)), "")
    way = WAYS.get(name, f"see `callpulse rules schema` for what `{name}` takes" if name else "write a mapping, key: value")
    plainly = f"{said[:1].lower()}{said[1:]}".replace("`", "")
    return (*path, *inside), f"`{name}`: {plainly}; {way}" if name else f"{plainly}; {way}"


def _owner(kind: Any, inside: Path) -> Any:
    inner = {"scope": "Scope", "evidence": "Evidence", "escalate": "Escalation"}.get(str(inside[0]) if inside else "", "")
    from streams import language

    return getattr(language, inner, Compare if inside else kind)


def _meant(unknown: str, owner: Any) -> str:
    names = [f.encode_name for f in msgspec.structs.fields(owner)]
    near = difflib.get_close_matches(unknown, names, 1)
    return f"did you mean `{near[0]}`?" if near else f"there are {', '.join(names)}"


def _shown(raw: Any) -> str:
    return "nothing" if raw is None else f"a {type(raw).__name__}"


def _escalations(document: Document, path: Path, spec: Rule) -> list[Escalation]:
    many = isinstance(spec.escalate, list)
    checked: list[Escalation] = []
    severity = spec.severity
    for i, each in enumerate(escalations_of(spec)):
        place = (*path, i) if many else path
        if SEVERITIES.index(each.to) <= SEVERITIES.index(severity):
            document.fault(
                (*place, "to"), f"{each.to} is no graver than {severity}: escalate to a graver severity, step by step"
            )
        if unset(each.when) and each.after is None:
            document.fault(place, "say when: `when` with a condition, `after` with a span, or both")
        if each.after is not None:
            _span(document, (*place, "after"), each.after, MOST_TIMED)
        when = each.when if unset(each.when) else condition(document, (*place, "when"), each.when, spec)
        checked.append(msgspec.structs.replace(each, when=when))
        severity = each.to
    return checked


def _span(document: Document, path: Path, span: str | float, most_s: int) -> None:
    if milliseconds(span) > most_s * 1000:
        document.fault(path, f"`{path[-1]}` is over {most_s / 3600:g} h: write less")


Wrong = Iterable[tuple[str, str]]
"""What is wrong, and the key that it is about."""


def _wrong(spec: Any, rule: Rule) -> Wrong:
    check: Callable[[Any, Rule], Wrong] = _CHECKS.get(type(spec), lambda _, __: ())
    yield from check(spec, rule)


def _window(spec: Any, needed: bool) -> Wrong:
    given = [name for name in ("turns", "within") if getattr(spec, name) is not None]
    if len(given) > 1 or (needed and not given):
        yield "give one window: `turns: 5` or `within: 60s`", (given or list(spec.__struct_fields__))[0]
    if spec.within is not None and not 0 < milliseconds(spec.within) <= LONGEST_S * 1000:
        yield f"`within` must be above 0 and at most {LONGEST_S // 60}m: a state keeps no more", "within"


def _compare(compare: Any, low: float, high: float, what: str, at: str) -> Wrong:
    if isinstance(compare, Compare) and not compare.said:
        yield f"`{at}` compares with nothing: add gte, gt, lte or lt", at
    for sign, bound in bounds(compare):
        if not low <= bound <= high:
            yield f"{what} lies between {low:g} and {high:g}: {sign} {bound:g} never changes; choose a bound in between", at


def _measured(spec: Measured, rule: Rule) -> Wrong:
    measure = MEASURES.get(spec.measure)
    if measure is None:
        near = difflib.get_close_matches(spec.measure, MEASURES, 1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(MEASURES)}"
        yield f"there is no measure {spec.measure}: {meant}", "measure"
        return
    if not spec.bounds.said:
        yield f"{spec.measure} is compared with nothing: add gte, gt, lte or lt", "measure"
    if spec.speaker is not None and not measure.per_speaker:
        yield f"{spec.measure} is of the whole call: leave `speaker` out", "speaker"
    if measure.per_speaker and (spec.speaker or rule.scope.speaker) == "any":
        yield f"{spec.measure} is of one speaker: add `speaker: customer`, or another", "measure"
    for name in ("gte", "gt", "lte", "lt"):
        if (bound := getattr(spec, name)) is not None:
            yield from _compare(Compare(**{name: bound}), measure.low, measure.high, spec.measure, name)


def _labelled(spec: Labelled, _: Rule) -> Wrong:
    yield from _window(spec, needed=True)
    if spec.count is not None and spec.share is not None:
        yield "give `count` or `share`, not both: two conditions in `all:` say both", "share"
    if spec.share is not None:
        yield from _compare(spec.share, 0, 1, "a share", "share")
    if spec.count is not None:
        yield from _compare(spec.count, 0, spec.turns or MOST_TURNS, "this count", "count")


def _averaged(spec: Averaged, _: Rule) -> Wrong:
    yield from _window(spec, needed=True)
    yield from _compare(spec.mean, -1, 1, "a score", "mean")


def _changed(spec: Dropped | Risen, _: Rule) -> Wrong:
    yield from _window(spec, needed=True)
    if spec.to is not None:
        yield from _compare(spec.to, -1, 1, "a score", "to")
    against = spec.against if spec.against is not None else spec.turns or spec.within or 0
    if spec.turns is not None and not (isinstance(against, int | float) and float(against).is_integer()):
        yield "beside `turns`, `against` is a whole number of turns", "against"
    elif spec.turns is not None and not 1 <= int(against) <= MOST_TURNS - spec.turns:
        yield f"`turns` and `against` are at most {MOST_TURNS} together, and 1 each: a state keeps no more", "against"
    elif spec.within is not None and not 0 < milliseconds(against) <= LONGEST_S * 1000 - milliseconds(spec.within):
        yield f"`within` and `against` (as long, unless given) are at most {LONGEST_S // 60}m together", "against"


def _heard(spec: Heard, _: Rule) -> Wrong:
    yield from _window(spec, needed=False)
    try:
        phrases([spec.words] if isinstance(spec.words, str) else spec.words)
    except ValueError as error:
        yield str(error), "words"


def _matched(spec: Matched, _: Rule) -> Wrong:
    yield from _window(spec, needed=False)
    try:
        pattern(spec.regex)
    except ValueError as error:
        yield f"{error}; in YAML, single quotes keep backslashes as they are", "regex"
        return
    if too_slow(spec.regex):
        yield "this takes too long on some texts: avoid a repetition inside a repetition, as in (a+)+", "regex"


def _silent(spec: Silent, _: Rule) -> Wrong:
    if not 1000 <= milliseconds(spec.silence) <= MOST_TIMED * 1000:
        yield "`silence` is from 1s to 24h", "silence"


_CHECKS: dict[type, Callable[[Any, Rule], Wrong]] = {
    Measured: _measured,
    Labelled: _labelled,
    Averaged: _averaged,
    Dropped: _changed,
    Risen: _changed,
    Heard: _heard,
    Matched: _matched,
    Silent: _silent,
}
