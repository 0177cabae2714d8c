"""Phrases and patterns in what was said. Pure.

A phrase is found whatever its capitals, apostrophes and spaces. Words in Latin letters are found whole. A word in Hangul is
found with particles and endings attached (환불을 and 환불해 for 환불), but only where a word begins; between two words in
Hangul the space may be missing, or a particle stand (소비자원에 신고). A pattern has a time limit, after which it counts as
not found.
"""

import logging
import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import pairwise

import regex

log = logging.getLogger("callpulse.rules")
Matcher = Callable[[str], bool]
"""Of a text that `plain` has made; whether it is found there."""

LIMIT_S = 1.0  # of the process's time, which others take too: a guard against hanging, and no measure of a pattern
SLOWEST_S = 0.01  # of a probe, beyond which a pattern is refused
MOST_TIMES = 1_000  # of a repetition; 'a{1000000000}' takes all memory
MOST_NESTED = 10_000  # of repetitions in one another, multiplied
HANGUL = "\uac00-\ud7a3"
PARTICLES = "은는이가을를에도만의와과로"
APOSTROPHES = str.maketrans("‘’‛ʼ＇`´", "'" * 7)
PROBES = tuple(piece * 300 + end for piece in ("a", "a ", "1", "ab", "가", "가 ", "a1-", "\"'") for end in ("", "!"))


_TOKENS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?P<times>\s*\d*\s*,?\s*\d+\s*|\s*\d+\s*,\s*)\}|.", re.DOTALL)
_quick: set[str] = set()


def plain(text: str) -> str:
    """Composed (NFKC), without capitals, with straight apostrophes and single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).translate(APOSTROPHES).casefold().split())


def phrases(said: Sequence[str]) -> Matcher:
    """Finds any of these. Raises ValueError for one without a letter or digit."""
    forms = [plain(phrase) for phrase in said]
    for form, phrase in zip(forms, said, strict=True):
        if not any(c.isalnum() for c in form):
            raise ValueError(f"{phrase!r} has neither letters nor digits: it would be found nowhere")
    firsts = tuple({_first(form) for form in forms})
    found = re.compile("|".join(_pattern(form) for form in forms)).search
    if len(firsts) == 1:
        only = firsts[0]
        return lambda text: only in text and found(text) is not None
    return lambda text: any(first in text for first in firsts) and found(text) is not None


def _first(form: str) -> str:
    """What every text has in which the phrase is found; to look for it is twenty times as fast as for the pattern."""
    return form.split(" ", 1)[0]


def _pattern(form: str) -> str:
    """The phrase as a pattern; a side that is no word character has no word to belong to."""
    words = form.split(" ")
    between = [_between(a, b) for a, b in pairwise(words)]
    body = re.escape(words[0]) + "".join(gap + re.escape(word) for gap, word in zip(between, words[1:], strict=True))
    before = r"(?<!\w)" if _is_word(form[0]) else ""
    after = "" if _is_hangul(form[-1]) else rf"(?![^\W{HANGUL}])" if _is_word(form[-1]) else ""
    return before + body + after


def _between(a: str, b: str) -> str:
    return rf"[{PARTICLES}]?\s?" if _is_hangul(a[-1]) and _is_hangul(b[0]) else r"\s"


def _is_word(c: str) -> bool:
    return c.isalnum() or c == "_"


def _is_hangul(c: str) -> bool:
    return "\uac00" <= c <= "\ud7a3"


def pattern(text: str) -> Matcher:
    """Finds the regular expression, in text as `plain` makes it. Raises ValueError where it is none, or too slow."""
    most, nested = repeated(text)
    if most > MOST_TIMES or nested > MOST_NESTED:
        raise ValueError(f"a repetition is at most {{{MOST_TIMES}}}, repetitions in one another {MOST_NESTED} in all")
    try:
        compiled = regex.compile(text, regex.IGNORECASE | regex.VERSION1)
    except regex.error as error:
        raise ValueError(f"this is no regular expression: {error}") from error

    told = False

    def found(said: str) -> bool:
        nonlocal told
        try:  # holding the lock: this takes a microsecond, to wait for a thread of the model's some thousand
            return compiled.search(said, timeout=LIMIT_S, concurrent=False) is not None
        except TimeoutError:
            if not told:
                log.warning("a regular expression took over %g s and counts as not found there: %s", LIMIT_S, text)
            told = True
            return False

    return found


def repeated(text: str) -> tuple[int, int]:
    """The highest bound of a repetition in a regular expression, and the highest product of bounds of nested ones."""
    most, nested, last = 0, [1], 1
    for token in _TOKENS.finditer(text):
        if token[0] == "(":
            nested.append(1)
        elif token[0] == ")" and len(nested) > 1:
            last = nested.pop()
        elif token["times"] is not None:
            times = max(map(int, re.findall(r"\d+", token["times"])))
            most, last = max(most, times), last * times
        else:
            last = 1
        nested[-1] = max(nested[-1], last)
    return most, max(nested)


def too_slow(text: str) -> bool:
    """As `slow`, of a pattern that was not found quick before: what a worker has accepted it does not refuse under load."""
    if text in _quick:
        return False
    if slow(text):
        return True
    if len(_quick) >= 10_000:
        _quick.clear()
    _quick.add(text)
    return False


def slow(text: str) -> bool:
    """Whether a regular expression (which `pattern` takes) needs longer than SLOWEST_S for one of some awkward texts."""
    compiled = regex.compile(text, regex.IGNORECASE | regex.VERSION1)
    try:
        for probe in PROBES:
            compiled.search(probe, timeout=SLOWEST_S)
    except TimeoutError:
        return True
    return False
