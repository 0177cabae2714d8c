"""A partition of the judge's whose transaction is refused: opened anew while it is this worker's, and only once."""

import asyncio
from typing import Any

import pytest
from test_agents import TOPICS

from streams.agents import Context
from streams.errors import FencedError
from streams.judging import Judging
from streams.outcome import Outcome
from streams.settings import Settings


class Opened:
    """What stands for a judged partition, refused or not; `closing` is what happens while it is given up."""

    where: Any = None

    def __init__(self, refused: bool, closing: Any = None) -> None:
        self.refused, self.closing = refused, closing

    async def close(self) -> None:
        await asyncio.sleep(0)
        if self.closing is not None:
            self.closing()


async def act(judged: Any) -> Outcome:
    if judged.refused:
        raise FencedError("refused")
    return Outcome(judged=1)


@pytest.mark.parametrize("amid", ["nothing", "a rebalance"])
def test_a_partition_that_is_refused_is_opened_anew_unless_a_rebalance_did_so_meanwhile(amid: str) -> None:
    async def scene() -> tuple[bool, bool, int]:
        async def member() -> bool:
            return True

        context, anew, by_rebalance = Context(Settings(), TOPICS), Opened(refused=False), Opened(refused=False)
        judging: Any = Judging(context, None, member)  # type: ignore[arg-type]
        judging._opened = lambda _: anew
        swapped = (lambda: judging.judged.update({0: by_rebalance})) if amid == "a rebalance" else None
        judging.judged = {0: Opened(refused=True, closing=swapped)}
        done = await judging._attempt(0, act)
        return done, judging.judged[0] is (by_rebalance if swapped else anew), context.counts.judged

    assert asyncio.run(scene()) == ((True, True, 1) if amid == "nothing" else (False, True, 0))
