"""Masks what identifies a person or an account in a text: numbers, written or read out, and e-mail addresses. Pure.

What is promised: of seven or more digits in a row (in numerals as `numerals.RUN` takes them) nothing is left, nor of four that
were said one by one; dates and amounts with thousands separators stay. Which placeholder is put for them is a
guess: card numbers by Luhn's check, bank accounts by IBAN's (both python-stdnum), telephone numbers by their countries' plans
(phonenumbers), else by the words before it. Names and addresses stay: nothing here knows them.

A mask is what is done to each text before it leaves the worker: `kept`, `redact` or `hidden`.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

import regex

from streams.errors import SettingsError
from streams.numerals import FLAGS, RUN, TEENS, TENS, UNITS, Digits, any_of, said

Mask = Callable[[str], str]
"""What becomes of a text before it leaves the worker."""

LONG = 7  # digits
SINGLE = 4  # digits said one by one: what a caller spells out is a number of something, not how many
CARD = range(13, 20)  # digits of a card number, ISO/IEC 7812
REGIONS = {"KR": re.compile(r"0|1\d{7}$"), "US": re.compile(r"1?\d{10}$"), "GB": re.compile("0")}
"""Whose numbering plans a telephone number without a country code is looked for in, and how it begins there when dialled."""

# Korean is written on without a space: 메일은hong@naver.com입니다. A name is in Hangul or in other letters, not in both.
_NAME = r"(?:(?<![^\W가-힣])(?<![.%+-])(?:[^\W가-힣]|[.%+-])+|(?<![가-힣])[가-힣]+)"
_WRITTEN_EMAIL = rf"{_NAME}@[a-z0-9가-힣-]+(?:\.[a-z0-9가-힣-]+)*\.(?:[a-z0-9-]+|한국)"
_COUNT = any_of((*UNITS, *TEENS, *TENS, r"\d+"))
# What follows is read in one way only, and bounded: two ways to read a word are a million for twenty.
_WORD_COUNT = any_of((*(word for word in (*UNITS, *TEENS, *TENS) if len(word) > 1), r"\d+"))
_SPELT = rf"(?:(?:[a-z]|{_WORD_COUNT}|[a-z0-9]+[ ](?:dot|underscore|dash|hyphen))[ ])"
_ENDS = "(?:com|net|org|edu|gov|io|co|uk|kr|ie|eu)"
_DOMAIN = rf"[a-z0-9-]+(?:[ ](?:dot|dash|hyphen)[ ][a-z0-9-]+)*[ ]dot[ ]{_ENDS}\b"
_SHOPPING = "(?!(?:it|that|this|them|us|one|look(?:ed|ing)?|order(?:ed|s)?|bought|shop(?:ped|ping)?|online|found)[ ]at[ ])"
_ENGLISH_EMAIL = rf"(?<![a-z0-9.'-]){_SPELT}{{0,40}}{_SHOPPING}[a-z0-9]+(?:[ ]{_COUNT}){{0,4}}[ ]at[ ]{_DOMAIN}"
_LETTERS = (
    "(?:에이치|에이|비|씨|디|이|에프|지|아이|제이|케이|엘|엠|엔|오|피|큐|알|에스|티|유|브이|더블유|엑스|와이|제트|"
    "공|영|일|삼|사|육|칠|팔|구|점|닷|쩜|언더바|하이픈)"
)
_POINT = r"(?:[ ]?[점닷쩜.]){1,8}[ ]?"
_KOREAN_SPELT = rf"(?:(?:{_LETTERS}+|[a-z0-9._-]+|(?!{_LETTERS}+[ ])[가-힣]+[ ](?:점|닷|쩜|언더바|하이픈))[ ])"
_KOREAN_EMAIL = (
    rf"(?<![가-힣a-z0-9._-]){_KOREAN_SPELT}{{0,40}}[가-힣a-z0-9._-]+[ ]?(?:골뱅이|앳)[ ]?"
    rf"(?:(?:(?![점닷쩜])[가-힣a-z0-9]){{1,63}}{_POINT}){{1,8}}(?:컴|콤|넷|씨오|케이알|com|net|co|kr)(?:{_POINT}(?:케이알|kr))?"
)
_EMAIL = re.compile(f"{_WRITTEN_EMAIL}|{_ENGLISH_EMAIL}|{_KOREAN_EMAIL}", FLAGS)
_AT = re.compile("@|\\bat\\b|골뱅이|앳", re.IGNORECASE)
_INVISIBLE = regex.compile(r"\p{Cf}+")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")

_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_SLASHED = rf"(?:{_DAY}[-./]{_MONTH}|{_MONTH}[-./]{_DAY})[-./]{_YEAR}"
_DATE = rf"(?:{_YEAR}(?P<s>[-./])[ ]?{_MONTH}(?P=s)[ ]?{_DAY}|{_SLASHED})"
_AMOUNT = r"\d{1,3}(?:,\d{3}){1,3}(?:\.\d{1,2})?"
_KEPT = rf"(?<![\d.,/-])(?:{_DATE}|{_AMOUNT})(?!\d|[-./,]\d)"
_NUMBERS = re.compile(rf"(?P<kept>{_KEPT})|(?P<plus>\+|\bplus[ ]|플러스[ ])?(?P<run>{RUN})", FLAGS)

_WORDS = {
    "account": re.compile(r"\b(?:account|iban|sort code|routing|bank)\b|계좌|통장|은행|농협|금고|입금", re.IGNORECASE),
    "card": re.compile(r"\b(?:card|visa|mastercard|amex)\b|카드", re.IGNORECASE),
    "phone": re.compile(
        r"\b(?:phone|telephone|mobile|cell|call|ring|reach|text|tel)\b|전화|휴대폰|핸드폰|연락|문자", re.IGNORECASE
    ),
}


def kept(text: str) -> str:
    """The text as it is."""
    return text


def hidden(_: str) -> str:
    """Nothing of it."""
    return ""


def prepare() -> None:
    """Raises SettingsError, with the way out, where the libraries that `redact` needs are not installed."""
    try:
        import phonenumbers  # noqa: F401
        import stdnum.luhn  # noqa: F401
    except ImportError as error:
        raise SettingsError("--redact needs two libraries more: pip install '.[redact]'") from error


def redact(text: str) -> str:
    """The text with placeholders ([card], [account], [phone], [email], [number]) for what identifies somebody. The same text
    where there is nothing; redacting again changes nothing."""
    while (masked := _masked(text)) != text:
        text = masked
    return text


def _masked(text: str) -> str:
    """Masked once; what only looks different (decomposed, with invisible characters in it) is composed first. Where nothing is
    masked, the text is the same."""
    seen = text if text.isascii() else unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    masked = _put(seen)
    return text if masked == seen else masked


def _put(text: str) -> str:
    if _AT.search(text):
        text = _EMAIL.sub("[email]", text)
    text = _IBAN.sub(_account, text)
    return _NUMBERS.sub(_number, text)


def _account(found: "re.Match[str]") -> str:
    from stdnum import iban

    return "[account]" if iban.is_valid(found[0]) else found[0]


def _number(found: "re.Match[str]") -> str:
    if found["kept"] is not None:
        return found[0]
    number = said(found["run"])
    if len(number.digits) < LONG and number.single < SINGLE:
        return found[0]
    return f"[{_kind(number, found['plus'] is not None, found.string[: found.start()])}]"


def _kind(number: Digits, international: bool, before: str) -> str:
    """What the digits are, by their own check first, then by the last telling word before them."""
    from stdnum import luhn

    digits, told = number.digits, _told(before)
    if len(digits) < LONG:
        return "number"
    if told == "account":
        return "account"
    if len(digits) in CARD and (told == "card" or luhn.is_valid(digits)):
        return "card"
    return "phone" if told == "phone" or _is_phone(digits, international) else "number"


def _told(before: str) -> str:
    """The kind of number that the last telling word announces; "" where there is none."""
    ends = {name: max((word.end() for word in words.finditer(before)), default=0) for name, words in _WORDS.items()}
    last = max(ends, key=lambda name: ends[name])
    return last if ends[last] else ""


@lru_cache(maxsize=1024)
def _is_phone(digits: str, international: bool) -> bool:
    """Whether a country's plan has this number."""
    regions = [region for region, dialled in REGIONS.items() if dialled.match(digits)]
    return _valid("+" + digits, None) if international else any(_valid(digits, region) for region in regions)


def _valid(number: str, region: str | None) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False
