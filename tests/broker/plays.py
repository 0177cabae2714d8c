"""What workers are put through: each play returns what it left behind."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from kafka import TopicPartition

from streams import topics
from streams.wire import decode_state, partition_of

from .conftest import Cluster
from .messages import Sent, call, now_ms
from .running import Topics, Worker, laid_out, own, running, started

CALLS, TURNS = 24, 25


@dataclass
class Scene:
    """What lies in the topics when it is over, what was sent, and what was noted on the way."""

    topics: Topics
    sent: list[Sent]
    workers: list[Worker] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


def traffic() -> list[Sent]:
    """The turns of all calls as they come, the last of them now. Every second call ends, the others live on."""
    began = now_ms() - TURNS * 10_000
    calls = [call(f"call-{n}", range(TURNS), began + n, end=n % 2 == 0) for n in range(CALLS)]
    return sorted((sent for made in calls for sent in made), key=lambda sent: sent[2])


def settle(laid: Topics, sent: list[Sent]) -> None:
    """Returns when every message has been judged and every call that ended has its summary and its closed state."""
    ended = {key for key, value, _ in sent if b'"end"' in (value or b"")}
    laid.until(lambda _: sum(map(len, laid.scored)) == len(sent), f"{len(sent)} messages scored")
    expected = laid.expected().positions
    laid.until(lambda _: laid.positions() == expected, "everything judged")
    laid.until(
        lambda _: ended <= {key for key, state in laid.states().items() if b'"closed"' in (state or b"")}, "calls closed"
    )
    laid.read_to_the_end()


@contextmanager
def sending(laid: Topics, sent: list[Sent], pause_s: float) -> Iterator[threading.Thread]:
    """Five messages, a pause, and so on as long as the context lasts; all that is left at its end."""
    over = threading.Event()

    def send() -> None:
        for i in range(0, len(sent), 5):
            laid.send(sent[i : i + 5])
            over.wait(pause_s)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield thread
    finally:
        over.set()
        thread.join()


def killed_twice(cluster: Cluster) -> Scene:
    """SIGKILL amid the first third of the traffic and amid the second, shortly after a commit, so that some of what was
    done is acknowledged and some is not; the last third meets a worker that stays."""
    sent = traffic()
    third = len(sent) // 3
    with laid_out(own(cluster)) as laid:
        for begin in (0, third):
            with running(laid.settings) as worker, sending(laid, sent[begin : begin + third], pause_s=0.1):
                before = sum(committed(laid, "score", "segments"))
                laid.until(lambda _, before=before: sum(committed(laid, "score", "segments")) > before, "a commit")  # type: ignore[misc]
                more = len(laid.records["sentiment"]) + 20
                laid.until(lambda records, more=more: len(records["sentiment"]) > more, "some more are scored")  # type: ignore[misc]
                worker.kill()
            laid.read_to_the_end()
        with running(laid.settings):
            laid.send(sent[2 * third :])
            settle(laid, sent)
        return Scene(laid, sent)


def came_and_went(cluster: Cluster) -> Scene:
    """A second worker joins amid the traffic, and leaves amid it."""
    sent = traffic()
    with laid_out(own(cluster)) as laid, running(laid.settings) as stays:
        with sending(laid, sent, pause_s=0.2) as thread, running(laid.settings) as goes:
            goes.stop(signal.SIGTERM)
            amid = thread.is_alive()
        settle(laid, sent)
        stays.stop(signal.SIGTERM)
        return Scene(laid, sent, [stays, goes], {"amid": amid})


BROKEN = """
import sys
from models.sentiment import LexiconScorer
from streams import cli, pipeline, publisher
from streams.errors import DeliveryError

class Scorer(LexiconScorer):
    def score(self, texts):
        if any("unsayable" in text for text in texts):
            raise ValueError("out of vocabulary")
        return super().score(texts)

decode = pipeline.decode

def broken_decode(value):
    if sys.argv[1] == "decoder" and b"unspeakable" in (value or b""):
        raise RuntimeError("out of range")
    return decode(value)

deliver = publisher.Publisher._deliver

async def broken(self, records):
    records = list(records)
    if sys.argv[1] == "publisher" and any(record.topic.endswith("alerts") for record in records):
        raise DeliveryError("the broker is full")
    await deliver(self, records)

pipeline.decode = broken_decode
publisher.Publisher._deliver = broken
cli._load = lambda settings: Scorer()
cli.main(["worker", *sys.argv[2:]])
"""
POISONED = 7


def broken_twice(cluster: Cluster) -> Scene:
    """Code of ours that fails on one message, and goes on once that is skipped; a model that fails on one text, and goes on; a
    publisher that does not get alerts out; a good worker."""
    began = now_ms() - 300_000
    good = call("good", range(POISONED), began, end=False)
    poison = (b"good", b'{"call_id":"good","speaker":"customer","text":"unspeakable"}', began + 100_000)
    unsayable = (b"good", b'{"call_id":"good","speaker":"customer","text":"unsayable"}', began + 100_000)
    behind = call("behind", range(20), began + 100_000, end=False)
    more = call("more", range(20), began + 100_000)
    broken: dict[str, Any] = {"command": (sys.executable, "-c", BROKEN)}
    with laid_out(own(cluster), segments=1) as laid:
        place = f"{laid.settings.topic('segments')}:0:{POISONED}"
        with running(laid.settings, "decoder", **broken) as decoder:
            laid.send(good[:4])
            laid.until(lambda _: committed(laid, "score", "segments") == [4], "the first ones are acknowledged")
            laid.send([*good[4:], poison, unsayable, *behind])
            decoder.ends()
        laid.read_to_the_end()
        notes: dict[str, Any] = {
            "place": place,
            "scored": len(laid.records["sentiment"]),
            "acknowledged": committed(laid, "score", "segments"),
        }
        with running(laid.settings, "decoder", "--skip", place, **broken):
            laid.until(lambda records: len(records["sentiment"]) == len(good) + len(behind), "all but those two are scored")
            laid.until(lambda _: laid.positions() == laid.expected().positions, "and judged")
            laid.until(lambda _: committed(laid, "score", "segments") == [len(good) + 2 + len(behind)], "and committed")
        laid.read_to_the_end()
        notes["alerts"] = laid.events("alerts")
        with running(laid.settings, "publisher", **broken) as publisher:
            laid.send(more)
            publisher.ends()
        laid.read_to_the_end()
        notes |= {"alerts_after": laid.events("alerts"), "stored": laid.states().get(b"more")}
        notes["judged"] = committed(laid, "judge", "sentiment")
        with running(laid.settings):
            settle(laid, [*good, *behind, *more])
        return Scene(laid, [*good, poison, unsayable, *behind, *more], [decoder, publisher], notes)


def committed(laid: Topics, role: str, name: str) -> list[int]:
    """By partition; 0 where nothing is."""
    reader = topics.consumer(laid.settings, f"{laid.settings.group}-{role}")
    places = [TopicPartition(laid.settings.topic(name), partition) for partition in range(laid.found[name].partitions)]
    try:
        return [reader.committed(place) or 0 for place in places]
    finally:
        reader.close()


def count(laid: Topics, partition: int) -> int:
    return sum(record.partition == partition for record in laid.records["sentiment"])


TELLING = """
import atexit, sys
atexit.register(lambda: print("imported", {"torch", "transformers"} & {*sys.modules}, file=sys.stderr))
from streams.cli import main
main()
"""


def apart(cluster: Cluster) -> Scene:
    """The two agents as processes of their own. The scorer is away while a call is silent; then the judge dies in a grace."""
    settings = own(cluster, voice_silence_s=5.0, grace_s=3.0)
    command = (sys.executable, "-c", TELLING, "worker", "--only", "judge")
    judges: dict[str, Any] = {"settings": replace(settings, model="default"), "command": command}
    with laid_out(settings) as laid, ExitStack() as stack:
        judge = stack.enter_context(started(**judges))
        scorer = stack.enter_context(running(settings, "--only", "score"))
        judge.says("ready")
        lagging = call("lagging", range(20), now_ms(), end=False, apart_ms=50)
        laid.send(lagging[:10])
        laid.until(lambda _: heard(laid, b"lagging") == 10, "the first half is judged")
        notes: dict[str, Any] = {"interrupted": scorer.stop(signal.SIGINT)}
        laid.send(lagging[10:])
        silent_until = time.monotonic() + settings.voice_silence_s + 2
        laid.until(lambda _: time.monotonic() > silent_until, "time")
        notes["early"] = len(laid.records["summaries"])
        stack.enter_context(running(settings, "--only", "score"))
        laid.calls_over(1)
        dying = call("dying", range(5), now_ms(), apart_ms=50)
        laid.send(dying)
        judged = partition_of("dying", 4)
        laid.until(lambda _: b'"status":"ending"' in (laid.states().get(b"dying") or b""), "the end is judged")
        laid.until(lambda _: committed(laid, "judge", "sentiment")[judged] == count(laid, judged), "the end is committed")
        judge.kill()
        laid.read_to_the_end()
        notes["before_the_kill"] = len(laid.records["summaries"])
        again = stack.enter_context(running(**judges))
        settle(laid, [*lagging, *dying])
        notes["judge_interrupted"] = again.stop(signal.SIGINT)
        return Scene(laid, [*lagging, *dying], [judge, scorer, again], notes)


def heard(laid: Topics, key: bytes) -> int:
    """How many of the customer's turns the stored state of a call has."""
    state = laid.states().get(key)
    return decode_state(state).customer.segments if state else 0
