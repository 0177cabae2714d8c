"""From what the rules see to the life of an alert: open, update, escalate, resolve. Pure.

A (call, rule) episode is one state machine:

    quiet --when holds, for `for`--> open --until holds (or when has passed), for `cooldown`--> resolved
                                      |^
                                      `- escalate to a graver severity, which never falls again; update at the speaker's turns

What comes back within the cooldown goes on with the same episode, so flapping is one. A call that ends, a call that leaves the
rule's scope and a rule that is changed or removed resolve it at once. An acknowledged episode would stay open and be
resolved in the same way.

`follow(before, after, scored, rules)` gives the call as the rules leave it, with the alerts; `due` the same when nothing
arrived and `Conversation.rules_due` has come. Identities are deterministic: a repeated judgement gives the same alerts, byte
for byte.
"""

import hashlib
from collections.abc import Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from streams.conversation import Conversation
from streams.episodes import Episode, Watches, kept, next_number, with_hits
from streams.look import Look, names_of
from streams.records import SEVERITIES, Alert, AlertEvent, RuleRef, Scored, Severity
from streams.rules import Asked, Rule, RuleSet
from streams.turns import hashed
from streams.words import plain

UPDATE_EVERY_MS = 30_000
OVER = "The call is over."
OUT_OF_SCOPE = "The call is no longer one that the rule is for."
CHANGED = "The rule was changed."
REMOVED = "The rule was removed."


class Judgement(Struct, frozen=True):
    """The call as the rules leave it, and the alerts to be published, in the order of the rules."""

    call: Conversation
    alerts: tuple[Alert, ...] = ()


def judge(before: Conversation | None, after: Conversation, scored: Scored | None, rules: RuleSet) -> list[Alert]:
    """The alerts alone, of a segment, or of the due time in the call's state (None)."""
    return list((due(after, rules) if scored is None else follow(before, after, scored, rules)).alerts)


def follow(before: Conversation | None, after: Conversation, scored: Scored, rules: RuleSet) -> Judgement:
    """What a record does. A partial only says that somebody speaks, a repeat nothing."""
    if scored.type != "segment":
        opened_by = f"{scored.source.partition}:{scored.source.offset}"
        return Moment(after, after.watches, after.clock, opened_by).judged(rules)
    said = scored.final and (before is None or after.turns is not before.turns)
    if scored.final and not said:
        return Judgement(after)
    watches = _listened(after, scored, rules)
    moment = Moment(after, watches, after.clock, scored.segment_id or "", scored.speaker if said else None)
    return moment.judged(rules, timed_only=not said)


def due(call: Conversation, rules: RuleSet) -> Judgement:
    """What happens at the call's `rules_due`."""
    at = call.rules_due if call.rules_due is not None else call.clock
    return Moment(call, call.watches, at, "").judged(rules)


def _listened(call: Conversation, scored: Scored, rules: RuleSet) -> Watches:
    watches = call.watches
    hits = _hits(watches, scored, call, rules) if scored.final else watches.hits
    final_clock = call.clock if scored.final else watches.final_clock or watches.spoken_clock or call.clock
    return Watches(call.clock, scored.language or watches.language, watches.since, hits, final_clock)


def _hits(watches: Watches, scored: Scored, call: Conversation, rules: RuleSet) -> Mapping[str, tuple[int, ...]]:
    names = names_of(call, scored.speaker)
    listeners = [listener for listener in rules.listeners if listener.speaker in names]
    if not listeners:
        return watches.hits
    text = plain(scored.text)
    keys = [listener.key for listener in listeners if listener.found(text)]
    if not keys:
        return watches.hits
    segment = hashed(scored.segment_id or "")
    end_ms = next((turn.end_ms for turn in reversed(call.turns) if turn.segment == segment), call.at_ms)
    return with_hits(watches.hits, dict.fromkeys(keys, end_ms), rules.keep)


class Moment:
    """One look at a call by the rules, at `clock` (ms since 1970); what opens now was opened by this segment, "" for the due
    time. `speaker` is whose utterance has just come, if one has."""

    def __init__(self, call: Conversation, watches: Watches, clock: int, opened_by: str, speaker: str | None = None) -> None:
        idle_ms = max(0, clock - watches.spoken_clock) if watches.spoken_clock else 0
        self.call, self.watches, self.clock, self.speaker = call, watches, clock, speaker
        self.look = Look(call, idle_ms, watches)
        # Partials end a silence, and the call goes on meanwhile: its time is counted from the last final.
        began = watches.final_clock or watches.spoken_clock
        self.now_ms = call.at_ms + (max(0, clock - began) if began else 0)
        self.opened_by = opened_by or f"@{self.now_ms}"
        self.episodes = list(call.episodes)
        self.open = {e.name: i for i, e in enumerate(self.episodes) if not e.resolved}
        self.since = dict(watches.since)
        self.alerts: list[Alert] = []

    def judged(self, rules: RuleSet, timed_only: bool = False) -> Judgement:
        """After the rules that are for the call, or those of them that depend on time, have looked."""
        asked = rules.asked(self.look)
        if self.open:
            self._let_go(rules, asked)
        if self.since:
            self.since = {digest: at for digest, at in self.since.items() if digest in asked.digests}
        look, open_ = self.look, self.open
        for name, holds, rule in asked.timed if timed_only else asked.rules:
            if name in open_:
                self._tended(rule, open_[name])
            elif holds(look):
                self._begun(rule)
            elif self.since:
                self.since.pop(rule.digest, None)
        return Judgement(self._left(rules, asked), tuple(self.alerts))

    def _let_go(self, rules: RuleSet, asked: Asked) -> None:
        """Resolves what is open of rules that have changed since, or that are no longer for the call."""
        for name, i in [*self.open.items()]:
            same = _same(self.episodes[i], rules)
            if not same or name not in asked.names:
                self._tell(i, "resolve", OUT_OF_SCOPE if same else CHANGED if name in rules.names else REMOVED)

    def _left(self, rules: RuleSet, asked: Asked) -> Conversation:
        watches = self.watches
        if self.since != watches.since:
            watches = replace(watches, since=self.since)
        episodes = kept(self.episodes) if self.alerts else tuple(self.episodes)
        rules_due = self._next_due(rules, asked)
        return replace(self.call, episodes=episodes, watches=watches, rules_due=rules_due, rules=rules.hash)

    def going_on(self, rules: RuleSet) -> Conversation:
        """The call when these rules are to look at it next; none of them has looked."""
        return self._left(rules, rules.asked(self.look))

    def _begun(self, rule: Rule) -> None:
        if rule.lasting_ms:
            if self.now_ms - self.since.setdefault(rule.digest, self.now_ms) < rule.lasting_ms:
                return
            del self.since[rule.digest]
        number = next_number(self.episodes, rule.ref.name)
        identity = alert_id(self.call.call_id, rule.ref, number, self.opened_by)
        severity = self._severity(rule, rule.severity, self.now_ms)
        episode = Episode(
            identity, rule.ref.name, rule.ref.version, severity, 0, self.now_ms, self.now_ms, number=number, digest=rule.digest
        )
        self.open[rule.ref.name] = len(self.episodes)
        self.episodes.append(episode)
        self._tell(len(self.episodes) - 1, "open", rule.told(self.look), rule)

    def _tended(self, rule: Rule, i: int) -> None:
        """An open episode goes on, or has passed."""
        episode = self.episodes[i]
        holds = rule.when.holds(self.look)
        if rule.until.holds(self.look) if rule.until else not holds:
            self._passed(rule, i)
            return
        if episode.clear_ms is not None:
            self.episodes[i] = episode = replace(episode, clear_ms=None)
        severity = self._severity(rule, episode.severity, episode.opened_ms)
        if severity != episode.severity:
            self.episodes[i] = replace(episode, severity=severity)
            self._tell(i, "escalate", rule.told(self.look), rule)
        elif holds and self._speaks(rule) and self.now_ms - episode.alerted_ms >= UPDATE_EVERY_MS:
            self._tell(i, "update", rule.told(self.look), rule)

    def _passed(self, rule: Rule, i: int) -> None:
        episode = self.episodes[i]
        clear_ms = self.now_ms if episode.clear_ms is None else episode.clear_ms
        if self.now_ms - clear_ms >= rule.cooldown_ms:
            self._tell(i, "resolve", rule.resolved, rule)
        elif episode.clear_ms is None:
            self.episodes[i] = replace(episode, clear_ms=clear_ms)

    def _severity(self, rule: Rule, severity: Severity, opened_ms: int) -> Severity:
        """The gravest that the episode has reached; it never falls."""
        for each in rule.escalations:
            if (
                SEVERITIES.index(each.to) > SEVERITIES.index(severity)
                and self.now_ms - opened_ms >= each.after_ms
                and (each.when is None or each.when.holds(self.look))
            ):
                severity = each.to
        return severity

    def _speaks(self, rule: Rule) -> bool:
        """Whether it was just the speaker whom the rule means."""
        return self.speaker is not None and rule.speaker in names_of(self.call, self.speaker)

    def _tell(self, i: int, event: AlertEvent, reason: str, rule: Rule | None = None) -> None:
        before = self.episodes[i]
        self.episodes[i] = after = _after(before, event, max(self.now_ms, before.alerted_ms))
        alert = _alert(self.call, after, event, reason)
        if rule is not None:
            alert = replace(alert, values=rule.values(self.look), evidence=rule.evidence(self.call))
        if event == "resolve":
            del self.open[after.name]
        self.alerts.append(alert)

    def _next_due(self, rules: RuleSet, asked: Asked) -> int | None:
        """The clock at which to look again, None if only something that arrives can change anything."""
        if self.call.status != "live":
            return None
        ahead = [ms for wake in asked.wakes if (ms := wake(self.look)) is not None]
        if self.since:
            ahead += [self.since[r.digest] + r.lasting_ms - self.now_ms for *_, r in asked.rules if r.digest in self.since]
        for name, i in self.open.items():
            ahead += [at - self.now_ms for at in _changes(rules.names[name], self.episodes[i])]
        return min((self.clock + ms for ms in ahead if ms > 0), default=None)


def _changes(rule: Rule, episode: Episode) -> Iterator[int]:
    """When (offsets) an open episode resolves or escalates by the lapse of time."""
    if episode.clear_ms is not None:
        yield episode.clear_ms + rule.cooldown_ms
    yield from (episode.opened_ms + e.after_ms for e in rule.escalations if e.after_ms and e.to != episode.severity)


def _after(episode: Episode, event: AlertEvent, at_ms: int) -> Episode:
    """The episode once this event has happened to it."""
    return replace(
        episode,
        sequence=episode.sequence + 1,
        alerted_ms=at_ms,
        resolved=event == "resolve",
        clear_ms=None,
    )


def _alert(call: Conversation, episode: Episode, event: AlertEvent, reason: str) -> Alert:
    return Alert(
        alert_id=episode.alert_id,
        sequence=episode.sequence,
        event=event,
        status="resolved" if event == "resolve" else "acknowledged" if episode.acknowledged else "open",
        rule=episode.rule,
        severity=episode.severity,
        call_id=call.call_id,
        at_ms=episode.alerted_ms,
        at=call.at(episode.alerted_ms),
        at_source=call.origin,
        reason=reason,
        attributes=call.attributes,
    )


def resolve_all(call: Conversation, at_ms: int) -> Judgement:
    """What closes the open alerts of a call that is over."""
    return _resolved(call, at_ms, {e.name: OVER for e in call.episodes if not e.resolved})


def reload(call: Conversation, new: RuleSet) -> Judgement:
    """The call as other rules take it over; one that they have judged already, or that is closed, stays as it is. Open episodes
    of rules that these are not, changed (in whatever way) or removed, resolve. What was heard for them and what had begun to
    hold is forgotten; the others go on. It depends on the state alone: whoever reads it, and whenever, takes it over alike."""
    if call.rules == new.hash or call.status == "closed":
        return Judgement(call)
    gone = {e.name: CHANGED if e.name in new.names else REMOVED for e in call.episodes if not _same(e, new)}
    digests = {rule.digest for rule in new.rules}
    since = {digest: at for digest, at in call.watches.since.items() if digest in digests}
    hits = {key: times for key, times in call.watches.hits.items() if key in new.keep}
    left = _resolved(replace(call, watches=replace(call.watches, since=since, hits=hits)), call.at_ms, gone)
    return Judgement(Moment(left.call, left.call.watches, call.clock, "").going_on(new), left.alerts)


def _same(episode: Episode, rules: RuleSet) -> bool:
    return episode.name in rules.names and rules.names[episode.name].digest == episode.digest


def _resolved(call: Conversation, at_ms: int, reasons: dict[str, str]) -> Judgement:
    episodes, alerts = [], []
    for episode in call.episodes:
        if not episode.resolved and episode.name in reasons:
            at = max(at_ms, episode.alerted_ms)
            episode = _after(episode, "resolve", at)
            alerts.append(_alert(call, episode, "resolve", reasons[episode.name]))
        episodes.append(episode)
    return Judgement(replace(call, episodes=tuple(episodes)), tuple(alerts))


def alert_id(call_id: str, rule: RuleRef, number: int, opened_by: str) -> str:
    """128 bits, in hex, of SHA-256 over call, rule, the episode's number and the segment (or due time) that opened it."""
    return hashlib.sha256("\x1f".join((call_id, rule.name, str(number), opened_by)).encode()).hexdigest()[:32]
