"""Producers as they are: many calls side by side, a poisoned message every hundred, repeats, wrong keys, turns out of order.

All is drawn from one seed. Records carry the time of sending, and nothing of a call is sent after its end; a call with wrong
keys, whose order nobody promises, has no end. So what there must be at the end does not depend on when a worker looked.
"""

import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaProducer

from streams import security
from streams.settings import Settings

from .messages import MOODS, bundled, now_ms

POISON: tuple[bytes | None, ...] = (
    b"no json at all",
    b"\xff\xfe\x00not utf-8",
    None,
    b"\x00\x00\x00\x00\x07{}",
    b'{"speaker":"customer","text":"nobody\'s"}',
    b'{"call_id":"typed","speaker":"customer","text":7}',
    b'{"call_id":"long","speaker":"customer","text":"' + b"x" * 66_000 + b'"}',
    b"[" * 5_000,
    b'{"call_id":"back","speaker":"customer","text":"","start_ms":9,"end_ms":3}',
)
POISON_EVERY = 100
REPEATED, MIS_KEYED, SWAPPED, ENDLESS = 0.03, 0.2, 0.1, 0.1
"""Shares: of messages that come again, of an endless call's messages under another's key, of turns that change places with
the next one, of calls without an end."""
SPEAKERS = ("customer", "customer", "customer", "agent", "agent", "unknown", "bot")
SAID = [text for _, value, _ in bundled(0) if (text := json.loads(value or b"{}").get("text"))]
DELIVERY_S = 1200  # a producer that keeps trying outlasts every outage here


@dataclass
class Call:
    """What is left to say of one call, the last first."""

    call_id: str
    left: list[dict[str, Any]]
    endless: bool
    said: list[dict[str, Any]] = field(default_factory=list)


class Traffic:
    """An endless stream of messages for calls.segments, and how many of each kind there were."""

    def __init__(self, seed: int, side_by_side: int = 40, name: str = "call") -> None:
        self.random, self.name, self.counts = random.Random(seed), name, Counter[str]()
        self.calls = [self._call() for _ in range(side_by_side)]

    def _call(self) -> Call:
        """From 6 to 40 turns; with each four of them the mood goes on."""
        r, begun = self.random, self.counts["calls"]
        self.counts["calls"] += 1
        call_id, shift = f"{self.name}-{begun}", r.randrange(len(MOODS))
        turns = [self._turn(call_id, n, MOODS[(n // 4 + shift) % len(MOODS)]) for n in range(r.randint(6, 40))]
        for n in range(len(turns) - 1):
            if r.random() < SWAPPED:
                turns[n], turns[n + 1] = turns[n + 1], turns[n]
        opened = {"call_id": call_id, "type": "start", "attributes": {"queue": r.choice(("sales", "support")), "n": begun}}
        ended = {"call_id": call_id, "type": "end", "reason": "hangup"}
        endless = r.random() < ENDLESS
        return Call(call_id, [opened, *turns, *([] if endless else [ended])][::-1], endless)

    def _turn(self, call_id: str, n: int, mood: str) -> dict[str, Any]:
        text = f"{mood}, {self.random.choice(SAID)}" if n % 2 else mood
        said = {"call_id": call_id, "segment_id": f"s{n}", "speaker": self.random.choice(SPEAKERS), "text": text}
        partial = {"final": False} if self.random.random() < 0.05 else {}
        return said | {"start_ms": n * 10_000, "end_ms": n * 10_000 + 4_000} | partial

    def __iter__(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Keys and values."""
        while True:
            self.counts["messages"] += 1
            if self.counts["messages"] % POISON_EVERY == 0:
                yield self._poisoned()
            else:
                yield self._next(self.random.randrange(len(self.calls)))

    def _poisoned(self) -> tuple[bytes, bytes | None]:
        self.counts["poisoned"] += 1
        return self.random.choice(self.calls).call_id.encode(), POISON[self.counts["poisoned"] % len(POISON)]

    def _next(self, i: int) -> tuple[bytes, bytes]:
        call = self.calls[i]
        if call.said and self.random.random() < REPEATED:
            self.counts["repeated"] += 1
            return self._keyed(call, self.random.choice(call.said[-5:]))
        message = call.left.pop()
        if call.said and message.get("start_ms", math.inf) < call.said[-1].get("start_ms", 0):
            self.counts["out of order"] += 1
        call.said.append(message)
        if not call.left:
            self.calls[i] = self._call()
        return self._keyed(call, message)

    def _keyed(self, call: Call, message: dict[str, Any]) -> tuple[bytes, bytes]:
        key = call.call_id
        if call.endless and self.random.random() < MIS_KEYED:
            self.counts["mis-keyed"] += 1
            key = f"not-{key}"
        return key.encode(), json.dumps(message).encode()


class Sender:
    """Sends traffic at a rate, on a thread of its own, until it is told to stop. `rate`, messages a second, may be changed."""

    def __init__(self, settings: Settings, traffic: Traffic, rate: float) -> None:
        self.topic, self.traffic, self.rate = settings.topic("segments"), traffic, rate
        self.over, self.flowing = threading.Event(), threading.Event()
        self.flowing.set()
        self.sent, self.failures = 0, list[BaseException]()
        batch = {"batch_size": 0} if settings.profile.batch_records == 1 else {"linger_ms": 5}
        self.producer = KafkaProducer(
            **security.client(settings),
            acks="all",
            delivery_timeout_ms=DELIVERY_S * 1000,
            max_block_ms=DELIVERY_S * 1000,
            **batch,
        )
        self.thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        messages, due = iter(self.traffic), time.monotonic()
        while not self.over.wait(max(0.0, due - time.monotonic())):
            self.flowing.wait()
            key, value = next(messages)
            sent = self.producer.send(self.topic, value, key, timestamp_ms=now_ms())
            sent.add_errback(self.failures.append)
            self.sent += 1
            due = max(due + 1 / self.rate, time.monotonic() - 0.5)  # what was missed in a pause is not made up for at once

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Nothing is sent for the length of the context."""
        self.flowing.clear()
        try:
            yield
        finally:
            self.flowing.set()

    def stop(self) -> None:
        """Returns when all that was sent is delivered; raises what kept it from being so."""
        self.over.set()
        self.thread.join()
        self.producer.flush(timeout=DELIVERY_S)
        if self.failures:
            raise self.failures[0]


@contextmanager
def sending(settings: Settings, traffic: Traffic, rate: float) -> Iterator[Sender]:
    """A sender that has begun; it is stopped, if it has not been before, and its producer closed at the end."""
    sender = Sender(settings, traffic, rate)
    sender.thread.start()
    try:
        yield sender
    finally:
        sender.over.set()
        sender.thread.join()
        sender.producer.close(timeout=5)
