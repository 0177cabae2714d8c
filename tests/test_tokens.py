from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import transformers
from checkpoints import FastTokenizer, save_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as kinds

from models.tokens import Tokens
from models.transformer import BUILT_IN

SAID = ["thank you so much", "nobody came and I waited all day!", "환불이 아직도 안 들어왔어요", "it's <pad> BROKEN", "café"]
MARKS = ["<s>", "</s>", "<pad>", "<unk>"]


def trained(
    kind: Any, trainer: Any, before: Any, normalizer: Any = None, frame: str = "<s> $A </s>", said: Sequence[str] = SAID
) -> Any:
    tokenizer = Tokenizer(kind)
    tokenizer.pre_tokenizer = before
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator([*said] * 3, trainer)
    marks = [(mark, tokenizer.token_to_id(mark)) for mark in MARKS[:2]]
    tokenizer.post_processor = processors.TemplateProcessing(single=frame, special_tokens=marks)
    return FastTokenizer(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


def word_piece(frame: str = "<s> $A </s>") -> Any:
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=MARKS, show_progress=False)
    kind = kinds.WordPiece(unk_token="<unk>")
    return trained(kind, trainer, pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer(lowercase=True), frame)


def byte_pairs(initial_alphabet: bool = True) -> Any:
    """Without the alphabet of all bytes it makes nothing of what it has not seen, which is all but Korean."""
    before = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=MARKS, show_progress=False)
    said = SAID if initial_alphabet else [text for text in SAID if not text.isascii() and "é" not in text]
    made = trained(kinds.BPE(), trainer, before if initial_alphabet else pre_tokenizers.Whitespace(), said=said)
    made.backend_tokenizer.decoder = decoders.ByteLevel()
    return made


def built_in() -> Any:
    return transformers.AutoTokenizer.from_pretrained(BUILT_IN)


KINDS: dict[str, Callable[[], Any]] = {"unigram": built_in, "word pieces": word_piece, "byte pairs": byte_pairs}
LIMIT = 9


@cache
def tokens(kind: str) -> tuple[Tokens, Any]:
    """Its rows, and a tokenizer of transformers of its own to compare them with."""
    made = KINDS[kind]()
    return Tokens(deepcopy(made), LIMIT), made


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(st.text() | st.sampled_from(SAID), max_size=4))
def test_rows_are_what_transformers_makes_of_the_texts(kind: str, texts: list[str]) -> None:
    ours, theirs = tokens(kind)
    assert ours.direct is not None
    rows, truncated = ours.rows(texts)
    for text, row, cut in zip(texts, rows, truncated, strict=True):
        whole, most = theirs(text)["input_ids"], theirs(text, truncation=True, max_length=LIMIT)["input_ids"]
        assert (list(row["input_ids"]), cut) == (most, len(whole) > LIMIT)
    assert (len(rows), len(truncated)) == (len(texts), len(texts))


def test_one_that_cuts_at_the_other_side_is_left_to_transformers() -> None:
    made = word_piece()
    made.truncation_side = "left"
    ours = Tokens(made, LIMIT)
    assert ours.direct is None
    [row], _ = ours.rows(["and i waited for you all day and all of the night"])
    assert (
        list(row["input_ids"])
        == made("and i waited for you all day and all of the night", truncation=True, max_length=LIMIT)["input_ids"]
    )


def test_special_tokens_that_a_caller_says_are_split_where_the_tokenizer_says_so() -> None:
    made = built_in()
    made.split_special_tokens = True
    ours = Tokens(made, LIMIT)
    assert ours.direct is not None
    assert list(ours.rows(["<pad>"])[0][0]["input_ids"]) == made("<pad>")["input_ids"] != built_in()("<pad>")["input_ids"]


def test_a_long_text_leaves_the_next_ones_whole() -> None:
    ours, _ = tokens("unigram")
    for _ in range(2):
        assert ours.rows(["waited " * 50, "ok"])[1] == [True, False]


def test_what_tokenizer_json_says_of_truncation_and_padding_is_not_done(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=30)
    rows, _ = Tokens(tokenizer, 16).rows(["thank you that was perfect", "awful"])
    assert [len(row["input_ids"]) for row in rows] == [7, 3]


def test_token_types_are_kept_where_they_say_something() -> None:
    made = word_piece("<s>:2 $A:0 </s>:0")
    made.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    ours = Tokens(made, LIMIT)
    rows, truncated = ours.rows(["thank you", "waited " * 50])
    assert ours.direct is None
    assert [(row["token_type_ids"][0], set(row["token_type_ids"][1:])) for row in rows] == [(2, {0}), (2, {0})]
    assert truncated == [False, True]


def test_token_types_of_zeros_are_kept_where_the_model_would_miss_them() -> None:
    made = word_piece()
    made.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    rows, _ = Tokens(made, LIMIT, untyped=False).rows(["thank you"])
    assert set(rows[0]["token_type_ids"]) == {0}
    assert Tokens(word_piece(), LIMIT, untyped=False).direct is not None  # it makes none


def test_a_tokenizer_that_finds_too_little_in_the_probes_to_show_how_it_cuts_is_left_to_transformers() -> None:
    made = byte_pairs(initial_alphabet=False)
    texts = ["환불이 아직도 안 들어왔어요 환불이 아직도"]
    ours = Tokens(made, LIMIT)
    assert ours.direct is None
    assert list(ours.rows(texts)[0][0]["input_ids"]) == made(texts[0], truncation=True, max_length=LIMIT)["input_ids"]


def test_one_that_the_library_fails_on_is_left_to_transformers() -> None:
    class Own:
        def pre_tokenize(self, text: Any) -> None:
            text.split(lambda _, piece: [piece])

    made = word_piece()
    made.backend_tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Own())
    ours = Tokens(made, LIMIT)
    assert ours.direct is None
    assert list(ours.rows(["thank"])[0][0]["input_ids"]) == made("thank")["input_ids"]


def test_token_types_that_say_nothing_are_left_out_of_long_texts_too() -> None:
    made = word_piece()
    made.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    rows, truncated = Tokens(made, LIMIT).rows(["thank you", "waited " * 50])
    assert truncated == [False, True]
    assert [set(row) for row in rows] == [{"input_ids"}, {"input_ids"}]


def test_a_batch_is_padded_and_masked() -> None:
    ours, _ = tokens("word pieces")
    batch = ours.padded([{"input_ids": [5, 6, 7]}, {"input_ids": [5]}])
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 2, 2]]
