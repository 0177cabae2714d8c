"""The first five minutes: a broker, a worker and a replay of the bundled calls, watched as it happens.

The main thread owns the processes and the screen. One thread replays, one reads the output topics; both hand what they
see to the main thread through a queue.
"""

import json
import os
import queue
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from kafka import TopicPartition
from kafka.errors import KafkaError
from rich.console import Console

from streams import security, topics
from streams.broker import embedded
from streams.ending import after_kill, end_table, figures, next_steps, word_on_irony
from streams.errors import BrokerError, CallpulseError
from streams.live import Board, View
from streams.process import WorkerProcess
from streams.recording import read
from streams.records import Record
from streams.replay import CALLS, Planned, Replay, Sent, Wall, fresh_ids, merge, send
from streams.rules import load
from streams.settings import Settings
from streams.tally import TOPICS, Report, Tally

SARCASTIC = "en-sarcastic"
STAGGER_S = 1.0  # of the calls' own time
GRACE_S = 2.0
REDRAW_S = 1 / 8
POLL_MS = 50
START_S = 600.0  # the first start may download a model
PATIENCE_S = 60.0  # without anything new, once all is sent
QUIET_S = 2.0  # after a kill: the repeats have come

HANDED = "handed"
Item = tuple[str, Record, float]
"""The short name of the topic that a record was read from, or HANDED to the producer; the record; the wall's time."""


@dataclass(frozen=True, slots=True)
class Options:
    """`speed` 0 is as fast as it goes; `kill` kills the worker midway; `json` ends with one object and shows nothing;
    `own_broker` False plays on the cluster that the settings name."""

    speed: float = 8.0
    kill: bool = False
    json: bool = False
    own_broker: bool = True


def run(settings: Settings, options: Options) -> int:
    """Plays the demo; call it in the main thread. Returns 0, or 1 when something was lost, doubled or did not come in time.

    Raises CallpulseError when there is no broker or the worker ends. After KeyboardInterrupt all processes are gone.
    """
    run_id = secrets.token_hex(2)
    board, console = Board(suffix=f"-{run_id}"), Console(stderr=options.json)
    in_place = not options.json and console.is_interactive and console.file.isatty() and not console.no_color
    with _ended_like_ctrl_c(), ExitStack() as processes:
        with View(console, board, in_place) as view:
            chosen = _settings(settings, options, run_id, processes, view)
            worker = WorkerProcess(chosen, os.environ)
            processes.callback(worker.stop)
            play = Play(chosen, options, run_id, view, worker)
            complete = play.run()
        report = play.tally.report(chosen.limits, play.ended_s, load(chosen.rules_path))
        _end(console, board, options, play, report, complete)
    return 0 if complete and report.flawless else 1


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """SIGTERM and a closed terminal clean up as Ctrl-C does: the worker, in a session of its own, would go on."""
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _settings(settings: Settings, options: Options, run_id: str, processes: ExitStack, view: View) -> Settings:
    """The settings of this run: topics and groups of its own, so that a cluster in use is not disturbed."""
    if options.own_broker:
        address = processes.enter_context(embedded(announce=view.print))
        settings = replace(settings, bootstrap_servers=address, broker="embedded", **security.PLAINTEXT)
    else:
        topics.reach(settings)
    chosen = replace(
        settings,
        prefix=f"callpulse-demo-{run_id}.",
        group=f"callpulse-demo-{run_id}",
        create_topics=True,
        start="earliest",
        grace_s=GRACE_S,
        web_port=0,
        log_level="info",
    )
    if not options.own_broker:
        processes.callback(_remove, chosen)
    return chosen


def _remove(settings: Settings) -> None:
    """Deletes the run's topics and groups; a group whose worker was killed a moment ago is left to expire."""
    with topics.admin(settings) as client:
        if names := [topic.name for topic in topics.found(client, settings).values()]:
            client.delete_topics(names)
        with suppress(KafkaError):
            client.delete_groups([f"{settings.group}-{role}" for role in ("score", "judge")])


class Play:
    """One run: `tally` counts what comes, the view shows it."""

    def __init__(self, settings: Settings, options: Options, run_id: str, view: View, worker: WorkerProcess) -> None:
        self.settings, self.options, self.run_id = settings, options, run_id
        self.view, self.worker = view, worker
        self.tally, self.ended_s = Tally(), time.time()
        self.paths = sorted(CALLS.glob("*.jsonl"))
        self.messages = sum(1 for path in self.paths for _ in read(path))
        self.items: queue.Queue[Item] = queue.Queue()
        self.stop, self.finish = threading.Event(), threading.Event()
        self.killed_s: float | None = None
        self.back_s: float | None = None

    def run(self) -> bool:
        """Whether all came that had to."""
        self.view.say(f"starting the worker and loading the model ({self.settings.model})")
        self.worker.start()
        self._await_worker()
        with ThreadPoolExecutor(2) as threads:
            try:
                reading = threads.submit(self._read)
                speed = f"at speed {self.options.speed:g}" if self.options.speed else "as fast as it goes"
                self.view.say(f"replaying {len(self.paths)} calls {speed}")
                replaying = threads.submit(self._replay)
                complete = self._watch(reading, replaying)
                self._drain(reading)
            finally:
                self.stop.set()
        return complete

    def _await_worker(self) -> None:
        began = time.monotonic()
        while not self.worker.ready:
            if time.monotonic() - began > START_S:
                raise CallpulseError(f"the worker was not ready after {START_S:.0f} s")
            self.view.draw(f"{time.monotonic() - began:.0f} s")
            time.sleep(REDRAW_S)

    def _replay(self) -> Sent:
        how = Replay(speed=self.options.speed, fresh=fresh_ids(self.run_id))
        records = merge([read(path) for path in self.paths], STAGGER_S)
        return send(self.settings, records, how, self._handed, Wall(sleep=self._sleep))

    def _handed(self, planned: Planned, wall_s: float) -> None:
        self.items.put((HANDED, planned.record, wall_s))
        self._sleep(0)

    def _sleep(self, seconds: float) -> None:
        """Until it is time, or until the run is stopped: then the replay ends as by Ctrl-C."""
        if self.stop.wait(seconds):
            raise KeyboardInterrupt

    def _read(self) -> None:
        """Reads the output topics until told to finish, and then to where they end at that moment."""
        reader = topics.consumer(self.settings)
        try:
            names = [self.settings.topic(name) for name in TOPICS]
            places = [TopicPartition(name, p) for name in names for p in sorted(reader.partitions_for_topic(name) or ())]
            reader.assign(places)
            reader.seek_to_beginning(*places)
            while not self.stop.is_set():
                ends = reader.end_offsets(places) if self.finish.is_set() else None
                for m in chain.from_iterable(reader.poll(timeout_ms=POLL_MS).values()):
                    record = Record(m.topic, m.partition, m.offset, m.timestamp, m.key, m.value, tuple(m.headers))
                    self.items.put((m.topic.removeprefix(self.settings.prefix), record, time.time()))
                if ends is not None and all(reader.position(place) >= ends[place] for place in places):
                    return
        except KafkaError as error:
            raise BrokerError(f"the output topics cannot be read: {error!r}") from error
        finally:
            reader.close()

    def _watch(self, reading: "Future[None]", replaying: "Future[Sent]") -> bool:
        """Takes in what comes until all is there; false when nothing has come for too long."""
        last, all_sent, done = time.monotonic(), False, False
        while not done:
            if self._take(REDRAW_S) or not replaying.done():
                last = time.monotonic()
            if reading.done():
                reading.result()
            if replaying.done() and not all_sent:
                replaying.result()
                all_sent = True
                self.view.say("all is sent; waiting for the last calls to end")
            self._tend()
            self.view.draw(f"{self.tally.accounted} of {self.messages} segments accounted for")
            quiet_s = time.monotonic() - last
            done = all_sent and self.tally.complete and self._recovered(quiet_s)
            self.ended_s = time.time() - quiet_s
            if quiet_s > PATIENCE_S:
                break
        return done

    def _tend(self) -> None:
        """Sees that the worker lives; kills it midway, when that is wanted, and says when it is back."""
        if self.worker.ready and self.killed_s is not None and self.back_s is None:
            self.back_s = time.time() - self.killed_s
            self.view.say(f"the worker is back after {self.back_s:.1f} s")
        if self._midway:
            self.worker.kill()
            self.killed_s = time.time()
            self.worker.start()
            self.view.say(f"worker killed (SIGKILL) after {self.tally.accounted} segments, and started again")

    @property
    def _midway(self) -> bool:
        """Whether it is time to kill the worker: it has begun and half of the messages are there."""
        wanted = self.options.kill and self.killed_s is None
        return wanted and self.tally.accounted > 0 and self.tally.sent >= self.messages / 2

    def _recovered(self, quiet_s: float) -> bool:
        """After a kill: what is redelivered has come, too."""
        return not self.options.kill or (self.back_s is not None and quiet_s >= QUIET_S)

    def _drain(self, reading: "Future[None]") -> None:
        """Takes in the rest of the topics: repeats, if there are any."""
        self.finish.set()
        while not reading.done():
            self._take(REDRAW_S)
        reading.result()
        self._take(0)
        self.view.draw()

    def _take(self, seconds: float) -> bool:
        """Takes in what comes for so long, or until it is time to kill; whether there was anything."""
        until, taken = time.monotonic() + seconds, False
        while not self._midway:
            try:
                name, record, wall_s = self.items.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            taken = True
            if name == HANDED:
                self.tally.handed(record, wall_s)
            elif shown := self.tally.read(name, record, wall_s):
                self.view.saw(shown)
        return taken


def _end(console: Console, board: Board, options: Options, play: Play, report: Report, complete: bool) -> None:
    if not options.json:
        console.print("", end_table(board), "")
    for paragraph in _closing(board, play, report, complete):
        console.print(paragraph + "\n", markup=False, highlight=False)
    if options.json:
        print(json.dumps(report.summary(options.kill)), flush=True)
    elif complete:
        console.print(next_steps(program()), markup=False, highlight=False, soft_wrap=True, end="")


def _closing(board: Board, play: Play, report: Report, complete: bool) -> Iterator[str]:
    if not complete:
        came = f"{play.tally.accounted} of {report.segments} segments and the end of {report.calls} of {len(play.paths)} calls"
        yield f"Gave up after {PATIENCE_S:.0f} s in which nothing came. Until then {came} had come."
    yield figures(report)
    if play.back_s is not None:
        yield after_kill(report, play.back_s)
    if irony := word_on_irony(board, SARCASTIC):
        yield irony


def program() -> str:
    """What to type to start this program again."""
    if shutil.which("callpulse"):
        return "callpulse"
    return sys.argv[0] if Path(sys.argv[0]).name == "callpulse" else "python -m streams"
