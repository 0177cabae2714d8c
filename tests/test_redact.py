"""Masking: a table of what must go and what must stay, in both languages, and what holds for every text."""

import re
import sys
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unseen import UNSEEN
from utterances import KEPT, MASKED

from streams.errors import SettingsError
from streams.numerals import NATIVE, SINO, UNITS, said
from streams.redact import LONG, hidden, kept, prepare, redact

WRITTEN = st.text("0123456789", min_size=1, max_size=9)
ENGLISH = st.sampled_from(sorted(UNITS))
KOREAN = st.text("공영일이삼사오육칠팔구", min_size=1, max_size=6)
OTHER = st.sampled_from("and|the|bill|um|dash|다시|환불|어|[phone]|please.|12,500원|at|dot|com".split("|"))  # noqa: SIM905
SPOKEN = st.lists(st.one_of(WRITTEN, ENGLISH, KOREAN, st.sampled_from(sorted(NATIVE)), OTHER), max_size=30).map(" ".join)


def longest(text: str) -> int:
    """The most digits in a row, counted token by token: the plain way, by which the patterns are checked."""
    most = run = 0
    for token in re.split(r"[\s.-]+", text):
        if token.isdigit():
            run += len(token)
        elif token in UNITS or token in NATIVE:
            run += 1
        elif token and set(token) <= set(SINO):
            run += len(token)
        else:
            run = 0
        most = max(most, run)
    return most


@pytest.mark.parametrize(("text", "expected"), MASKED.items())
def test_what_identifies_somebody_is_masked(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize("text", KEPT)
def test_times_prices_dates_and_addresses_stay(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("marked", UNSEEN)
def test_numbers_go_and_the_words_around_them_stay(marked: str) -> None:
    left = re.sub(r"\[\w+\]", "", redact(re.sub("[{}]", "", marked)))
    if "nine nine nine a a" not in marked:  # letters end a run
        assert re.sub(r"\W", "", left) == re.sub(r"\W", "", re.sub(r"\{.*?\}", "", marked))


def test_case_width_and_script_of_digits_do_not_matter() -> None:
    assert redact("Four Two FOUR two oh") == "[number]"
    assert redact("０１０-１２３４-５６７８") == redact("٠١٠ ١٢٣٤ ٥٦٧٨") == "[phone]"


@given(SPOKEN)
def test_no_run_of_seven_digits_survives(text: str) -> None:
    assert longest(redact(text)) < LONG


@given(st.one_of(SPOKEN, st.text(max_size=200), st.text("0123456789-./, +()@a일이", max_size=60)))
def test_redacting_again_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(st.text("0123456789 -()+", max_size=40))
def test_no_written_number_survives_whatever_stands_in_it(text: str) -> None:
    without_dates = re.sub(r"\b(?:19|20)\d\d-\d{1,2}-\d{1,2}\b|\b\d{1,2}-\d{1,2}-(?:19|20)\d\d\b", "x", redact(text))
    assert not re.search(r"\d(?:[ ()+-]*\d){6}", without_dates)


@given(st.text(st.characters(exclude_categories=["Nd"], exclude_characters="@" + "".join(SINO) + "하둘셋넷다여일아천백십골앳")))
def test_a_text_without_numbers_is_not_changed(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("run", "digits", "single"),
    [
        ("four double seven", "477", 3),
        ("twenty two", "22", 0),
        ("fifteen oh 7", "1507", 2),
        ("eight hundred", "800", 0),
        ("six hundred and twelve", "612", 0),
        ("천오백팔십팔에 공공삼칠", "15880037", 4),
        ("이천삼", "2003", 0),
        ("십", "10", 0),
        ("하나 둘 37", "1237", 2),
    ],
)
def test_a_word_counts_for_the_digits_that_it_stands_for(run: str, digits: str, single: int) -> None:
    number = said(run)
    assert (number.digits, number.single) == (digits, single)


# What could make a pattern try every way to split a text.
PIECES = "a |a.|1 |1,|1,234,|- |일이삼 |에이 |가나 점 |이요 |하나|천백십|one um |one |AB12 |x at y dot |x at y dash "


@pytest.mark.parametrize("piece", PIECES.split("|"))
def test_no_text_takes_long(piece: str) -> None:
    text = (piece * 10_000)[:9_980] + " at @ 골뱅이"
    began = time.perf_counter()
    redact(text)
    assert time.perf_counter() - began < 2


# What has been, or could have been, read in two ways word by word, before and after an address.
WAYS = "o |점 |이 점 |점|a골뱅이|골뱅이|골뱅이점|골뱅이 점 |o dot |o dot dot |one o 1 |가점|"
WAYS += "가 점 |a@|a@b.|@가.|1:|123:|\u200b1|x at |at dot |에이"


def taken(text: str) -> float:
    """Seconds, the least of three."""
    spans = []
    for _ in range(3):
        began = time.process_time()
        redact(text)
        spans.append(time.process_time() - began)
    return min(spans)


@pytest.mark.parametrize("piece", WAYS.split("|"))
def test_twice_the_text_takes_about_twice_the_time(piece: str) -> None:
    few, some, more = ((piece * n)[:n] + "x at @ 골뱅이" for n in (40, 5_000, 10_000))
    assert taken(few) < 0.5, "a few words are enough for what is exponential"
    assert taken(more) < 5 * taken(some) + 0.05


@pytest.mark.parametrize("text", ["look at " + "o " * 22 + "x", "앳 " + "점 " * 28, "a골뱅이" + "점" * 38])
def test_no_word_is_read_in_two_ways(text: str) -> None:
    assert redact(text) in (text, "look at [number] x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("메일주소는hong@naver.com입니다", "메일주소는[email]입니다"),
        ("홍길동@naver.com", "[email]"),
        ("user_name@네이버.com", "[email]"),
        ("kim@naver.co.kr입니다", "[email]입니다"),
        ("a골뱅이네이버 점 컴", "[email]"),
        ("이 쩜 에이 골뱅이 네이버 점 컴", "[email]"),
        ("a골뱅이상점닷컴", "[email]"),
        ("1234:5678:9012:3456", "[number]"),
        ("4242|4242|4242|4242", "[card]"),
        ("010\u200b-1234\u200b-5678", "[phone]"),
        ("42\u200d42\u200d4242", "[number]"),
        (unicodedata.normalize("NFD", "공일공 1234 5678 입니다"), "[phone] 입니다"),
        ("SİX FİVE sıx ſeven", "[number]"),
    ],
)
def test_another_spelling_hides_nothing(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text", ["at 10:30, 11:45 or 12:15", "the ſeven sisters", "sıx", "a\u200bb", unicodedata.normalize("NFD", "가나다 café")]
)
def test_where_nothing_is_masked_every_character_stays(text: str) -> None:
    assert redact(text) == text


def test_without_the_libraries_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    with pytest.raises(SettingsError, match=r"pip install '\.\[redact\]'"):
        prepare()


def test_the_other_masks_keep_all_and_nothing() -> None:
    assert (kept("환불 010"), hidden("환불 010")) == ("환불 010", "")
