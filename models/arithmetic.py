"""Products of hidden states and weights, with what comes after a product: an activation, or a residual that is added.

`plain` computes them one after the other, on any device. `fused` has oneDNN do both in one pass over memory, in bf16 on the
CPU, where memory is waited for and not products. It needs operators that torch keeps for its compiler, so whoever packs a model
tries them out first (models.transformer.packing).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers.activations import GELUActivation

from models.families import Projection, Step


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """All three take [tokens, inputs] to [tokens, outputs]."""

    product: Callable[[Tensor, Projection], Tensor]
    activated: Callable[[Tensor, Projection, Step], Tensor]
    added: Callable[[Tensor, Projection, Tensor], Tensor]
    """The last argument is the residual."""


def plain() -> Arithmetic:
    return Arithmetic(
        product=lambda x, by: linear(x, by.weight, by.bias),
        activated=lambda x, by, step: step(linear(x, by.weight, by.bias)),
        added=lambda x, by, residual: linear(x, by.weight, by.bias) + residual,
    )


def fused() -> Arithmetic:
    """Raises AttributeError where this torch has no such operators."""
    pointwise: Any = torch.ops.mkldnn._linear_pointwise
    binary: Any = pointwise.binary

    def product(x: Tensor, by: Projection) -> Tensor:
        return cast(Tensor, pointwise(x, by.weight, by.bias, "none", [], ""))

    def activated(x: Tensor, by: Projection, step: Step) -> Tensor:
        if not isinstance(step, GELUActivation):
            return step(product(x, by))
        return cast(Tensor, pointwise(x, by.weight, by.bias, "gelu", [], "none"))  # "none": not the approximation by tanh

    def added(x: Tensor, by: Projection, residual: Tensor) -> Tensor:
        return cast(Tensor, binary(x, residual, by.weight, by.bias, "add"))

    return Arithmetic(product, activated, added)


def _tried(arithmetic: Arithmetic) -> Arithmetic:
    """Itself, after a small product of each kind; raises what they raise here."""
    x = torch.zeros(1, 32, dtype=torch.bfloat16)
    by = Projection(torch.zeros(32, 32, dtype=x.dtype), torch.zeros(32, dtype=x.dtype))
    arithmetic.product(x, by)
    arithmetic.activated(x, by, GELUActivation())
    arithmetic.added(x, by, x)
    return arithmetic


def best(device: torch.device, dtype: torch.dtype) -> Arithmetic:
    """What is fastest for weights of this type there."""
    if device.type == "cpu" and dtype == torch.bfloat16:
        try:
            return _tried(fused())
        except (AttributeError, RuntimeError):  # a build of torch without them, or a CPU for which oneDNN has none in bf16
            pass
    return plain()
