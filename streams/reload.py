"""The rules of a running worker: read again when their file or folder changes, taken when they are valid.

A change is taken once two looks in a row find the same content (an editor may be amid writing: half of a file can be valid, and
would resolve the alerts of the other half), so one to two pauses after it was made; two workers differ for at most one pause,
besides the batch that each of them finishes. What is refused changes nothing, and is said once.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path

from streams.errors import RulesError
from streams.located import Fault
from streams.rules import RuleSet, Texts, checked, load, texts
from streams.unheard import refuse_words

log = logging.getLogger("callpulse.rules")


def begin(path: Path | None, text: bool) -> "Rules":
    """The rules to begin with. Raises RulesError; also where they ask for words and no `text` is published."""
    rules = load(path)
    if not text:
        refuse_words(rules)
    return Rules(rules, path, text)


@dataclass(slots=True)
class Rules:
    """`newest` is the last valid set that was read, `in_force` what is judged by (the judge makes it the newest between two
    batches); `refused` says why what lies there is neither, "" when it is. `path` None: the default rules, for ever."""

    newest: RuleSet = field(default_factory=lambda: load(None))
    path: Path | None = None
    text: bool = True
    in_force: RuleSet = field(init=False)
    refused: str = ""
    seen: Texts | Fault | None = None
    decided: Texts | Fault | None = None

    def __post_init__(self) -> None:
        self.in_force = self.newest

    def look(self) -> None:
        """Looks once at what lies there."""
        if self.path is None:
            return
        found, before = texts(self.path), self.seen
        self.seen = found
        if found == before and found != self.decided:
            self.decided = found
            self._decide(self.path, found)

    def _decide(self, path: Path, found: Texts | Fault) -> None:
        rules, faults = checked(path, found)
        try:
            if rules is None:
                raise RulesError("\n".join(map(str, faults)))
            if not self.text:
                refuse_words(rules)
        except RulesError as error:
            self.refused = str(error) if faults else f"{path}: {error}"
            log.error("rules refused; %s stay in force until this is mended: %s", self.newest, self.refused)
            return
        if self.refused:
            log.info("rules mended: %s", rules)
        self.refused = ""
        if rules.hash != self.newest.hash:
            self.newest = rules

    def take(self) -> RuleSet:
        """Puts the newest in force, between two batches."""
        if self.newest is not self.in_force:
            log.info("%s in force, where %s were", self.newest, self.in_force)
            self.in_force = self.newest
        return self.in_force

    def status(self) -> dict[str, object]:
        """As /healthz has it."""
        said: dict[str, object] = {"hash": self.in_force.hash, "count": len(self.in_force.rules)}
        return said | ({"refused": self.refused} if self.refused else {})

    async def watch(self, every_s: float) -> None:
        """Looks again and again; for ever. Reading and checking leave the event loop free."""
        while True:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(self.look)
