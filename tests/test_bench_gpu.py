"""The pure parts of `make bench-gpu`; what it does on a device, the suite in tests/gpu does."""

import sys
from types import SimpleNamespace

import pytest
import torch
import transformers

from models.transformer import BUILT_IN
from tests.bench import gpu


def test_operations_are_those_of_the_products_and_of_attention() -> None:
    config = SimpleNamespace(hidden_size=4, intermediate_size=16, num_hidden_layers=2)
    rows, width, inner = [3, 5], 4, 16
    first = sum(2 * n * (3 * width * width + width * width + 2 * width * inner) + 2 * 2 * n * n * width for n in rows)
    last = sum(2 * (n * 3 * width * width + width * width + 2 * width * inner) + 2 * 2 * n * n * width for n in rows)
    assert gpu.operations(config, rows) == first + last


def test_turns_are_joined_to_distinct_texts_of_so_many_tokens() -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(BUILT_IN)
    texts = gpu.joined(tokenizer, times=1)
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    assert len(texts) == len(set(texts)) > 1000
    assert gpu.SHORTEST <= min(lengths) < 25 < 45 < max(lengths) <= gpu.LONGEST


def test_the_time_of_an_act_is_that_of_those_that_count() -> None:
    calls: list[int] = []
    assert gpu.seconds(lambda: calls.append(1), torch.device("cpu"), times=4) >= 0
    assert len(calls) == 3 + 4


def test_without_a_device_it_says_how_to_see_that_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cuda:99"])
    with pytest.raises(SystemExit, match=r"cuda:99 is not here: .*; --device cpu --layers 2"):
        gpu.main()
