"""Where a fault is played: workers under a steady load, what is awaited, and what is left for the oracle."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field

from kafka.errors import KafkaError

from streams import topics
from streams.settings import Settings

from .apache import Node
from .brokers import Where
from .fleet import Fleet, Member
from .messages import now_ms
from .oracle import Left, behind
from .plays import committed
from .running import Topics
from .traffic import Sender, Traffic, sending

PARTITIONS = 4
READY_S, PROGRESS_S, STALLED_S = 90.0, 90.0, 60.0
KEPT = 10_000  # records of calls.state that come until those that they overwrite are forgotten


class Log(Topics):
    """All that lies in the topics; of calls.state what is newest, as compaction would leave it."""

    most = KEPT

    def read(self) -> None:
        super().read()
        if len(state := self.records["state"]) > self.most:
            newest = {(record.partition, record.key): record for record in state}
            self.records["state"] = sorted(newest.values(), key=lambda record: record.offset)
            self.most = len(newest) + KEPT


@dataclass
class Stage:
    """One fault's stage. `stuck` says what was awaited in vain; `kills` when (ms since 1970), `figures` what was measured."""

    settings: Settings
    log: Log
    fleet: Fleet
    sender: Sender
    random: random.Random
    where: Where
    injected: int = 0
    stuck: list[str] = field(default_factory=list)
    kills: list[int] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def nodes(self) -> Sequence[Node]:
        return self.where.nodes

    def until(self, condition: Callable[[], bool], what: str, seconds: float) -> bool:
        """Reads the topics until the condition holds; whether it did in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                self.stuck.append(f"not in {seconds:g} s: {what}")
                return False
            self._read()
        return True

    def _read(self) -> None:
        try:
            self.log.read()
        except KafkaError:
            time.sleep(0.2)  # a broker is away

    def pause(self, least_s: float, most_s: float) -> None:
        """A pause of the schedule, as long as the seed says; the topics are read meanwhile."""
        over = time.monotonic() + self.random.uniform(least_s, most_s)
        while time.monotonic() < over:
            self._read()

    def ready(self) -> bool:
        return self.until(lambda: self.fleet.ready, "all workers ready", READY_S)

    def progress(self, records: int = 30) -> bool:
        """Returns when so many more have been scored, and judging has gone on in every partition."""
        self._read()
        scored, judged = len(self.log.records["sentiment"]) + records, self.judged()
        return self.until(
            lambda: (
                len(self.log.records["sentiment"]) >= scored
                and all(self.judged().get(partition, -1) > judged.get(partition, -1) for partition in range(PARTITIONS))
            ),
            f"{records} more scored, and every partition judged on",
            PROGRESS_S,
        )

    def judged(self) -> dict[int, int]:
        """Where the newest record of each partition of calls.state lies."""
        return {record.partition: record.offset for record in self.log.records["state"]}

    def one(self) -> Member:
        """A worker that takes part, drawn by lot."""
        self.ready()
        return self.random.choice(self.fleet.members)

    def drain(self) -> None:
        """No more is sent, no more is broken: returns when all is judged and all that is due has happened."""
        self.sender.stop()
        self.ready()
        before, deadline = "", time.monotonic() + STALLED_S
        while (left := self._open()) and time.monotonic() < deadline:
            if left != before:
                before, deadline = left, time.monotonic() + STALLED_S
        if left:
            self.stuck.append(f"nothing happened for {STALLED_S:g} s: {left}")
        for member in [*self.fleet.members]:
            self.fleet.dismiss(member)
        self.until(self._at_the_end, "the topics read to their ends", STALLED_S)

    def _at_the_end(self) -> bool:
        try:
            self.log.read_to_the_end()
        except KafkaError:
            return False
        return True

    def _open(self) -> str:
        """What is yet to happen; empty when nothing is."""
        try:
            return self._still_open()
        except KafkaError as error:
            return f"the broker does not say: {error!r}"

    def _still_open(self) -> str:
        self.log.read_to_the_end()
        records, states = self.log.records["segments"], self.log.states()
        if len(records) < self.sender.sent:
            return f"{self.sender.sent - len(records)} messages have not come"
        if late := [*behind(self.left())]:
            return f"{len(late)} not committed, such as {late[0]}"
        ended = {record.key for record in records if b'"type": "end"' in (record.value or b"")}
        live = [key for key in ended if b'"status":"closed"' not in (states.get(key) or b"")]
        return f"{len(live)} not closed, such as {live[0]!r}" if live else ""

    def left(self) -> Left:
        roles = {"score": "segments", "judge": "sentiment"}
        done = {role: committed(self.log, role, name) for role, name in roles.items()}
        return Left(self.settings, self.log.found, self.log.records, done, now_ms())


@contextmanager
def staged(settings: Settings, seed: int, rate: float, where: Where, crew: AbstractContextManager[Fleet]) -> Iterator[Stage]:
    """Topics of its own, no worker yet, and traffic that flows."""
    with ExitStack() as stack:
        with topics.admin(settings) as client:
            topics.create(client, settings)
        log = stack.enter_context(closing(Log(settings)))
        fleet = stack.enter_context(crew)
        sender = stack.enter_context(sending(settings, Traffic(seed), rate))
        yield Stage(settings, log, fleet, sender, random.Random(seed), where)
