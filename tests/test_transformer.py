import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoints import TEXTS, AutoClassifier, bert_config, load, save_classifier, save_tokenizer
from safetensors.torch import load_file

import models
from models import LabelMappingError, Sentiment, transformer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def reference(folder: Path, text: str) -> list[float]:
    """The probabilities of the checkpoint's own classes, as transformers alone computes them."""
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    model = AutoClassifier.from_pretrained(folder).eval()
    with torch.no_grad():
        probabilities: list[float] = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0].tolist()
    return probabilities


@pytest.mark.parametrize(
    ("names", "labels", "negative", "neutral", "positive"),
    [
        (("negative", "neutral", "positive"), None, [0], [1], [2]),
        (("POS", "NEG", "NEU"), None, [1], [2], [0]),
        (("NEGATIVE", "POSITIVE"), None, [0], [], [1]),
        (("1 star", "2 stars", "3 stars", "4 stars", "5 stars"), None, [0, 1], [2], [3, 4]),
        (("LABEL_0", "LABEL_1", "LABEL_2"), ("neutral", "positive", "negative"), [2], [0], [1]),
    ],
)
def test_scores_are_the_checkpoints_own_probabilities_summed_by_label(
    tmp_path: Path,
    names: tuple[str, ...],
    labels: tuple[str, ...] | None,
    negative: list[int],
    neutral: list[int],
    positive: list[int],
) -> None:
    save_classifier(tmp_path, names)
    for text, sentiment in zip(TEXTS, load(tmp_path, labels=labels).score(TEXTS), strict=True):
        expected = reference(tmp_path, text)
        assert sentiment.negative == pytest.approx(sum(expected[i] for i in negative), abs=1e-5)
        assert sentiment.neutral == pytest.approx(sum(expected[i] for i in neutral), abs=1e-5)
        assert sentiment.positive == pytest.approx(sum(expected[i] for i in positive), abs=1e-5)


def test_a_checkpoint_of_two_classes_is_never_neutral(tmp_path: Path) -> None:
    scored = load(save_classifier(tmp_path, ("neg", "pos"))).score(TEXTS)
    assert {sentiment.neutral for sentiment in scored} == {0}
    assert {sentiment.label for sentiment in scored} == {"negative", "positive"}


def test_labels_that_say_nothing_are_refused(tmp_path: Path) -> None:
    save_classifier(tmp_path, ("LABEL_0", "LABEL_1", "LABEL_2"))
    with pytest.raises(LabelMappingError, match=r"'LABEL_0', 'LABEL_1', 'LABEL_2'.*labels="):
        load(tmp_path)


def test_summed_probabilities_never_round_to_more_than_one(tmp_path: Path) -> None:
    names = ("negative", "positive", "very positive", "extremely positive", "slightly positive")
    scorer = load(save_classifier(tmp_path, names))
    torch.nn.init.zeros_(scorer.model.classifier.weight)
    # softmax of these, summed in float64 over the last four, is 1 + 2**-52
    scorer.model.classifier.bias.data = torch.tensor([-90.0, -2.0, -1.0, 3.0, 0.0])
    assert scorer.score(["thank you"])[0].score == 1


SMALL: dict[str, Any] = {"vocab_size": 19, "pad_token_id": 1, "initializer_range": 0.5}
BERT_LIKE = SMALL | {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
FAMILIES: dict[str, Callable[[], Any]] = {
    "bert": bert_config,
    "roberta": lambda: transformers.RobertaConfig(**BERT_LIKE, max_position_embeddings=18, type_vocab_size=1),
    "distilbert": lambda: transformers.DistilBertConfig(
        **SMALL, dim=32, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=16
    ),
    "electra": lambda: transformers.ElectraConfig(**BERT_LIKE, max_position_embeddings=16),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=19, initializer_range=0.5, n_embd=32, n_layer=2, n_head=2, n_positions=16, bos_token_id=0
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_its_whole_length_and_any_company(tmp_path: Path, family: str) -> None:
    scorer = load(save_classifier(tmp_path, config=FAMILIES[family]()))
    texts = ["awful " * 14, "awful " * 15, "awful " * 200, "", "thank you"]
    together = scorer.score(texts)
    assert [sentiment.truncated for sentiment in together] == [False, True, True, False, False]
    assert together[1].score == pytest.approx(together[0].score, abs=1e-4)
    for text, sentiment in zip(texts, together, strict=True):
        assert scorer.score([text])[0].score == pytest.approx(sentiment.score, abs=1e-4)


def test_an_empty_text_works_where_the_tokenizer_adds_nothing(tmp_path: Path) -> None:
    save_classifier(tmp_path)
    save_tokenizer(tmp_path, framed=False)
    scorer = load(tmp_path)
    empty, thanks = scorer.score(["", "thank you"])
    (blank,) = scorer.score(["  "])
    assert empty.score == pytest.approx(blank.score, abs=1e-4)
    assert empty.score != pytest.approx(thanks.score, abs=1e-3)


def test_the_tokenizers_own_limit_counts_where_it_is_the_lower(copy: Path) -> None:
    save_tokenizer(copy, model_max_length=8)
    assert [sentiment.truncated for sentiment in load(copy).score(["thank " * 6, "thank " * 7])] == [False, True]


def test_batches_stay_within_the_budget_and_hold_texts_of_similar_length(folder: Path) -> None:
    scorer = transformer.load(folder, "cpu", budget=24, packed=False)
    shapes: list[tuple[int, ...]] = []
    scorer.model.register_forward_pre_hook(
        lambda _model, _args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    scorer.score(["thank you " * n for n in (1, 6, 2, 1, 4, 2)])
    assert shapes == [(1, 14), (2, 10), (3, 6)]


def test_bf16_is_close_to_fp32(folder: Path) -> None:
    scorer = models.load(folder, "cpu", precision="bf16")
    assert scorer.precision == "bf16"
    for one, other in zip(scorer.score(TEXTS), load(folder).score(TEXTS), strict=True):
        assert one.score == pytest.approx(other.score, abs=0.05)  # its weights are much wider than a trained model's


def test_threads_are_replicas_that_compute_on_one_thread_each(folder: Path) -> None:
    threads = torch.get_num_threads()
    try:
        scorer = transformer.load(folder, "cpu", threads=3)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(scorer.begin).result()
            assert pool.submit(torch.get_num_threads).result() == 1
    finally:
        torch.set_num_threads(threads)
    assert scorer.replicas == 3


def test_weights_in_half_precision_are_computed_in_fp32(tmp_path: Path, folder: Path) -> None:
    half = load(save_classifier(tmp_path, dtype=torch.float16))
    assert load_file(tmp_path / "model.safetensors")["classifier.weight"].dtype == torch.float16
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}
    assert half.precision == "fp32"
    for one, other in zip(half.score(TEXTS), load(folder).score(TEXTS), strict=True):
        assert one.score == pytest.approx(other.score, abs=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_scores_as_the_cpu_does(folder: Path) -> None:
    cuda = models.load(folder, "cuda")
    assert cuda.precision == "bf16"
    for one, other in zip(cuda.score(TEXTS), load(folder).score(TEXTS), strict=True):
        assert isinstance(one, Sentiment)
        assert one[1:5] == pytest.approx(other[1:5], abs=0.05)
