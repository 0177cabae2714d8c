import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.augment import SOUND_ALIKE, Asr, filled, misheard, plain, spoken_numbers, transcribed

ALL = Asr(plain=1, filler=1, error=1, words=0.3)
texts = st.text(st.sampled_from("abc ABC,.!?'’ 0123456789 가나다요 "), max_size=60)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("I’m NOT happy -- at all...", "i'm not happy at all"),
        ("정말 감사합니다!!", "정말 감사합니다"),
        ("???", "???"),
        ("", ""),
    ],
)
def test_plain_strips_case_and_punctuation_but_never_all_of_a_text(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flat 9", "flat nine"),
        ("at 15 past", "at fifteen past"),
        ("it's 20", "it's twenty"),
        ("47 dollars", "forty seven dollars"),
        ("45min", "forty five min"),
        ("number 4470", "number four four seven zero"),
        ("room 07", "room zero seven"),
        ("번호는 010-1234 요", "번호는 공일공 일이삼사 요"),
    ],
)
def test_numbers_are_read_out(text: str, expected: str) -> None:
    assert plain(spoken_numbers(text)) == expected


@given(texts, st.integers(0, 1000))
def test_a_transcript_is_never_empty_and_has_no_case_punctuation_or_digits(text: str, seed: int) -> None:
    said = transcribed(text, ALL, random.Random(seed))
    assert bool(said.strip()) == bool(text.strip()) or not plain(text).strip()
    if any(c.isalnum() for c in text):
        assert said == said.lower()
        assert not any(c in ",.!?0123456789" for c in said)


@given(texts, st.integers(0, 1000))
def test_the_same_seed_gives_the_same_transcript(text: str, seed: int) -> None:
    assert transcribed(text, ALL, random.Random(seed)) == transcribed(text, ALL, random.Random(seed))


@given(texts)
def test_without_a_share_the_text_is_left_as_it_is(text: str) -> None:
    assert transcribed(text, Asr(0, 0, 0, 0), random.Random(1)) == text


def test_a_filler_is_one_word_or_two_more_in_the_texts_own_language() -> None:
    for seed in range(50):
        assert len(filled("i paid for it", random.Random(seed)).split()) in (5, 6)
        assert filled("제가 냈어요", random.Random(seed)).isascii() is False
        assert not any(c.isascii() and c.isalpha() for c in filled("제가 냈어요", random.Random(seed)))


def test_words_are_lost_doubled_run_together_or_misheard() -> None:
    text = "please tell me about my order today"
    found = {misheard(text, 0.1, random.Random(seed)) for seed in range(200)}
    counts = {len(said.split()) for said in found}
    assert counts == {6, 8}
    assert text not in found
    assert all(set(said.replace(" ", "")) <= set(text) for said in found)
    assert any(len(said.split()) == 6 and said.replace(" ", "") == text.replace(" ", "") for said in found)
    assert "is it you're card" in {misheard("is it your card", 0.1, random.Random(seed)) for seed in range(20)}


def test_a_short_text_is_not_misheard() -> None:
    assert misheard("no thanks", 1, random.Random(1)) == "no thanks"


def test_what_is_misheard_is_another_word() -> None:
    assert all(word != other for word, other in SOUND_ALIKE.items())
