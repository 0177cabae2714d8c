"""Many short texts in one pass without padding: the rows of a batch lie end to end, and attention stays within each row.

    rows -> stage (one buffer) -> copy in -> embed -> layers -> head of each row's first token -> copy out -> Pending.wait
                                            (on CUDA one graph: models.graphs)

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
from models.graphs import Cuda
from models.layout import Batch, blank, rounded, stage
from models.tokens import Row

log = logging.getLogger("callpulse.packed")

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


def varlen(batch: Batch) -> Attend:
    """Attention by torch's kernel for variable lengths: CUDA, bf16 or fp16."""
    from torch.nn.attention.varlen import varlen_attn  # here: the oldest torch that we run on lacks it

    bounds, longest = batch.cu_seqlens, batch.longest

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return cast(Tensor, varlen_attn(query, key, value, bounds, bounds, longest, longest))

    return attend


def masked(batch: Batch) -> Attend:
    """The same on any device for rows in blocks, under a mask that lets a token see its own row alone. What
    lies behind the blocks is padding."""
    tokens, owners = len(batch.input_ids), batch.owners.view(-1, 1, 1, batch.block)
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
    cuda: Cuda | None = None

    @torch.inference_mode()
    def submit(self, rows: Sequence[Row]) -> Pending:
        """Starts a forward pass; the host goes on at once on CUDA. No row may be empty or longer than the model's positions.
        Any thread may call it; one batch is computed after the other.

        Raises ValueError for an empty row and torch.OutOfMemoryError; what fails on the device later is raised by `wait` of
        this batch or a later one.
        """
        if not rows:
            return Pending(torch.empty(0, self.parts.classes))
        typed = "token_type_ids" in rows[0] and hasattr(self.parts.embeddings, "token_type_embeddings")
        if self.cuda is not None:
            return Pending(*self.cuda.run(self.forward, rows, typed))
        staged = stage(rows, blocks=self.attention is masked, typed=typed)
        logits = self.forward(staged.unstage(staged.buffer.to(self.device)))
        return Pending((logits[list(staged.places)] if staged.block else logits).float().cpu())

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Tensor:
        """Logits [rows, classes], on the device and in the precision of the weights."""
        attend, hidden = self.attention(batch), self._embed(batch)
        firsts = batch.cu_seqlens[:-1].clamp(max=len(hidden) - 1)  # a row without tokens may begin where all of them end
        rows = len(firsts)
        if batch.block:  # oneDNN compiles a product for each number of tokens, and keeps it, a megabyte: so few
            firsts = pad(firsts, (0, rounded(len(firsts)) - len(firsts)))
            hidden = pad(hidden, (0, 0, 0, rounded(len(hidden)) - len(hidden)))
        *layers, last = self.parts.layers
        for layer in layers:
            hidden = self._rest(layer, self._mix(layer, hidden, attend), hidden)
        mixed = self._mix(last, hidden, attend).index_select(0, firsts)  # nobody reads the other tokens from here on
        return self.parts.head(self._rest(last, mixed, hidden.index_select(0, firsts)))[:rows]

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
        if self.cuda is not None:
            self.cuda.record(self.forward, tokens, longest)  # first: it gives back what lies free
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
    return Packed(parts, device, varlen, arithmetic, Cuda(device))
