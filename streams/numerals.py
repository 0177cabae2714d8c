"""Numerals in a text, as they are written and as they are read out, in English and Korean. Pure.

A run is a series of numerals with nothing but blanks, punctuation and the small words of dictation ("dash", "um", 다시)
between them: "four two, double seven", "공일공에 삼삼공공", "010-1234 오육칠팔". A word counts for the digits that it
stands for ("double seven" 77, "twenty two" 22, 천오백팔십팔 1588).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


def _numbered(words: str, first: int) -> dict[str, str]:
    return {word: str(number) for number, word in enumerate(words.split(), first)}


def any_of(words: Iterable[str]) -> str:
    """A pattern that prefers the longest."""
    return "(?:" + "|".join(sorted(words, key=len, reverse=True)) + ")"


def _words(words: str) -> str:
    return any_of(words.split())


UNITS = dict.fromkeys(("oh", "o", "nought", "naught"), "0") | _numbered("zero one two three four five six seven eight nine", 0)
TEENS = _numbered("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen", 10)
TENS = _numbered("twenty thirty forty fifty sixty seventy eighty ninety", 2)
TIMES = {"double": 2, "triple": 3, "treble": 3, "quadruple": 4}
SINO = dict(zip("공영빵일이삼사오육륙칠팔구", "0001234566789", strict=True))
NATIVE = _numbered("하나 둘 셋 넷 다섯 여섯 일곱 여덟 아홉", 1)
POWERS = {"천": 1000, "백": 100, "십": 10}

_UNIT, _TEEN, _TEN = any_of(UNITS), any_of(TEENS), any_of(TENS)
_BELOW = rf"(?:{_TEEN}|{_TEN}(?:[ -]{_UNIT})?)"
_ENGLISH = rf"""(?<![a-z])(?:
    (?P<times>{any_of(TIMES)})[ -](?P<repeated>{_UNIT}) | (?P<hundreds>{_UNIT})[ ]hundred(?:[ ](?:and[ ])?(?P<rest>{_BELOW}))? |
    (?P<below>{_BELOW}) | (?P<unit>{_UNIT}) )(?![a-z])"""
_PLACE = "[일이삼사오육륙칠팔구]"
# After a digit that ends in a consonant, 이 before 요 is the copula and no two: 칠칠이요 is "77", 사이요 "42".
_COPULA = r"(?<=[공영일삼육륙칠팔]이)(?:요|에요|예요|고|고요|구요|죠|네요|거든요|라고|라고요)(?![가-힣])"
_MAGNITUDE = rf"(?=[{''.join(SINO)}]*[천백십])(?:{_PLACE}?천)?(?:{_PLACE}?백)?(?:{_PLACE}?십)?{_PLACE}?"
_DIGIT = "[" + "".join(SINO).replace("이", "") + "]"
_READ_OUT = rf"(?:{_DIGIT}|이(?!{_COPULA})|{any_of(NATIVE)})"
# What may follow a number within its word: particles, the copula, and what ends a line of dictation.
_ENDING = _words(
    "요 이요 이에요 예요 에요 입니다 이고요 이고 고요 구요 이구요 에 에는 에서 국에 국 번 번에 번이요 번이에요 번입니다 "
    "번이고요 다시 의 은 는 이 가 을 를 로 으로 하고 이랑 랑 인데요 인데 이거든요 거든요 이라고 라고 이라고요 까지 부터 죠 "
    "이죠 네요 이네요 맞아요 맞죠 이었어요 였어요"
)
_GOING_ON = _words("에 국에 국 번에 다시 요 이요 에요 이에요 예요 이고 고 이고요 고요 구요 하고")
"""Those of them behind which the same number goes on: 에서, 부터 and 까지 lead to another."""
# Five digits in a row are a number wherever they stand; fewer only where a word begins and ends with them.
_KOREAN = rf"""(?P<glued>{_READ_OUT}{{5,}}) | (?<![가-힣\d])(?:(?P<magnitude>{_MAGNITUDE})|(?P<read>{_READ_OUT}+))
    (?={_ENDING}?(?![가-힣]))"""
_NUMERAL = rf"(?:(?P<written>\d+)|{_ENGLISH}|{_KOREAN})"
# A colon only between longer groups: 10:30, 11:45 are times.
_MARKS = r"(?:[\s\-‐-―.,/()+·~_\#*?|]|(?<=\d{3}):(?=\d{3}))*"
_FILLERS = _words(
    "um uh uhm er erm ah dash hyphen slash stroke dot then comma space plus "
    "어 음 그 저 다시 하이픈 대시 에 그다음 그다음에 그다음은 다음에 뒤에 그리고 또 콤마 슬래시"
)
_SMALL = rf"(?<![a-z가-힣])(?:and[ ])?{_FILLERS}(?![a-z가-힣])"
_BETWEEN = rf"(?:{_GOING_ON}(?![가-힣]))?{_MARKS}(?:{_SMALL}{_MARKS}){{0,3}}"


def _unnamed(pattern: str) -> str:
    return re.sub(r"\?P<\w+>", "?:", pattern)


RUN = rf"{_unnamed(_NUMERAL)}(?:{_BETWEEN}{_unnamed(_NUMERAL)})*"
"""The pattern of a run, to be compiled with FLAGS."""
FLAGS = re.IGNORECASE | re.VERBOSE
_TAKEN_FOR = str.maketrans("ıſ", "is")
_each = re.compile(_NUMERAL, FLAGS).finditer


@dataclass(frozen=True, slots=True)
class Digits:
    """What a run says: its `digits`, and how many of them were read out (or written) one by one."""

    digits: str
    single: int


def said(run: str) -> Digits:
    """The digits of what RUN has matched."""
    parts = [_said(numeral) for numeral in _each(run)]
    return Digits("".join(digits for digits, _ in parts), sum(len(digits) for digits, single in parts if single))


def _lowered(text: str) -> str:
    """In small letters; what IGNORECASE takes for an i or an s becomes one."""
    return text.lower().replace("i\u0307", "i").translate(_TAKEN_FOR)


def _said(numeral: "re.Match[str]") -> tuple[str, bool]:
    """The digits of one numeral, and whether they were said one by one."""
    found = {name: _lowered(text) for name, text in numeral.groupdict().items() if text is not None}
    match found:
        case {"written": text}:
            return "".join(str(int(c)) for c in text), len(text) == 1
        case {"times": times, "repeated": unit}:
            return UNITS[unit] * TIMES[times], True
        case {"hundreds": unit, **rest}:
            return UNITS[unit] + (_below(rest["rest"]).rjust(2, "0") if "rest" in rest else "00"), False
        case {"below": text}:
            return _below(text), False
        case {"unit": text}:
            return UNITS[text], True
        case {"magnitude": text}:
            return str(_value(text)), False
    return "".join(_read_out(found.get("glued") or found["read"])), True


def _below(text: str) -> str:
    """Two digits of "fifteen", "twenty" and "twenty-two"."""
    if text in TEENS:
        return TEENS[text]
    ten, _, unit = text.replace("-", " ").partition(" ")
    return TENS[ten] + UNITS.get(unit, "0")


def _value(text: str) -> int:
    """1588 for 천오백팔십팔."""
    total, place = 0, 0
    for c in text:
        if c in POWERS:
            total, place = total + (place or 1) * POWERS[c], 0
        else:
            place = int(SINO[c])
    return total + place


def _read_out(text: str) -> Iterator[str]:
    for word in re.findall(_READ_OUT, text):
        yield SINO.get(word) or NATIVE[word]
