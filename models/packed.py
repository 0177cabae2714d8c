"""Many short texts in one pass without padding: the rows of a batch lie end to end, and attention stays within each row.

    rows -> stage (one buffer) -> copy in -> embed -> layers -> head of each row's first token -> copy out -> Pending.wait

A padded batch of call turns is mostly padding, or has to be sorted by length; a packed one computes what it was given, no
more. On CUDA attention is that of torch.nn.attention.varlen; on the CPU rows lie in blocks of one size, with a little padding,
and scaled_dot_product_attention computes the same under a mask. Nothing between `submit` and `wait` makes the host wait for
the device.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from models.arithmetic import Arithmetic, best
from models.families import FAMILIES, Layer, Parts
from models.families import unsupported as unsupported_family
from models.layout import Batch, blank, rounded, stage
from models.tokens import Row

log = logging.getLogger("callpulse.packed")
cuda: Any = torch.cuda  # its constructors have no types

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values, each [tokens, heads, head size] -> what each token makes of its own row, of the same shape."""


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """Logits that may still be on their way from the device; slices are those of some rows."""

    logits: Tensor
    done: torch.cuda.Event | None = None

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, rows: slice) -> "Pending":
        return Pending(self.logits[rows], self.done)

    def wait(self) -> Tensor:
        """The logits, [rows, classes] in fp32 on the CPU, once they are there. Any thread may wait, others run meanwhile."""
        if self.done is not None:
            self.done.synchronize()
        return self.logits


@dataclass(frozen=True, slots=True, eq=False)
class Streams:
    """A stream for copies in and one for copies out: a batch comes in while one computes and another leaves."""

    inward: torch.cuda.Stream
    outward: torch.cuda.Stream


def varlen(batch: Batch) -> Attend:
    """Attention by torch's kernel for variable lengths: CUDA, bf16 or fp16."""
    from torch.nn.attention.varlen import varlen_attn  # here: the oldest torch that we run on lacks it

    bounds, longest = batch.cu_seqlens, max(batch.lengths)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return cast(Tensor, varlen_attn(query, key, value, bounds, bounds, longest, longest))

    return attend


def masked(batch: Batch) -> Attend:
    """The same on any device for rows in blocks, under a mask that lets a token see its own row alone. What
    lies behind the blocks is padding."""
    tokens = len(batch.positions)
    places = torch.arange(tokens, device=batch.cu_seqlens.device, dtype=torch.int32)
    owners = torch.bucketize(places, batch.cu_seqlens[1:], right=True).view(-1, 1, 1, batch.block)  # the row of each token
    mask = owners == owners.transpose(2, 3)  # [blocks, 1, block, block]

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        spare = len(query) - tokens
        query, key, value = (x[:tokens].view(-1, batch.block, *x.shape[1:]).transpose(1, 2) for x in (query, key, value))
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(0, 1)
        return pad(mixed, (0, 0, 0, 0, 0, spare))

    return attend


def after_padding(padding: int, input_ids: Tensor, positions: Tensor) -> Tensor:
    """RoBERTa's numbering [tokens] (fairseq's make_positions): from padding + 1, over the tokens that are not padding.

    Somebody may have written "<pad>": that token has the position `padding`, and the next ones do not count it.
    """
    blank = input_ids == padding
    passed = blank.cumsum(0, dtype=torch.int32) - blank.int()  # padding tokens before each, in the whole batch
    starts = torch.arange(len(positions), device=positions.device, dtype=torch.int32) - positions
    within = passed - passed.index_select(0, starts)
    return (positions - within + padding + 1).masked_fill(blank, padding)


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A classifier that scores packed rows. Its projections are copies: weights that change later are not seen."""

    parts: Parts
    device: torch.device
    attention: Callable[[Batch], Attend]
    arithmetic: Arithmetic
    streams: Streams | None = None

    @torch.inference_mode()
    def submit(self, rows: Sequence[Row]) -> Pending:
        """Starts a forward pass; the host goes on at once on CUDA. No row may be empty or longer than the model's positions.

        It computes on the calling thread's current stream, so batches from several streams overlap. Raises ValueError for an
        empty row and torch.OutOfMemoryError; what fails on the device later is raised by `wait` of this batch or a later one.
        """
        if not rows:
            return Pending(torch.empty(0, self.parts.classes))
        typed = "token_type_ids" in rows[0] and hasattr(self.parts.embeddings, "token_type_embeddings")
        staged = stage(rows, blocks=self.attention is masked, typed=typed, pinned=self.streams is not None)
        logits = self.forward(staged.unstage(self._enter(staged.buffer)))
        return self._leave(logits[list(staged.places)] if staged.block else logits)

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Tensor:
        """Logits [rows, classes], on the device and in the precision of the weights."""
        attend, firsts, hidden = self.attention(batch), batch.cu_seqlens[:-1], self._embed(batch)
        if (
            batch.block
        ):  # oneDNN compiles a product for each number of tokens, in a millisecond, and keeps it, a megabyte: so few
            firsts = pad(firsts, (0, rounded(len(firsts)) - len(firsts)))
            hidden = pad(hidden, (0, 0, 0, rounded(len(hidden)) - len(hidden)))
        *layers, last = self.parts.layers
        for layer in layers:
            hidden = self._rest(layer, self._mix(layer, hidden, attend), hidden)
        mixed = self._mix(last, hidden, attend).index_select(0, firsts)  # nobody reads the other tokens from here on
        return self.parts.head(self._rest(last, mixed, hidden.index_select(0, firsts)))[: len(batch.lengths)]

    def _mix(self, layer: Layer, hidden: Tensor, attend: Attend) -> Tensor:
        """What attention makes of hidden states [tokens, hidden], of the same shape."""
        three = self.arithmetic.product(hidden, layer.three).view(len(hidden), 3, layer.heads, layer.head_size)
        return attend(*three.unbind(1)).reshape(len(hidden), -1)

    def _rest(self, layer: Layer, mixed: Tensor, hidden: Tensor) -> Tensor:
        """The layer from what attention has made of hidden states on."""
        hidden = layer.out_norm(self.arithmetic.added(mixed, layer.out, hidden))
        fed = self.arithmetic.activated(hidden, layer.up, layer.activation)
        return layer.down_norm(self.arithmetic.added(fed, layer.down, hidden))

    def warm_up(self, tokens: int, longest: int) -> None:
        """Loads the kernels and takes the memory that batches of up to `tokens` tokens need; a row has at most `longest`."""
        for length in sorted({1, min(32, longest), longest}):
            self.submit([blank(length)] * max(1, tokens // length)).wait()

    def _embed(self, batch: Batch) -> Tensor:
        embeddings, positions = self.parts.embeddings, batch.positions
        if self.parts.padding is not None:
            positions = after_padding(self.parts.padding, batch.input_ids, positions)
        hidden = embeddings.word_embeddings(batch.input_ids)
        if batch.token_type_ids is not None:
            hidden = hidden + embeddings.token_type_embeddings(batch.token_type_ids)
        elif hasattr(embeddings, "token_type_embeddings"):
            hidden = hidden + embeddings.token_type_embeddings.weight[0]
        return embeddings.LayerNorm(hidden + embeddings.position_embeddings(positions))  # type: ignore[no-any-return]

    def _enter(self, buffer: Tensor) -> Tensor:
        if self.streams is None:
            return buffer.to(self.device)
        here = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.streams.inward):
            moved = buffer.to(self.device, non_blocking=True)  # torch keeps a pinned buffer until its copy is done
        here.wait_stream(self.streams.inward)
        moved.record_stream(here)
        return moved

    def _leave(self, logits: Tensor) -> Pending:
        if self.streams is None:
            return Pending(logits.float().cpu())
        landed = torch.empty(logits.shape, pin_memory=True)
        outward, logits = self.streams.outward, logits.float()
        outward.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(outward):
            landed.copy_(logits, non_blocking=True)
            done = cuda.Event(blocking=True)  # whoever waits for it sleeps, and does not spin
            done.record(outward)
        logits.record_stream(outward)
        return Pending(landed, done)


def unsupported(model: Any) -> str | None:
    """Why this model cannot be packed where it is, in words that follow "cannot be packed: "; None where it can."""
    return unsupported_family(model) or (_no_kernel(model) if model.device.type == "cuda" else None)


def _no_kernel(model: Any) -> str | None:
    """Why torch's kernel for variable lengths (FlashAttention 2) does not run; masked blocks would be slower than padding."""
    size = model.config.hidden_size // model.config.num_attention_heads
    if find_spec("torch.nn.attention.varlen") is None:
        return f"torch {torch.__version__} has no variable-length attention"
    if model.dtype not in (torch.bfloat16, torch.float16):
        return f"variable-length attention takes bf16 or fp16, not {model.dtype}"
    if torch.cuda.get_device_capability(model.device) < (8, 0):
        return f"variable-length attention needs compute capability 8.0, which {torch.cuda.get_device_name(model.device)} lacks"
    return None if size % 8 == 0 and size <= 256 else f"heads of {size} are not a multiple of 8 up to 256"


def pack(model: Any) -> Packed | None:
    """The model for packed rows, with its weights, or copies in an order that is faster here; None, after one line in the log
    that says why, where rows are to be padded."""
    if reason := unsupported(model):
        log.warning("%s cannot be packed: %s; batches are padded instead", type(model).__name__, reason)
        return None
    parts, device = FAMILIES[type(model).__name__](model), model.device
    arithmetic = best(device, model.dtype)
    with torch.inference_mode():
        parts = replace(parts, layers=tuple(layer.prepared(arithmetic.prepared) for layer in parts.layers))
    if device.type != "cuda":
        return Packed(parts, device, masked, arithmetic)
    return Packed(parts, device, varlen, arithmetic, Streams(cuda.Stream(device), cuda.Stream(device)))
