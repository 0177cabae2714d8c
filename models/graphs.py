"""Batches on a CUDA device: copied in, computed and copied out on streams of their own, most of them as one graph.

A forward pass is a hundred and more kernels. Launched one by one they take the host longer than the device for a small batch,
and between any two another thread may take the interpreter's lock. So the pass is recorded for some sizes, and a batch
is computed by the least of these graphs that has room for it; what fits in none is launched kernel by kernel.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any

import torch
from torch import Tensor

from models.layout import Batch, Room, blank, needed, stage
from models.tokens import Row

log = logging.getLogger("callpulse.packed")
cuda: Any = torch.cuda  # its constructors have no types

Forward = Callable[[Batch], Tensor]
"""A batch on the device -> logits [rows, classes]."""

LEAST = 128  # tokens of the smallest graph
STEPS = 4  # graphs from one size to its double: a batch fills four fifths of its graph and more
LONGEST = 128  # tokens of a row in a graph: of more, attention would look after blocks that most rows do not have
ROWS = (24, 4)  # tokens a row, on average, and at least: attention looks after each row, also where it has no tokens


def rooms(tokens: int, longest: int) -> Iterator[Room]:
    """For batches of up to so many tokens, the smallest first."""
    sizes = (step * LEAST * 2**power // STEPS for power in count() for step in range(STEPS, 2 * STEPS))
    for size in (*takewhile(lambda size: size < tokens, sizes), tokens):
        yield from (Room(max(1, size // row), size, min(longest, LONGEST)) for row in ROWS)


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A recorded pass: it computes `logits` [room.rows, classes] of what lies in `buffer`, again and again."""

    room: Room
    buffer: Tensor
    logits: Tensor
    graph: Any

    def run(self, staged: Tensor) -> Tensor:
        self.buffer.copy_(staged)
        self.graph.replay()
        return self.logits


class Cuda:
    """A batch comes in while one computes and another leaves; they are computed one after the other."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.inward, self.computing, self.outward = (cuda.Stream(device) for _ in range(3))
        self.graphs: list[Graph] = []
        self._alone = threading.Lock()  # from when a graph's buffer is filled until its logits are taken, on `computing`

    def record(self, forward: Forward, tokens: int, longest: int) -> None:
        """Makes the graphs, for batches of up to so many tokens; without them where the device has no memory left."""
        pool = cuda.graph_pool_handle()  # one for all: they never run at once
        try:
            self.graphs = [self._recorded(forward, room, pool) for room in rooms(tokens, longest)]
        except torch.cuda.OutOfMemoryError as error:
            log.warning("passes of %d tokens cannot be recorded (%s): they are launched kernel by kernel", tokens, error)

    @torch.inference_mode()
    def _recorded(self, forward: Forward, room: Room, pool: Any) -> Graph:
        staged = stage([blank(1)], room=room)
        with torch.cuda.stream(self.computing):
            buffer = staged.buffer.to(self.device)
            forward(staged.unstage(buffer))  # what is chosen and loaded at the first call is no part of the graph
        self.computing.synchronize()
        graph = cuda.CUDAGraph()
        with cuda.graph(graph, pool=pool, stream=self.computing, capture_error_mode="thread_local"):
            logits = forward(staged.unstage(buffer))
        return Graph(room, buffer, logits, graph)

    def run(self, forward: Forward, rows: Sequence[Row], typed: bool) -> tuple[Tensor, torch.cuda.Event]:
        """Logits [rows, classes] in fp32, pinned, and the event after which they are there."""
        room = needed(rows)
        graph = None if typed else next((graph for graph in self.graphs if graph.room.holds(room)), None)
        staged = stage(rows, typed=typed, room=room if graph is None else graph.room)
        with torch.cuda.stream(self.inward):
            # torch keeps what is pinned until its copy is done
            moved = staged.buffer.pin_memory().to(self.device, non_blocking=True)
        with self._alone, torch.cuda.stream(self.computing):
            self.computing.wait_stream(self.inward)
            moved.record_stream(self.computing)
            logits = forward(staged.unstage(moved)) if graph is None else graph.run(moved)
            logits = logits[: len(rows)].to(torch.float32, copy=True)
            self.outward.wait_stream(self.computing)
        landed = torch.empty(logits.shape, pin_memory=True)
        with torch.cuda.stream(self.outward):
            landed.copy_(logits, non_blocking=True)
            done = cuda.Event(blocking=True)  # whoever waits for it sleeps, and does not spin
            done.record(self.outward)
        logits.record_stream(self.outward)
        return landed, done
