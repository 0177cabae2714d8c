"""Phrases and patterns: what is found in what was said, and what is not."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import words
from streams.words import pattern, phrases, plain, repeated, slow, too_slow


def found(phrase: str, text: str) -> bool:
    return phrases([phrase])(plain(text))


@pytest.mark.parametrize(
    "text",
    [
        "환불을 해주세요",
        "환불해 주세요",
        "저는 환불 원해요",
        "(환불)",
        "오늘\n환불받고",
        "환불",
        "\u1112\u116a\u11ab\u1107\u116e\u11af\u110b\u1173\u11af",
    ],
)
def test_a_korean_word_is_found_with_what_is_attached_behind(text: str) -> None:
    assert found("환불", text)


@pytest.mark.parametrize("text", ["재환불", "미환불 건", "꼭환불", "환 불", "교환불가", "VIP환불"])
def test_a_korean_word_is_not_found_inside_a_longer_word_before_it(text: str) -> None:
    assert not found("환불", text)


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("고객 센터", "고객센터에 전화"),
        ("고객 센터", "고객  센터"),
        ("소비자원 신고", "소비자원에 신고할게요"),
        ("소비자원 신고", "소비자원 신고"),
        ("VIP", "VIP는 다른가요"),
        ("cancel my account", "I want to  CANCEL my account!"),
        ("don't", "I don’t"),
        ("Don’t call", "don't call"),
        ("c++", "we use C++ here"),
        ("24/7", "open 24/7, they said"),
        ("Straße", "STRASSE"),
        ("café", "cafe\u0301"),
    ],
)
def test_what_is_found(phrase: str, text: str) -> None:
    assert found(phrase, text)


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("cancel", "cancelled"),
        ("cancel", "uncancel"),
        ("cancel my account", "cancel my accounts"),
        ("cancel my account", "cancel account"),
        ("refund", "refund_id"),
        ("VIP", "VIPs"),
        ("소비자원 신고", "소비자원 어디 신고"),
        ("sue", "issue"),
    ],
)
def test_what_is_not_found(phrase: str, text: str) -> None:
    assert not found(phrase, text)


def test_any_of_several_phrases() -> None:
    matcher = phrases(["refund", "money back", "환불"])
    assert [matcher(plain(text)) for text in ("My money  back!", "환불은요", "refunded", "back money")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("phrase", ["", "  ", "!?", "…"])
def test_a_phrase_without_letters_is_refused(phrase: str) -> None:
    with pytest.raises(ValueError, match="neither letters nor digits"):
        phrases(["good", phrase])


@given(st.text(alphabet="ab 가을환불", max_size=12), st.text(alphabet="ab 가을환불", min_size=1, max_size=4).filter(str.strip))
def test_a_single_word_is_found_as_a_plain_search_over_words_says(text: str, phrase: str) -> None:
    word = plain(phrase)
    if " " in word:
        return
    korean = "가" <= word[-1] <= "힣"
    expected = any(
        said == word or (korean and said.startswith(word)) or (said.startswith(word) and re.match("[가-힣]", said[len(word) :]))
        for said in plain(text).split()
    )
    assert found(phrase, text) == bool(expected)


def test_a_pattern_is_found_whatever_the_capitals() -> None:
    matcher = pattern(r"환불.{0,10}(안|못)|\brefund(ed)?\b")
    texts = ("환불이 아직 안 들어왔어요", "REFUNDED?", "환불", "prerefund")
    assert [matcher(plain(text)) for text in texts] == [True, True, False, False]


def test_what_is_no_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="no regular expression"):
        pattern("(")


def test_a_pattern_that_takes_too_long_counts_as_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.perf_counter()
    assert not pattern("(a+)+$")("a" * 5_000 + "!")
    assert time.perf_counter() - began < 20 * words.LIMIT_S


@pytest.mark.parametrize(
    ("text", "is_slow"), [("(a+)+$", True), ("(a|aa)+$", True), (r"\brefund\b.*\bnow\b", False), ("환불", False)]
)
def test_slow_patterns_are_known_beforehand(text: str, is_slow: bool) -> None:
    assert slow(text) == is_slow


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("a{1000000000}", (10**9, 10**9)),
        (r"\\{5,}", (5, 5)),
        (r"\{5\}a{,7}", (7, 7)),
        ("((a{10}b{20}){3,30}c){40}", (40, 24_000)),
        (".{0,100}a.{0,100}b.{0,100}", (100, 100)),
        (r"[({]a{2}\)(b{3})|)[^]{9}]{4}", (4, 4)),
        ("환불", (0, 1)),
    ],
)
def test_how_often_a_pattern_repeats_is_known_before_it_is_compiled(text: str, most: tuple[int, int]) -> None:
    assert repeated(text) == most


@pytest.mark.parametrize("text", ["a{1000000000}", "a{1001}", "a{0, 1001}", "((a{100}){101})", "(?:a{1000}){11}"])
def test_a_pattern_that_repeats_too_often_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a repetition is at most"):
        pattern(text)


def test_a_pattern_that_was_accepted_is_not_refused_under_load(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not too_slow("accepted|before")
    monkeypatch.setattr(words, "slow", lambda _: True)
    assert not too_slow("accepted|before")
    assert too_slow("new|one")
    monkeypatch.setattr(words, "slow", lambda _: False)
    assert not too_slow("new|one"), "measured again"


def test_a_timeout_is_told_once_and_never_what_was_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(words, "LIMIT_S", 0.01)
    found = pattern("(a+)+$")
    assert not any(found("a" * 5_000 + "!") for _ in range(2))
    (record,) = caplog.records
    assert "(a+)+$" in record.getMessage()
    assert "aaaa" not in record.getMessage()
