"""The scores of texts that come again."""

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from models.cache import LONGEST, Cache
from models.sentiment import LexiconScorer, Sentiment


def scored(text: str) -> Sentiment:
    return LexiconScorer().score([text])[0]


@given(st.integers(0, 4), st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef"))))
def test_it_knows_the_last_texts_that_were_looked_at_and_counts_the_looks(size: int, uses: list[tuple[bool, str]]) -> None:
    cache, model = Cache(size), OrderedDict[str, Sentiment]()
    for put, text in uses:
        if put:
            cache.put(text, scored(text))
            model[text] = scored(text)
        else:
            assert cache.get(text) == model.get(text)
        if text in model:
            model.move_to_end(text)
        while len(model) > size:
            model.popitem(last=False)
        assert len(cache) == len(model) <= size
    assert cache.hits + cache.misses == sum(not put for put, _ in uses)


def test_hits_and_misses_are_told_apart() -> None:
    cache = Cache(2)
    cache.put("okay", scored("okay"))
    for text in ("okay", "okay", "Okay", "okay "):
        cache.get(text)
    assert (cache.hits, cache.misses) == (2, 2)


def test_a_long_text_is_not_kept() -> None:
    cache = Cache(2)
    cache.put("x" * LONGEST, scored("x"))
    cache.put("x" * (LONGEST + 1), scored("x"))
    assert len(cache) == 1
