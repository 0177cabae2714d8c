"""Packed rows in the scoring path, on the CPU: what CUDA does, but for the kernel."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoints import TEXTS, bert_config, save_classifier, save_tokenizer

from models import Engine, Sentiment, runtimes, transformer
from models.packed import Packed, Pending
from models.transformer import Transformer

SMALL: dict[str, Any] = {"vocab_size": 19, "pad_token_id": 1, "initializer_range": 0.5}
BERT_LIKE = SMALL | {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 16}
CONFIGS = {
    "bert": bert_config,
    "roberta": lambda: transformers.RobertaConfig(**BERT_LIKE, max_position_embeddings=18, type_vocab_size=1),
    "distilbert": lambda: transformers.DistilBertConfig(**SMALL, **SIZES),
}
LONG = (*TEXTS, "awful " * 14, "awful " * 15, "perfect [PAD] line", "  ", *(f"{'not ' * n}again" for n in range(12)))


def both(folder: Path, **options: Any) -> tuple[Transformer, Transformer]:
    """Packed and padded."""
    packed, padded = (transformer.load(folder, "cpu", precision="fp32", packed=packed, **options) for packed in (True, False))
    assert packed.packed is not None
    assert padded.packed is None
    return packed, padded


def agree(some: list[Sentiment], others: list[Sentiment]) -> None:
    assert len({round(sentiment.score, 2) for sentiment in some}) > 3  # texts do differ
    for one, other in zip(some, others, strict=True):
        assert one.truncated == other.truncated
        for name in ("score", "negative", "neutral", "positive"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-4)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("framed", [True, False])
def test_packed_and_padded_scores_agree(tmp_path: Path, family: str, framed: bool) -> None:
    save_tokenizer(save_classifier(tmp_path, config=CONFIGS[family]()), framed=framed)
    packed, padded = both(tmp_path, budget=48)
    agree(packed.score(LONG), padded.score(LONG))
    with Engine(packed, cache=0) as engine:
        agree(engine.score(LONG), padded.score(LONG))


def test_labels_and_calibration_count_for_packed_rows(tmp_path: Path) -> None:
    config = bert_config(callpulse={"temperature": 3.0, "least": 0.4})
    names = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
    packed, padded = both(save_classifier(tmp_path, names, config=config))
    agree(packed.score(LONG), padded.score(LONG))
    assert [one.label for one in packed.score(LONG)] == [other.label for other in padded.score(LONG)]


def test_a_forward_pass_only_submits_and_decoding_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    wait = Pending.wait
    monkeypatch.setattr(Pending, "wait", lambda self: waited.append(len(self)) or wait(self))
    scorer = transformer.load(save_classifier(tmp_path), "cpu", packed=True)
    waited.clear()
    rows, truncated = scorer.tokenize(TEXTS)
    logits = scorer.forward(rows)
    assert not waited
    scorer.decode(logits[2:4], truncated[2:4])
    assert waited == [2]


def test_a_model_that_cannot_be_packed_is_padded_and_the_log_says_why_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_classifier(tmp_path, config=transformers.ElectraConfig(**BERT_LIKE, max_position_embeddings=16))
    scorer = transformer.load(tmp_path, "cpu", packed=True)
    assert scorer.score(LONG) == transformer.load(tmp_path, "cpu", packed=False).score(LONG)
    (message,) = caplog.messages
    assert message.startswith("ElectraForSequenceClassification cannot be packed: ")
    assert message.endswith("; batches are padded instead")


def warmed_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, raises: Exception | None = None
) -> tuple[Transformer, list[Any]]:
    """A checkpoint loaded for packed rows, and how it was warmed up."""
    seen: list[Any] = []

    def warm_up(self: Packed, tokens: int, longest: int) -> None:
        seen.append((tokens, longest))
        if raises is not None:
            raise raises

    monkeypatch.setattr(Packed, "warm_up", warm_up)
    return transformer.load(save_classifier(folder), "cpu", budget=96, packed=True), seen


def test_loading_warms_up_for_the_largest_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, seen = warmed_up(tmp_path, monkeypatch)
    assert scorer.packed is not None
    assert seen == [(96, 16)]


def test_a_kernel_that_does_not_run_is_found_out_at_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lacking = RuntimeError("FlashAttention was not built\nat some place")
    scorer, _ = warmed_up(tmp_path, monkeypatch, raises=lacking)
    assert scorer.packed is None
    assert len(scorer.score(TEXTS)) == len(TEXTS)
    assert caplog.messages == [
        "BertForSequenceClassification cannot be packed: RuntimeError: FlashAttention was not built; batches are padded instead"
    ]


def test_too_little_memory_for_the_largest_batches_is_left_to_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        scorer, _ = warmed_up(tmp_path, monkeypatch, raises=torch.cuda.OutOfMemoryError("no room"))
    assert scorer.packed is not None
    assert not caplog.messages


@pytest.mark.parametrize(("factor", "off"), [(0, r"\d\.\d\d"), (float("nan"), "nan")])
def test_packed_rows_that_are_computed_wrongly_are_padded_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, factor: float, off: str
) -> None:
    folder = save_classifier(tmp_path)
    wait = Pending.wait
    monkeypatch.setattr(Pending, "wait", lambda self: wait(self) * factor)
    assert transformer.load(folder, "cpu", packed=True).packed is None
    assert re.search(f"cannot be packed: ArithmeticError: its probabilities would be off by {off};", caplog.text)


def test_a_model_that_cannot_be_taken_apart_after_all_is_padded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scorer = transformer.load(save_classifier(tmp_path), "cpu", packed=False)
    monkeypatch.setattr(scorer.model.bert.encoder.layer[0].output.dense, "bias", None)
    assert runtimes.packing(scorer.model, scorer.tokens.limit, scorer.budget) is None
    assert "cannot be packed: AttributeError: " in caplog.text


def test_a_processor_that_cannot_fuse_in_bf16_packs_all_the_same() -> None:
    """oneDNN reads the variable once, so this needs a process of its own."""
    code = """
import torch
from models.arithmetic import best
from models.families import Projection
x = torch.ones(1, 32, dtype=torch.bfloat16)
by = Projection(torch.ones(32, 32, dtype=x.dtype), torch.ones(32, dtype=x.dtype))
arithmetic = best(x.device, x.dtype)
print(*{float(y) for y in arithmetic.added(arithmetic.product(x, by), by, x)[0]})
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["1056.0"], "")
