"""Text made to look as a speech recogniser writes it. Pure: what is drawn by lot is drawn from the generator that is passed in.

Written text has case, punctuation and digits; a transcript of a call has none of them, but fillers, repeated and lost words,
and words that sound like the right one. Each function does one of these, to English and to Korean.
"""

import random
import re
from dataclasses import dataclass

FILLERS_EN = ("uh", "um", "i mean", "you know", "like", "well", "so", "yeah", "er", "okay so")
FILLERS_KO = ("어", "음", "그", "저기", "아니", "뭐", "이제", "그게", "아", "저")
SOUND_ALIKE = {
    "your": "you're", "you're": "your", "their": "there", "there": "their", "they're": "there", "to": "two", "too": "to",
    "hear": "here", "here": "hear", "no": "know", "know": "no", "right": "write", "its": "it's", "it's": "its",
    "then": "than", "than": "then", "for": "four", "by": "buy", "buy": "by", "won't": "want", "can't": "can", "new": "knew",
    "되요": "돼요", "돼요": "되요", "안": "않", "데": "대", "왜": "외", "네": "내",
    "제가": "재가", "되는데": "돼는데", "낫네요": "났네요",
}  # fmt: skip
"""What recognisers take for one another; "can't" and "can" among them, so a model should not hang on one word."""
ONES_EN = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEENS_EN = (
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS_EN = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
DIGITS_KO = "공일이삼사오육칠팔구"


@dataclass(frozen=True, slots=True)
class Asr:
    """How much of a recogniser's hand is laid on texts: the shares of texts, and of words in those, that it touches."""

    plain: float = 0.5
    filler: float = 0.15
    error: float = 0.1
    words: float = 0.08


def transcribed(text: str, asr: Asr, rng: random.Random) -> str:
    """The text, perhaps as a recogniser would have written it; never empty where the text is not."""
    if rng.random() < asr.plain:
        text = plain(spoken_numbers(text))
        if rng.random() < asr.filler:
            text = filled(text, rng)
        if rng.random() < asr.error:
            text = misheard(text, asr.words, rng)
    return text


def plain(text: str) -> str:
    """Lower case, no punctuation but apostrophes."""
    return " ".join(re.sub(r"[^\w'\s]", " ", text.replace("’", "'")).lower().split()) or text


def korean(text: str) -> bool:
    return bool(re.search(r"[가-힣]", text))


def spoken_numbers(text: str) -> str:
    """Digits as words: up to 99 in English as a number, everything else digit by digit."""
    read = _korean_digits if korean(text) else _english_number
    return re.sub(r"\d+", lambda found: read(found[0]), text)


def _english_number(digits: str) -> str:
    if len(digits) > 2 or digits.startswith("0"):
        return f" {' '.join(ONES_EN[int(digit)] for digit in digits)} "
    value = int(digits)
    if value < 20:
        return f" {(ONES_EN + TEENS_EN)[value]} "
    return f" {TENS_EN[value // 10]} {ONES_EN[value % 10] if value % 10 else ''} "


def _korean_digits(digits: str) -> str:
    return "".join(DIGITS_KO[int(digit)] for digit in digits)


def filled(text: str, rng: random.Random) -> str:
    """With a filler at the beginning or between two words."""
    words = text.split()
    at = 0 if rng.random() < 0.6 else rng.randint(0, len(words))
    return " ".join([*words[:at], rng.choice(FILLERS_KO if korean(text) else FILLERS_EN), *words[at:]])


def misheard(text: str, share: float, rng: random.Random) -> str:
    """With a word lost, said twice, run into the next one, or taken for one that sounds like it; at least one is touched."""
    words = text.split()
    if len(words) < 3:
        return text
    for at in sorted(rng.sample(range(len(words)), max(1, round(share * len(words)))), reverse=True):
        word = words[at]
        fault = rng.randrange(4 if "'" in word else 3)
        if word in SOUND_ALIKE:
            words[at] = SOUND_ALIKE[word]
        elif fault == 0:
            words[at : at + 1] = []
        elif fault == 1:
            words[at : at + 1] = [word, word]
        elif fault == 2:
            first = min(at, len(words) - 2)
            words[first : first + 2] = [words[first] + words[first + 1]]
        else:
            words[at] = word.replace("'", "")
    return " ".join(words)
