"""What else may compute a checkpoint on the CPU. That ONNX Runtime keeps a scorer's promises: tests/test_sentiment.py."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import TEXTS, load, save_classifier, save_tokenizer
from test_transformer import FAMILIES
from torch._dynamo.utils import counters

import models
from models import DeviceError, ModelLoadError, Sentiment, runtimes

LONG = [*TEXTS, "awful " * 14, "awful " * 200]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "tiny")


@pytest.fixture
def onnx() -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")


def agree(scored: list[Sentiment], eager: list[Sentiment]) -> None:
    for one, other in zip(scored, eager, strict=True):
        assert (one.label, one.truncated) == (other.label, other.truncated)
        assert one.score == pytest.approx(other.score, abs=1e-4)


@pytest.mark.usefixtures("onnx")
@pytest.mark.parametrize("family", FAMILIES)
def test_onnx_scores_as_eager_does_whatever_the_company(tmp_path: Path, family: str) -> None:
    save_classifier(tmp_path, config=FAMILIES[family]())
    eager, scorer = load(tmp_path), load(tmp_path, precision="auto", runtime="onnx")
    assert (scorer.precision, scorer.device) == ("fp32-onnx", "cpu")
    expected = eager.score(LONG)
    agree(scorer.score(LONG), expected)
    agree([scorer.score([text])[0] for text in LONG], expected)


@pytest.mark.usefixtures("onnx")
def test_onnx_takes_all_that_the_tokenizer_makes(folder: Path) -> None:
    names = ["input_ids", "token_type_ids", "attention_mask"]
    save_tokenizer(folder, framed=False, model_input_names=names, truncation_side="left")  # rows are transformers' own then
    scorer = load(folder, runtime="onnx")
    assert "token_type_ids" in scorer.tokenize(["thank you"])[0][0]
    agree(scorer.score(["", "thank", *LONG]), load(folder).score(["", "thank", *LONG]))


@pytest.mark.usefixtures("onnx")
def test_onnx_computes_a_batch_a_thread(folder: Path) -> None:
    threads = torch.get_num_threads()
    try:
        scorer = load(folder, runtime="onnx", threads=3)
    finally:
        torch.set_num_threads(threads)
    assert scorer.replicas == 3
    with models.Engine(scorer, cache=0) as engine:
        agree(engine.score(LONG), load(folder).score(LONG))


def test_compiled_it_scores_as_eager_does_and_is_not_compiled_anew(folder: Path) -> None:
    save_tokenizer(folder, framed=False)  # a text of one word is one token
    scorer, eager = load(folder, runtime="compile"), load(folder)
    assert (scorer.precision, scorer.device, scorer.replicas) == ("fp32-compile", "cpu", 1)
    texts, programs = ["thank", *LONG], counters["stats"]["unique_graphs"]
    with models.Engine(scorer, cache=0) as engine:
        scored, alone = engine.score(texts), [engine.score([text])[0] for text in texts]
    assert programs > 0
    assert counters["stats"]["unique_graphs"] == programs
    for one, same, other in zip(scored, alone, eager.score(texts), strict=True):
        assert one.truncated == other.truncated
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert same.score == pytest.approx(one.score, abs=1e-4)


def test_without_a_compiler_the_way_out_is_named(folder: Path, tmp_path: Path) -> None:
    program = "import models, sys; models.load(sys.argv[1], 'cpu', runtime='compile')"
    environment = {**os.environ, "CXX": "no-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    ran = subprocess.run([sys.executable, "-c", program, str(folder)], env=environment, capture_output=True, text=True)
    *_, last = ran.stderr.splitlines()
    assert last.startswith(
        "models.errors.ModelLoadError: BertForSequenceClassification cannot be computed by --runtime compile: "
    )
    assert last.endswith(
        "; it needs a C++ compiler (g++, or what CXX names) and Python's headers; --runtime eager needs neither"
    )


def test_without_onnx_runtime_the_way_out_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(ModelLoadError, match=r'pip install "callpulse\[onnx\]"'):
        load(folder, runtime="onnx")


@pytest.mark.parametrize(
    ("options", "kind", "told"),
    [
        ({"runtime": "tensorrt"}, ModelLoadError, "'tensorrt'; there are eager, compile, onnx"),
        ({"runtime": "onnx", "precision": "bf16"}, ModelLoadError, "in fp32, not in bf16; --runtime eager and compile do"),
        ({"runtime": "onnx", "device": "cuda"}, DeviceError, "of the CPU, not of cuda; --runtime eager computes there"),
        ({"runtime": "compile", "device": "cuda:1"}, DeviceError, "of the CPU, not of cuda:1; --runtime eager"),
    ],
)
def test_what_a_runtime_does_not_do_is_refused(folder: Path, options: dict[str, Any], kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        models.load(folder, **options)


def test_a_word_list_has_no_runtime_to_choose() -> None:
    with pytest.raises(ModelLoadError, match="lexicon has no runtime"):
        models.load("lexicon", runtime="onnx")


@pytest.mark.parametrize("wrong", [0.5, float("nan")])
def test_a_runtime_that_computes_otherwise_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, wrong: float) -> None:
    monkeypatch.setattr(
        runtimes, "compiled", lambda model: lambda batch: model(**batch).logits * torch.tensor([1, 1 + wrong, 1])
    )
    with pytest.raises(ModelLoadError, match=r"--runtime compile would be off by .*; --runtime eager is right"):
        load(folder, runtime="compile")
