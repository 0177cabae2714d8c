"""What the classifiers of transformers that we can pack are made of: BERT, RoBERTa, XLM-R, CamemBERT and DistilBERT.

The parts are the checkpoint's own modules, which do not care whether tokens are padded; only attention does, and positions. So
a layer is given as its fused projection and the two steps around attention that the modules take by themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One encoder layer; `hidden` is the width of the hidden states [tokens, hidden]."""

    weight: Tensor
    """Of queries, keys and values in one projection, [3 x hidden, hidden]."""
    bias: Tensor
    """[3 x hidden]."""
    heads: int
    join: Callable[[Tensor, Tensor], Tensor]
    """What attention has made of hidden states, and these -> hidden states: projection, residual, norm."""
    feed: Callable[[Tensor], Tensor]
    """Hidden states -> hidden states: the feed-forward half, residual and norm included."""

    @property
    def head_size(self) -> int:
        return len(self.bias) // 3 // self.heads


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
    """Weights that are quantised, or that an adapter adds to, cannot be copied into one projection."""
    return None if type(projection) is nn.Linear else f"its attention projects with {type(projection).__name__}, not Linear"


def _projections(model: Any) -> list[nn.Module]:
    names = (".query", ".key", ".value", ".q_lin", ".k_lin", ".v_lin")
    return [module for name, module in model.named_modules() if name.endswith(names)]


def _fuse(query: nn.Linear, key: nn.Linear, value: nn.Linear) -> tuple[Tensor, Tensor]:
    """The three projections as one: a copy of their weights and of their biases."""
    three = (query, key, value)
    return torch.cat([each.weight.detach() for each in three]), torch.cat([each.bias.detach() for each in three])


def _bert_layer(layer: Any) -> Layer:
    def feed(hidden: Tensor) -> Tensor:
        return layer.output(layer.intermediate(hidden), hidden)  # type: ignore[no-any-return]

    own = layer.attention.self
    return Layer(*_fuse(own.query, own.key, own.value), own.num_attention_heads, layer.attention.output, feed)


def _distilbert_layer(layer: Any) -> Layer:
    own = layer.attention

    def join(mixed: Tensor, hidden: Tensor) -> Tensor:
        return layer.sa_layer_norm(own.out_lin(mixed) + hidden)  # type: ignore[no-any-return]

    def feed(hidden: Tensor) -> Tensor:
        return layer.output_layer_norm(layer.ffn.ff_chunk(hidden) + hidden)  # type: ignore[no-any-return]

    return Layer(*_fuse(own.q_lin, own.k_lin, own.v_lin), own.n_heads, join, feed)
