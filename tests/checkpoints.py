"""Tiny checkpoints with random weights, made on the spot: they have all that a real one has, and score in no time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing

import models
from models.transformer import Transformer

# Tiny models gain nothing from threads, and threads that wait for each other on a busy machine cost a hundredfold.
torch.set_num_threads(1)

# transformers' constructors have no types.
AutoClassifier: Any = transformers.AutoModelForSequenceClassification
BertModel: Any = transformers.BertModel
FastTokenizer: Any = transformers.PreTrainedTokenizerFast

MARKS = ("[CLS]", "[PAD]", "[SEP]", "[UNK]")
WORDS = tuple("thank you that was perfect awful the line is dead again not 감사 불편 !".split())  # noqa: SIM905

TEXTS = ("thank you", "that was awful !", "", "the line is dead again and again", "불편", "perfect perfect perfect")


def save_tokenizer(folder: Path, *, words: Sequence[str] = WORDS, framed: bool = True, **options: Any) -> None:
    """A word-level tokenizer whose padding token is 1; with `framed`, [CLS] and [SEP] go around a text."""
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate((*MARKS, *words))}, unk_token=MARKS[3]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if framed:
        frame = [("[CLS]", 0), ("[SEP]", 2)]
        tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
    names = ("cls_token", "pad_token", "sep_token", "unk_token")
    marks = dict(zip(names, MARKS, strict=True)) | options
    FastTokenizer(tokenizer_object=tokenizer, **marks).save_pretrained(folder)


def bert_config(**options: Any) -> Any:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    tables = {"vocab_size": len(MARKS) + len(WORDS), "max_position_embeddings": 16, "pad_token_id": 1}
    # Wide weights, so that the scores of a random model differ a lot from text to text.
    return transformers.BertConfig(**{**sizes, **tables, "initializer_range": 0.5, **options})


def save_classifier(
    folder: Path,
    labels: Sequence[str] = ("negative", "neutral", "positive"),
    *,
    config: Any = None,
    seed: int = 1,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """A sequence classifier and its tokenizer; the same seed, config and number of labels give the same weights."""
    config = config or bert_config()
    config.id2label, config.label2id = dict(enumerate(labels)), {label: index for index, label in enumerate(labels)}
    torch.manual_seed(seed)
    AutoClassifier.from_config(config).to(dtype).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_encoder(folder: Path, *, layers: int = 4, seed: int = 1) -> Path:
    """An encoder without a head, as fine-tuning starts from."""
    torch.manual_seed(seed)
    config = bert_config(num_hidden_layers=layers, initializer_range=0.05)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def load(folder: Path, **options: Any) -> Transformer:
    """The checkpoint on the CPU, in fp32 unless told otherwise."""
    scorer = models.load(folder, "cpu", **{"precision": "fp32", **options})
    assert isinstance(scorer, Transformer)
    return scorer
