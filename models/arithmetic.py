"""Products of hidden states and weights, with what comes after a product: an activation, or a residual that is added.

`plain` computes them one after the other, on any device. `fused` has oneDNN do both in one pass over memory, on the CPU, with
weights that lie as it wants them: else it puts them in order for every batch, and a small one waits for memory more than for
products. `epilogue` has cuBLAS compute the activation while it writes the product, on CUDA. Both need operators that torch
does not document, so they are tried out first.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers.activations import GELUActivation

from models.families import Projection, Step


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """All but the first take [tokens, inputs] to [tokens, outputs], by what the first has made of a projection."""

    prepared: Callable[[Projection], Projection]
    product: Callable[[Tensor, Projection], Tensor]
    activated: Callable[[Tensor, Projection, Step], Tensor]
    added: Callable[[Tensor, Projection, Tensor], Tensor]
    """The last argument is the residual."""


def plain() -> Arithmetic:
    return Arithmetic(
        prepared=lambda by: by,
        product=lambda x, by: linear(x, by.weight, by.bias),
        activated=lambda x, by, step: step(linear(x, by.weight, by.bias)),
        added=lambda x, by, residual: linear(x, by.weight, by.bias) + residual,
    )


def fused() -> Arithmetic:
    """Raises AttributeError where this torch has no such operators."""
    pointwise: Any = torch.ops.mkldnn._linear_pointwise
    binary: Any = pointwise.binary
    reorder: Any = torch.ops.mkldnn._reorder_linear_weight

    def prepared(by: Projection) -> Projection:
        return Projection(reorder(by.weight, None), by.bias)

    def product(x: Tensor, by: Projection) -> Tensor:
        return cast(Tensor, pointwise(x, by.weight, by.bias, "none", [], ""))

    def activated(x: Tensor, by: Projection, step: Step) -> Tensor:
        if not isinstance(step, GELUActivation):
            return step(product(x, by))
        return cast(Tensor, pointwise(x, by.weight, by.bias, "gelu", [], "none"))  # "none": not the approximation by tanh

    def added(x: Tensor, by: Projection, residual: Tensor) -> Tensor:
        return cast(Tensor, binary(x, residual, by.weight, by.bias, "add"))

    return Arithmetic(prepared, product, activated, added)


def epilogue() -> Arithmetic:
    """GELU by its approximation with tanh (Hendrycks and Gimpel 2016, arXiv:1606.08415), which is all that cuBLAS has: within
    .0005 of GELU. Raises AttributeError where this torch has no such operator."""
    both: Any = torch._addmm_activation
    base = plain()

    def activated(x: Tensor, by: Projection, step: Step) -> Tensor:
        if not isinstance(step, GELUActivation):
            return base.activated(x, by, step)
        return cast(Tensor, both(by.bias, x, by.weight.t(), use_gelu=True))

    return replace(base, activated=activated)


@torch.inference_mode()
def _tried(arithmetic: Arithmetic, device: torch.device, dtype: torch.dtype) -> Arithmetic:
    """Itself, after a small product of each kind; raises what they raise here."""
    x = torch.zeros(1, 32, device=device, dtype=dtype)
    by = arithmetic.prepared(Projection(x.repeat(32, 1), x[0]))
    arithmetic.product(x, by)
    arithmetic.activated(x, by, GELUActivation())
    arithmetic.added(x, by, x)
    return arithmetic


def best(device: torch.device, dtype: torch.dtype) -> Arithmetic:
    """What is fastest for weights of this type there."""
    try:
        return _tried(fused() if device.type == "cpu" else epilogue(), device, dtype)
    except (AttributeError, RuntimeError):  # a build of torch without them, or a CPU for which oneDNN has none of this type
        return plain()
