"""Is everything there that a worker needs? One check after the other, each with the way out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from models.errors import ModelError
from streams import reload, security, topics
from streams.errors import CallpulseError
from streams.settings import Settings

TRANSACTIONS = "alerts and summaries exactly once for consumers of committed records (isolation.level=read_committed)"
NO_TRANSACTIONS = (
    "at least once: this broker has no transactions. A repeated alert has the same ce_id, by which consumers drop it; nothing "
    "keeps a worker that was frozen, and replaced, from writing old states when it wakes up: not for production"
)


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at and what was found. `skipped`: not looked at, since an earlier check failed."""

    name: str
    state: Literal["ok", "failed", "skipped"]
    detail: str


def examine(settings: Settings, load: Callable[[Settings], Any]) -> Iterator[Check]:
    """Broker, topics, delivery, rules, model and device, as they are found; never raises for what it looks for."""
    yield _security(settings)
    try:
        with topics.admin(settings) as client:
            yield Check("broker", "ok", f"answers at {settings.bootstrap_servers}")
            yield _topics(settings, client)
            yield Check("delivery", "ok", TRANSACTIONS if settings.profile.transactions else NO_TRANSACTIONS)
    except CallpulseError as error:
        yield Check("broker", "failed", str(error))
        yield Check("topics", "skipped", "no broker")
        yield Check("delivery", "skipped", "no broker")
    yield _rules(settings)
    yield _model(settings, load)


def _security(settings: Settings) -> Check:
    try:
        security.client(settings)
    except CallpulseError as error:
        return Check("security", "failed", str(error))
    return Check("security", "ok", security.described(settings))


def _topics(settings: Settings, client: Any) -> Check:
    try:
        found = topics.found(client, settings)
        topics.check(found, settings)
        topics.permit(found)
    except CallpulseError as error:
        return Check("topics", "failed", str(error))
    return Check("topics", "ok", f"all six with prefix {settings.prefix!r}, {found['sentiment'].partitions} partitions judged")


def _rules(settings: Settings) -> Check:
    """What a worker with these settings would begin with; a running one says in /healthz what it judges by."""
    try:
        found = reload.begin(settings.rules_path, settings.text).newest
    except CallpulseError as error:
        return Check("rules", "failed", str(error))
    where = settings.rules or "the default ones"
    return Check(
        "rules", "ok", f"hash {found.hash}, {len(found.rules)} in {where}: /healthz of each worker has the hash in force"
    )


def _model(settings: Settings, load: Callable[[Settings], Any]) -> Check:
    try:
        scorer = load(settings)
        scorer.score(["hello"])
    except ModelError as error:
        return Check("model", "failed", str(error))
    device = getattr(scorer, "device", "cpu")
    return Check("model", "ok", f"{scorer.name} {scorer.revision}, {scorer.precision} on {device}")
