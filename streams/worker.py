"""The Faust apps: two thin agents joined by a topic. Only `fetched` and `mended` know Faust besides.

`score_segments` takes raw bytes from calls.segments, has the engine score them and publishes to calls.sentiment;
`judge_calls` takes those, advances the calls and publishes alerts, summaries and states. Each is an app with a consumer
group of its own; `run` starts one or both in this process. How a batch is delivered and acknowledged: `delivery`.

Slow is not dead: Faust's consumer sends its heartbeats from a thread of its own, so a long batch loses no partition, and
how long a consumer may go without polling is no limit here; that offsets move is watched by /healthz.
"""

import asyncio
import contextlib
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec

import faust
import uvloop

from models.sentiment import Scorer
from streams.agents import Context, Scoring
from streams.backlog import Backlog
from streams.delivery import Lane
from streams.fetched import Transport
from streams.judging import Judging
from streams.mended import mend
from streams.pages import serve
from streams.publisher import Publisher
from streams.reload import Rules
from streams.role import Role
from streams.security import aio_client
from streams.settings import Settings
from streams.topics import Found
from streams.traced import UNTRACED, Tracer

log = logging.getLogger("callpulse.worker")

STOP_S = {signal.SIGINT: 4.0, signal.SIGTERM: 10.0}  # for what is under way when the worker is told to stop
FAILED_S = 4.0  # and when it stops by itself
REPORT_S = 10.0
WATCH_S = 5.0
NEVER_S = 7 * 86_400.0
PACE_S = {"score": 0.01, "judge": 0.1}  # a judge's transaction costs the broker as much as a hundred records
FETCHES = 4  # that wait for an agent, besides what it has; each may have a megabyte
P = ParamSpec("P")
Task = Coroutine[Any, Any, None]
RAW = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}


def credentials(settings: Settings) -> Any:
    """The same as aiokafka's clients take, in Faust's words; None without TLS and SASL."""
    made = aio_client(settings)
    context = made.get("ssl_context")
    if tokens := made.get("sasl_oauth_token_provider"):
        return faust.OAuthCredentials(oauth_cb=tokens, ssl_context=context)
    if mechanism := made.get("sasl_mechanism"):
        user, password = made["sasl_plain_username"], made["sasl_plain_password"]
        return faust.SASLCredentials(username=user, password=password, mechanism=mechanism, ssl_context=context)
    return faust.SSLCredentials(context) if context else None


def make_app(settings: Settings, role: str, web: bool) -> faust.App:
    """A Faust app without tables, leader topic and automatic topics: membership, assignment, flow control, web server."""
    mend()
    profile = settings.profile
    app = faust.App(
        f"{settings.group}-{role}",
        broker=";".join(f"kafka://{server.strip()}" for server in settings.bootstrap_servers.split(",")),
        broker_credentials=credentials(settings),
        store="memory://",
        datadir=tempfile.gettempdir(),
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{settings.instance_id}-{role}" if settings.instance_id else None,
        broker_session_timeout=profile.session_timeout,
        broker_heartbeat_interval=profile.heartbeat,
        broker_rebalance_timeout=30.0,
        broker_request_timeout=40.0,
        broker_max_poll_interval=NEVER_S,
        broker_max_poll_records=2000,
        stream_buffer_maxsize=FETCHES,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        web_enabled=web and settings.web_port > 0,
        web_bind=settings.web_host,
        web_host=settings.web_host,
        web_port=settings.web_port or 6066,
    )
    app.transport = Transport(app.conf.broker_consumer, app)
    app.transport.pace_s = PACE_S[role]
    return app


def score_app(context: Context, scorer: Scorer) -> Role:
    """calls.segments -> calls.sentiment. Stateless."""
    settings = context.settings
    app, publisher = make_app(settings, "score", web=True), Publisher(settings, context.metrics.sent)
    scoring = Scoring(context, scorer, publisher, behind=lambda: lane.waiting)
    lane = Lane(app, scoring, context.failed)
    role = Role("score", app, lane, publisher, asyncio.Event(), Backlog(settings, "score"), scoring.stop)

    @app.agent(app.topic(settings.topic("segments"), acks=False, **RAW))
    async def score_segments(stream: Any) -> None:
        await lane.feed(event.message async for event in stream.noack().events())

    @app.on_partitions_revoked.connect(weak=False)
    async def revoked(*_: Any, **__: Any) -> None:
        role.ready.clear()
        await role.revoked()

    @app.on_partitions_assigned.connect(weak=False)
    async def assigned(_app: Any, partitions: Iterable[Any], **_: Any) -> None:
        role.assigned(context, partitions)
        role.ready.set()

    return role


def judge_app(context: Context, web: bool) -> Role:
    """calls.sentiment -> calls.alerts, calls.summaries, calls.state. Keyed by call."""
    settings = context.settings
    app, publisher = make_app(settings, "judge", web), Publisher(settings, context.metrics.sent)
    judging = Judging(context, publisher, member=lambda: lane.commit(again=True))
    lane = Lane(app, judging, context.failed)
    role = Role("judge", app, lane, publisher, judging.ready, Backlog(settings, "judge"), judging.stop)

    @app.agent(app.topic(settings.topic("sentiment"), acks=False, **RAW))
    async def judge_calls(stream: Any) -> None:
        await lane.feed(event.message async for event in stream.noack().events())

    @app.on_partitions_revoked.connect(weak=False)
    async def revoked(*_: Any, **__: Any) -> None:
        judging.ready.clear()
        await role.revoked()

    @app.on_partitions_assigned.connect(weak=False)
    async def assigned(_app: Any, partitions: Iterable[Any], **_: Any) -> None:
        judging.own(tp.partition for tp in partitions)
        role.assigned(context, partitions)

    return role


def run(
    settings: Settings,
    found: Mapping[str, Found],
    scorer: Scorer | None,
    judge: bool,
    skip: Iterable[str] = (),
    rules: Rules | None = None,
    tracer: Tracer = UNTRACED,
) -> int:
    """Runs the scorer (when one is given) and the judge until a signal or a failure. Returns the exit code: 0 after SIGTERM,
    130 after SIGINT, 1 after a failure. `skip`: places of records, TOPIC:PARTITION:OFFSET, that go to calls.rejected.
    `rules` None: those that are on by default."""
    if scorer is not None:
        scorer.score(["warm up"])
    return uvloop.run(_run(Context(settings, found, frozenset(skip), rules=rules or Rules(), tracer=tracer), scorer, judge))


async def _run(context: Context, scorer: Scorer | None, judge: bool) -> int:
    roles = [score_app(context, scorer)] if scorer is not None else []
    roles += [judge_app(context, web=scorer is None)] if judge else []
    serve(roles[0].app, context, roles)
    with _signals(context.stop) as received:
        tasks = [asyncio.create_task(_supervised(role, context)) for role in roles]
        tasks += [asyncio.create_task(_report(context, roles)), asyncio.create_task(_watch(context, roles))]
        tasks += [asyncio.create_task(_reread(context))] if judge else []
        await context.stop.wait()
    for task in tasks:
        task.cancel()
    in_time = await _stopped(roles, min((STOP_S[number] for number in received), default=FAILED_S))
    log.info("stopped: %s", context.counts)
    code = 1 if context.failure is not None else 130 if signal.SIGINT in received else 0
    if not in_time:
        logging.shutdown()
        os._exit(code)  # a thread of Faust's that still waits for the broker would hold the process
    return code


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[list[signal.Signals]]:
    received: list[signal.Signals] = []

    def stopped(number: signal.Signals) -> None:
        received.append(number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped, number)
    yield received


async def _supervised(role: Role, context: Context) -> None:
    """Starts a role and waits; a crash inside Faust is a failure like any other."""
    try:
        await role.start()
        await role.app.wait_until_stopped()
        if not context.stop.is_set():
            raise role.app.crash_reason or RuntimeError("Faust has stopped by itself")
    except Exception as error:
        context.failed(error, [])


def _vital(work: Callable[Concatenate[Context, P], Task]) -> Callable[Concatenate[Context, P], Task]:
    """A task of the worker's that would otherwise end unseen: what it raises stops the worker."""

    async def kept(context: Context, /, *rest: P.args, **named: P.kwargs) -> None:
        try:
            await work(context, *rest, **named)
        except Exception as error:
            context.failed(error, [])

    return kept


@_vital
async def _watch(context: Context, roles: Sequence[Role]) -> None:
    while True:
        await asyncio.sleep(min(WATCH_S, context.settings.stall_s / 4))
        for role in roles:
            await role.watch(context)


@_vital
async def _reread(context: Context) -> None:
    """Looks whether the rules have changed, for as long as the worker runs."""
    log.info("%s in force", context.rules.in_force)
    await context.rules.watch(context.settings.rules_poll_s)


@_vital
async def _report(context: Context, roles: Sequence[Role]) -> None:
    """One line when the worker is ready, then one every ten seconds in which something came or is left to do."""
    for role in roles:
        await role.ready.wait()
        await role.lane.running.wait()
    log.info("ready")
    before = ""
    while True:
        await asyncio.sleep(REPORT_S)
        behind = ", ".join(f"{role.progress.lag:,} to {role.name}" for role in roles if role.progress.lag)
        line = f"{context.counts}{f'; lag: {behind}' if behind else ''}"
        if paused := [role.name for role in roles if role.progress.paused]:
            log.warning("overloaded: consumption pauses until there is room (%s); %s", ", ".join(paused), line)
        elif line != before:
            log.info("%s", line)
        before = line


async def _stopped(roles: Sequence[Role], seconds: float) -> bool:
    """Stops them all; whether that was done within so many seconds."""
    stops = [asyncio.create_task(role.stop()) for role in roles]
    _, late = await asyncio.wait(stops, timeout=seconds)
    for stop in stops:
        if stop.done() and (error := asyncio.CancelledError() if stop.cancelled() else stop.exception()) is not None:
            log.error("not stopped cleanly; what was under way will be redelivered: %r", error)
            late.add(stop)
    if any(not stop.done() for stop in late):
        log.warning("gave up waiting after %.0f s; what was under way will be redelivered", seconds)
    return not late
