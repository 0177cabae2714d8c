"""What the classifiers of transformers that we can pack are made of: BERT, RoBERTa, XLM-R, CamemBERT and DistilBERT.

The embeddings, norms and the head are the checkpoint's own modules, which do not care whether tokens are padded; only attention
does, and positions. A layer is given as its weights, so that what comes after a product can be computed together with it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """x -> x weight^T + bias: [.., inputs] -> [.., outputs]."""

    weight: Tensor
    """[outputs, inputs]."""
    bias: Tensor


Step = Callable[[Tensor], Tensor]
"""Of the same shape out as in: a norm or an activation."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One encoder layer; `hidden` is the width of the hidden states [tokens, hidden]. Norms come after the residuals."""

    three: Projection
    """Queries, keys and values at once: [3 x hidden, hidden]."""
    heads: int
    out: Projection
    """What attention has made of hidden states -> what is added to them."""
    out_norm: Step
    up: Projection
    activation: Step
    down: Projection
    down_norm: Step

    @property
    def head_size(self) -> int:
        return len(self.three.bias) // 3 // self.heads

    def prepared(self, by: Callable[[Projection], Projection]) -> "Layer":
        return replace(self, three=by(self.three), out=by(self.out), up=by(self.up), down=by(self.down))


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """A classifier, taken apart."""

    embeddings: Any
    padding: int | None
    """The padding token where positions are numbered after it, as RoBERTa's are; None where they begin at 0."""
    layers: tuple[Layer, ...]
    head: Callable[[Tensor], Tensor]
    """Hidden states of the rows' first tokens [rows, hidden] -> logits [rows, classes]."""
    classes: int


def bert(model: Any) -> Parts:
    def head(first: Tensor) -> Tensor:
        return model.classifier(model.bert.pooler(first[:, None]))  # type: ignore[no-any-return]

    layers = tuple(_bert_layer(layer) for layer in model.bert.encoder.layer)
    return Parts(model.bert.embeddings, None, layers, head, model.config.num_labels)


def roberta(model: Any) -> Parts:
    """RoBERTa, and those that are RoBERTa by another name."""

    def head(first: Tensor) -> Tensor:
        return model.classifier(first[:, None])  # type: ignore[no-any-return]

    embeddings = model.roberta.embeddings
    layers = tuple(_bert_layer(layer) for layer in model.roberta.encoder.layer)
    return Parts(embeddings, embeddings.padding_idx, layers, head, model.config.num_labels)


def distilbert(model: Any) -> Parts:
    def head(first: Tensor) -> Tensor:
        return model.classifier(model.pre_classifier(first).relu())  # type: ignore[no-any-return]

    layers = tuple(_distilbert_layer(layer) for layer in model.distilbert.transformer.layer)
    return Parts(model.distilbert.embeddings, None, layers, head, model.config.num_labels)


FAMILIES: dict[str, Callable[[Any], Parts]] = {
    "BertForSequenceClassification": bert,
    "RobertaForSequenceClassification": roberta,
    "XLMRobertaForSequenceClassification": roberta,
    "CamembertForSequenceClassification": roberta,
    "DistilBertForSequenceClassification": distilbert,
}
"""By the name of the class; code of a checkpoint's own is never run, so the names are transformers'."""


def unsupported(model: Any) -> str | None:
    """Why this model cannot be taken apart, in words that follow "cannot be packed: "; None where it can."""
    family, config = type(model).__name__, model.config
    if family not in FAMILIES:
        return f"{family} is none of {', '.join(FAMILIES)}"
    if getattr(config, "is_decoder", False):
        return "its attention is causal (is_decoder)"
    if (kind := getattr(config, "position_embedding_type", "absolute")) != "absolute":
        return f"its positions are not absolute but {kind}"
    if model.training:
        return "it is in training mode, with dropout; call eval() first"
    return next(filter(None, map(_replaced, _projections(model))), None)


def _replaced(projection: nn.Module) -> str | None:
    """Weights that are quantised, or that an adapter adds to, cannot be taken for what the module computes."""
    return None if type(projection) is nn.Linear else f"a layer projects with {type(projection).__name__}, not Linear"


def _projections(model: Any) -> list[nn.Module]:
    """Of attention (.self.query, .q_lin, …) and around it."""
    names = (".query", ".key", ".value", ".dense", ".q_lin", ".k_lin", ".v_lin", ".out_lin", ".lin1", ".lin2")
    return [module for name, module in model.base_model.named_modules() if name.endswith(names)]


def _taken(linear: nn.Linear) -> Projection:
    return Projection(linear.weight.detach(), linear.bias.detach())


def _fuse(query: nn.Linear, key: nn.Linear, value: nn.Linear) -> Projection:
    """The three projections as one: a copy of their weights and of their biases."""
    three = [_taken(each) for each in (query, key, value)]
    return Projection(torch.cat([each.weight for each in three]), torch.cat([each.bias for each in three]))


def _bert_layer(layer: Any) -> Layer:
    own, after, up, down = layer.attention.self, layer.attention.output, layer.intermediate, layer.output
    return Layer(
        three=_fuse(own.query, own.key, own.value),
        heads=own.num_attention_heads,
        out=_taken(after.dense),
        out_norm=after.LayerNorm,
        up=_taken(up.dense),
        activation=up.intermediate_act_fn,
        down=_taken(down.dense),
        down_norm=down.LayerNorm,
    )


def _distilbert_layer(layer: Any) -> Layer:
    own, feed = layer.attention, layer.ffn
    return Layer(
        three=_fuse(own.q_lin, own.k_lin, own.v_lin),
        heads=own.n_heads,
        out=_taken(own.out_lin),
        out_norm=layer.sa_layer_norm,
        up=_taken(feed.lin1),
        activation=feed.activation,
        down=_taken(feed.lin2),
        down_norm=layer.output_layer_norm,
    )
