"""What a worker shows: its pages, for orchestrators and Prometheus, and what a scrape sees of its agents at that moment."""

import time
from collections.abc import Sequence
from typing import Any

from streams import __version__
from streams.agents import Context, Scoring
from streams.exposition import CONTENT_TYPE, Exposition
from streams.health import health
from streams.judging import Judging
from streams.metrics import Agent, Scrape
from streams.role import Role
from streams.settings import Settings


def serve(app: Any, context: Context, roles: Sequence[Role]) -> None:
    """/healthz, 503 when nothing has moved for long though there is something to do, with the rules in force; /readyz, 503
    until every agent has its share of the partitions and their states (the model was warm before); /metrics, for Prometheus."""
    exposition = Exposition(lambda: scraped(context, roles))

    @app.page("/healthz")
    async def healthz(web: Any, _request: Any) -> Any:
        progress = {role.name: role.progress for role in roles}
        rules = context.rules.status() if "judge" in progress else None
        alive, said = health(progress, context.settings.stall_s, time.monotonic(), rules)
        return web.json(said, status=200 if alive else 503)

    @app.page("/readyz")
    async def readyz(web: Any, _request: Any) -> Any:
        waiting = [role.name for role in roles if not (role.ready.is_set() and role.lane.running.is_set())]
        return web.json({"status": "not ready" if waiting else "ready", "waiting_for": waiting}, status=503 if waiting else 200)

    @app.page("/metrics")
    async def metrics(web: Any, _request: Any) -> Any:
        return web.bytes(exposition.text(), headers={"Content-Type": CONTENT_TYPE})


def scraped(context: Context, roles: Sequence[Role]) -> Scrape:
    """What this worker has to expose now."""
    works = [role.lane.work for role in roles]
    return Scrape(
        __version__,
        context.counts,
        context.metrics,
        [seen(role, context.settings) for role in roles],
        next((work.seen() for work in works if isinstance(work, Scoring)), None),
        next((work.seen() for work in works if isinstance(work, Judging)), None),
    )


def seen(role: Role, settings: Settings) -> Agent:
    """One agent, for whoever scrapes the worker. The lag of a partition that is another's by now is left out."""
    lane, still_s = role.lane, role.progress.still_s(time.monotonic())
    lags = {(place.topic, place.partition): lag for place, lag in role.lags.items() if place in lane.done}
    topic = settings.topic("segments" if role.name == "score" else "sentiment")
    return Agent(role.name, role.backlog.group, topic, len(lane.waiting), lane.taken, still_s, lane.batches, lags)
