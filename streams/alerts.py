"""From what the rules see to the life of an alert: open, update, escalate, resolve. Pure.

`judge(before, after, scored)` gives the alerts of one segment; `noted(call, alerts)` the state that remembers them, so that
the state is always the fold of the alerts that were published. Identities are deterministic: a repeated judgement gives
the same alerts, byte for byte.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from streams.conversation import Conversation, Episode
from streams.records import SEVERITIES, Alert, AlertEvent, RuleRef, Scored, Severity
from streams.rules import BUILT_IN, Rule, Sight

UPDATE_EVERY_MS = 30_000
EPISODES = 16  # kept a call; the oldest resolved ones go first
EVIDENCE = 5


def judge(before: Conversation | None, after: Conversation, scored: Scored, rules: Sequence[Rule] = BUILT_IN) -> list[Alert]:
    """The alerts that this segment causes, in the order of the rules. Only a newly scored customer turn causes any."""
    if after.recent == (before.recent if before else ()):
        return []
    return [alert for rule in rules if (alert := _judged(rule, after, scored))]


def _judged(rule: Rule, call: Conversation, scored: Scored) -> Alert | None:
    sight = rule.see(call)
    episode = _open_episode(call, rule.ref)
    event = _event(sight, episode, call.recent[-1].end_ms)
    if event is None:
        return None
    if episode is None:
        opened_by = scored.segment_id or ""
        episode = Episode(alert_id(call.call_id, rule.ref, opened_by), rule.ref, "info", 0, call.recent[-1].end_ms, 0)
    severity = max(sight.severity or "info", episode.severity, key=SEVERITIES.index)  # it never falls within an episode
    if event == "resolve":
        sight = replace(sight, reason="The customer has recovered.")
    return _alert(call, episode, event, severity, call.recent[-1].end_ms, sight)


def _event(sight: Sight, episode: Episode | None, now_ms: int) -> AlertEvent | None:
    if episode is None:
        return "open" if sight.severity else None
    if sight.clear:
        return "resolve"
    if sight.severity is None:
        return None
    if SEVERITIES.index(sight.severity) > SEVERITIES.index(episode.severity):
        return "escalate"
    return "update" if now_ms - episode.alerted_ms >= UPDATE_EVERY_MS else None


def _alert(call: Conversation, episode: Episode, event: AlertEvent, severity: Severity, at_ms: int, sight: Sight) -> Alert:
    return Alert(
        alert_id=episode.alert_id,
        sequence=episode.sequence + 1,
        event=event,
        status="resolved" if event == "resolve" else "open",
        rule=episode.rule,
        severity=severity,
        call_id=call.call_id,
        at_ms=at_ms,
        at=call.at(at_ms),
        at_source=call.origin,
        reason=sight.reason,
        evidence=sight.evidence[-EVIDENCE:],
        values=sight.values,
        attributes=call.attributes,
    )


def resolve_all(call: Conversation, at_ms: int) -> list[Alert]:
    """What closes the open alerts of a call that is over."""
    over = Sight(None, clear=False, reason="The call is over.")
    return [_alert(call, e, "resolve", e.severity, at_ms, over) for e in call.episodes if not e.resolved]


def alert_id(call_id: str, rule: RuleRef, opened_by: str) -> str:
    """128 bits, in hex, of SHA-256 over call, rule and the segment that opened the episode."""
    return hashlib.sha256("\x1f".join((call_id, rule.name, opened_by)).encode()).hexdigest()[:32]


def _open_episode(call: Conversation, rule: RuleRef) -> Episode | None:
    return next((e for e in call.episodes if e.rule.name == rule.name and not e.resolved), None)


def noted(call: Conversation, alerts: Sequence[Alert]) -> Conversation:
    """The call with its episodes as these alerts leave them."""
    episodes = {e.alert_id: e for e in call.episodes}
    for alert in alerts:
        opened_ms = episodes[alert.alert_id].opened_ms if alert.alert_id in episodes else alert.at_ms
        episodes[alert.alert_id] = Episode(
            alert.alert_id, alert.rule, alert.severity, alert.sequence, opened_ms, alert.at_ms, alert.status == "resolved"
        )
    return replace(call, episodes=_kept(list(episodes.values()))) if alerts else call


def _kept(episodes: list[Episode]) -> tuple[Episode, ...]:
    resolved = [e for e in episodes if e.resolved]
    gone = resolved[: max(0, len(episodes) - EPISODES)]
    return tuple(e for e in episodes if e not in gone)
