"""Recordings sent side by side: once, or in rounds until the process is told to stop."""

import secrets
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace

from streams.recording import read
from streams.replay import WALL, Fresh, OnSent, Replay, Sent, Wall, fresh_ids, merge, send
from streams.settings import Settings


def run_ids() -> Fresh:
    """New ids that no other run has."""
    return fresh_ids(secrets.token_hex(2))


def once(settings: Settings, paths: Sequence[str], how: Replay, on_sent: OnSent, wall: Wall = WALL) -> Sent:
    """Sends them all from now on; raises what `read` and `send` do."""
    return send(settings, merge([read(path) for path in paths], stagger_s=0), how, on_sent, wall)


def again(settings: Settings, paths: Sequence[str], how: Replay, on_sent: OnSent) -> Sent:
    """Sends them again and again, with fresh ids each time, until SIGTERM: amid a wait it exits with code 0, else it returns
    what the last round has sent. So it does where there was nothing to send."""
    over = threading.Event()
    # ends between two records or two rounds: raised amid a client's work, it could leave threads that never end
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    wall = replace(WALL, sleep=lambda seconds: sys.exit(0) if over.wait(seconds) else None)
    while True:
        sent = once(settings, paths, replace(how, fresh=run_ids()), on_sent, wall)
        if over.is_set() or not sent.messages:
            return sent
