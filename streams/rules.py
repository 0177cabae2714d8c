"""Rules: read from files, checked, compiled once. Pure but for reading the files.

`load(None)` gives the three that are on by default; `load(path)` those of a file or of all *.yaml and *.yml of a folder, in
the order of the files' names. A file has `rules:`, and `use:` with names of the library's rules, taken as they ship.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from streams import checking, language
from streams.conditions import Condition, Listener, Naming, compiled
from streams.conversation import Conversation
from streams.errors import RulesError
from streams.language import MOST_RULES, digest, escalations_of, milliseconds, unset
from streams.located import Document, Fault, parse
from streams.look import Look
from streams.measures import MEASURES
from streams.records import Evidence, RuleRef, Severity
from streams.scope import scope, typed

LIBRARY = Path(__file__).parent / "library"
DEFAULTS = ("sustained_negative", "sharp_drop", "long_silence")
PLACEHOLDER = re.compile(r"\{([^{}:]*):?([^{}]*)\}")
FORM = re.compile(r"|\+?\.[0-3][f%]")


@dataclass(frozen=True, slots=True)
class Escalation:
    to: Severity
    when: Condition | None
    after_ms: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as functions. `digest` stands for its content: another content is another rule, whatever its version says.
    `applies` is its scope, None where it is for every call; `conditions` are all that it asks."""

    ref: RuleRef
    digest: str
    severity: Severity
    speaker: str
    applies: Callable[[Look], bool] | None
    attributes: tuple[str, ...]
    when: Condition
    until: Condition | None
    lasting_ms: int
    cooldown_ms: int
    escalations: tuple[Escalation, ...]
    quoted: language.Evidence
    reason: str
    resolved: str
    conditions: tuple[Condition, ...]

    def values(self, look: Look) -> dict[str, float]:
        """What its conditions compare, by name."""
        return {name: value for condition in self.conditions for name, value in condition.values(look).items()}

    def told(self, look: Look) -> str:
        """The reason, with the values that it names; a dash for one that is not there."""
        values = self.values(look)
        return PLACEHOLDER.sub(lambda m: format(values[m[1]], m[2] or "g") if m[1] in values else "–", self.reason)

    def evidence(self, call: Conversation) -> tuple[Evidence, ...]:
        chosen = [turn for turn in call.recent if self.quoted.label in (None, turn.label)]
        return tuple(chosen[-self.quoted.turns :]) if self.quoted.turns else ()


@dataclass(frozen=True, slots=True)
class Asked:
    """The rules that are for a call, each with its name and entry; those of them that may change although nothing arrives,
    and what tells when."""

    rules: tuple[tuple[str, Callable[[Look], bool], Rule], ...]
    names: frozenset[str]
    digests: frozenset[str]
    timed: tuple[tuple[str, Callable[[Look], bool], Rule], ...]
    wakes: tuple[Callable[[Look], int | None], ...]


SCOPES = 4096  # kinds of calls whose rules are remembered


@dataclass(frozen=True, slots=True)
class RuleSet:
    """`hash` stands for the content of all rules; `listeners` are theirs, each once, `keep` how many hits each needs."""

    rules: tuple[Rule, ...]
    hash: str
    listeners: tuple[Listener, ...] = ()
    keep: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, Rule] = field(default_factory=dict)
    attributes: tuple[str, ...] = ()
    known: dict[tuple[Any, ...], Asked] = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        return f"rules {self.hash} ({len(self.rules)})"

    def asked(self, look: Look) -> Asked:
        """The rules that are for this call, in their order; remembered by all that their scopes look at."""
        call = look.call
        kind = (call.channel, look.watches.language, *[typed(call.attributes.get(name)) for name in self.attributes])
        found = self.known.get(kind)
        if found is None:
            if len(self.known) >= SCOPES:
                self.known.clear()
            found = self.known[kind] = _asked([r for r in self.rules if r.applies is None or r.applies(look)])
        return found


def _asked(rules: Sequence[Rule]) -> Asked:
    entries = tuple((rule.ref.name, rule.when.holds, rule) for rule in rules)
    timed = tuple(entry for entry in entries if any(condition.wakes for condition in entry[2].conditions))
    wakes = tuple(wake for *_, rule in timed for condition in rule.conditions for wake in condition.wakes)
    names, digests = frozenset(rule.ref.name for rule in rules), frozenset(rule.digest for rule in rules)
    return Asked(entries, names, digests, timed, wakes)


def rule_set(rules: Sequence[Rule]) -> RuleSet:
    listeners = {listener.key: listener for rule in rules for c in rule.conditions for listener in c.listeners}
    return RuleSet(
        tuple(rules),
        digest([rule.digest for rule in rules], 12),
        tuple(listeners.values()),
        {key: listener.keep for key, listener in listeners.items()},
        {rule.ref.name: rule for rule in rules},
        tuple(dict.fromkeys(name for rule in rules for name in rule.attributes)),
    )


def load(path: Path | None) -> RuleSet:
    """The rules of a file or folder, None: those that are on by default. Raises RulesError: every fault with file and line."""
    if path is None:
        return _defaults()
    found, faults = check(path)
    if faults or found is None:
        raise RulesError("\n".join(map(str, faults)))
    return found


@lru_cache(maxsize=1)
def _defaults() -> RuleSet:
    return rule_set([shipped(name) for name in DEFAULTS])


def library() -> tuple[str, ...]:
    """The names of the rules that ship."""
    return tuple(sorted(path.stem for path in LIBRARY.glob("*.yaml")))


@lru_cache(maxsize=64)
def shipped(name: str) -> Rule:
    """A rule of the library."""
    file = LIBRARY / f"{name}.yaml"
    (rule,), faults = read(file.read_text(encoding="utf-8"), str(file))
    if faults:
        raise RulesError("\n".join(map(str, faults)))
    return rule


Texts = tuple[tuple[str, str], ...]
"""The names and texts of rules files, in their order."""


def check(path: Path) -> tuple[RuleSet | None, list[Fault]]:
    """The rules, or all that is wrong with them."""
    return checked(path, texts(path))


def texts(path: Path) -> Texts | Fault:
    """What a rules file or folder says now, or why it cannot be read."""
    try:
        return tuple((str(file), file.read_text(encoding="utf-8-sig")) for file in _files(path))
    except (OSError, UnicodeDecodeError) as error:
        return Fault(str(path), 1, f"cannot be read ({error}); name a file in UTF-8, or a folder of *.yaml")


def checked(path: Path, found: Texts | Fault) -> tuple[RuleSet | None, list[Fault]]:
    """The rules of what a path says, or all that is wrong with them."""
    if isinstance(found, Fault):
        return None, [found]
    rules: list[Rule] = []
    faults: list[Fault] = []
    for file, text in found:
        try:
            more, wrong = read(text, file, {rule.ref.name for rule in rules})
        except Exception as error:  # a live worker looks at the file, and goes on
            more, wrong = [], [Fault(file, 1, f"this cannot be read as rules ({type(error).__name__}: {error})")]
        rules += more
        faults += wrong
    if len(rules) > MOST_RULES:
        faults.append(Fault(str(path), 1, f"{len(rules)} rules are too many: at most {MOST_RULES}"))
    return (None if faults else rule_set(rules)), faults


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml") and not file.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"no *.yaml in {path}")
    return files


def read(text: str, file: str, names: set[str] | frozenset[str] = frozenset()) -> tuple[list[Rule], list[Fault]]:
    """The rules of one file's text and its faults; `names` are taken already."""
    document, taken = parse(text, file), set(names)
    rules = [rule for rule in _rules(document) if _is_new(document, rule, taken)]
    return [rule for _, rule in rules], sorted(document.faults, key=lambda fault: fault.line)


Placed = tuple[tuple[str | int, ...], Rule]


def _is_new(document: Document, placed: Placed, taken: set[str]) -> bool:
    path, rule = placed
    if rule.ref.name in taken:
        document.fault((*path, "name"), f"there is a rule {rule.ref.name} already: give this one another name")
        return False
    taken.add(rule.ref.name)
    return True


def _rules(document: Document) -> Iterator[Placed]:
    top = document.value
    if not isinstance(top, dict) or not ({"rules", "use"} & top.keys()):
        if not document.faults:
            document.fault((), "a rules file begins with `rules:`, then a list; or `use:` with names of the library")
        return
    for key in top.keys() - {"rules", "use"}:
        document.fault((key,), f"`{key}` is not known here: a file has `rules:` and `use:`")
    for key in ("use", "rules"):
        given = top.get(key, [])
        if not isinstance(given, list):
            document.fault((key,), f"`{key}` needs a list, each item with a dash before it")
            continue
        make = _used if key == "use" else _written
        for i, raw in enumerate(given):
            if (rule := make(document, (key, i), raw)) is not None:
                yield (key, i), rule


def _used(document: Document, path: tuple[str | int, ...], raw: Any) -> Rule | None:
    if raw not in library():
        document.fault(path, f"the library has no rule {raw}: there are {', '.join(library())}")
        return None
    return shipped(raw)


def _written(document: Document, path: tuple[str | int, ...], raw: Any) -> Rule | None:
    spec = checking.rule(document, path, raw)
    if spec is None:
        return None
    rule = compile_rule(spec, digest(raw))
    names = [name for condition in rule.conditions for name in condition.names]
    for name, form in PLACEHOLDER.findall(spec.reason):
        if name not in names:
            document.fault((*path, "reason"), f"{{{name}}} is not compared by the rule: there are {', '.join(names)}")
        elif not FORM.fullmatch(form):
            document.fault((*path, "reason"), f"{{{name}:{form}}} has no form such as .1f, +.2f or .0%: write one, or none")
    return rule


def compile_rule(spec: language.Rule, content: str) -> Rule:
    """The rule of a checked spec."""
    naming = Naming(spec.scope.speaker)
    when = compiled(spec.when, naming)
    until = None if unset(spec.until) else compiled(spec.until, naming)
    escalations = tuple(
        Escalation(e.to, None if unset(e.when) else compiled(e.when, naming), milliseconds(e.after or 0))
        for e in escalations_of(spec)
    )
    return Rule(
        ref=RuleRef(spec.name, spec.version),
        digest=content,
        severity=spec.severity,
        speaker=spec.scope.speaker,
        applies=scope(spec.scope),
        attributes=tuple(spec.scope.attributes),
        when=when,
        until=until,
        lasting_ms=milliseconds(spec.lasting),
        cooldown_ms=milliseconds(spec.cooldown),
        escalations=escalations,
        quoted=spec.evidence,
        reason=spec.reason,
        resolved=spec.resolved,
        conditions=tuple(c for c in (when, until, *(e.when for e in escalations)) if c is not None),
    )


def schema() -> dict[str, Any]:
    """The JSON Schema of a rules file."""
    return language.schema({m.name: f"{m.about} In {m.unit}, {m.low:g} to {m.high:g}." for m in MEASURES.values()}, library())
