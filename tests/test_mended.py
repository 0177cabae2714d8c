"""Faust's wait for the first of several, as it is mended: the same as before, and no task where nothing has to wait."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from mode import Service
from mode.services import WaitResults

from streams.mended import wait_first

Wait = Callable[..., Awaitable[WaitResults]]


@pytest.fixture(params=["as it was", "mended"])
def wait(request: pytest.FixtureRequest) -> Wait:
    return Service.wait_first if request.param == "as it was" else wait_first


def run(scene: Callable[[Service], Awaitable[None]]) -> None:
    async def play() -> None:
        await asyncio.wait_for(scene(Service()), 5)

    asyncio.run(play())


async def handed(log: list[str], *waits: asyncio.Event) -> str:
    log.append("begun")
    for event in waits:
        await event.wait()
    log.append("handed")
    return "done"


def test_the_first_that_is_done_is_told_with_what_it_gave(wait: Wait) -> None:
    async def scene(service: Service) -> None:
        log: list[str] = []
        first = handed(log)
        told = await wait(service, first, asyncio.Event().wait())
        assert (told.done, told.results, told.stopped) == ([first], ["done"], False)
        assert log == ["begun", "handed"]

    run(scene)


def test_a_first_one_that_has_to_wait_goes_on_where_it_was(wait: Wait) -> None:
    async def scene(service: Service) -> None:
        log, events = [], [asyncio.Event(), asyncio.Event()]
        waiting = asyncio.ensure_future(wait(service, handed(log, *events), asyncio.Event().wait()))
        for event in events:
            for _ in range(5):
                await asyncio.sleep(0)
            assert not waiting.done()
            event.set()
        assert (await waiting).results == ["done"]
        assert log == ["begun", "handed"]

    run(scene)


def test_a_first_one_that_another_overtakes_is_cancelled_where_it_waits(wait: Wait) -> None:
    async def scene(service: Service) -> None:
        log, suspended = [], asyncio.Event()

        async def interrupted() -> None:
            try:
                await handed(log, asyncio.Event())
            except asyncio.CancelledError:
                log.append("cancelled")
                raise

        waiting = asyncio.ensure_future(wait(service, interrupted(), suspended.wait()))
        for _ in range(5):
            await asyncio.sleep(0)
        suspended.set()
        assert (await waiting).results == [True]
        for _ in range(5):
            await asyncio.sleep(0)
        assert log == ["begun", "cancelled"]

    run(scene)


@pytest.mark.parametrize("waits", [False, True])
def test_what_the_first_one_raises_is_raised(wait: Wait, waits: bool) -> None:
    async def scene(service: Service) -> None:
        async def broken() -> None:
            if waits:
                await asyncio.sleep(0)
            raise ValueError("broken")

        with pytest.raises(ValueError, match="broken"):
            await wait(service, broken(), asyncio.Event().wait())

    run(scene)


def test_no_task_is_made_for_a_first_one_that_need_not_wait() -> None:
    async def scene(service: Service) -> None:
        made: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **given: made.append(coro) or asyncio.Task(coro, loop=loop, **given))
        await wait_first(service, handed([]), asyncio.Event().wait())
        assert made == []

    run(scene)


def test_events_alone_are_waited_for_as_before() -> None:
    async def scene(service: Service) -> None:
        one, other = asyncio.Event(), asyncio.Event()
        other.set()
        assert (await wait_first(service, one, other)).done == [other]

    run(scene)
