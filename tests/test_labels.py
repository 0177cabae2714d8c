import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import LabelMappingError
from models.labels import map_labels

STARS = {
    "1 star": "negative",
    "2 stars": "negative",
    "3 stars": "neutral",
    "4 stars": "positive",
    "5 stars": "positive",
}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["negative", "neutral", "positive"], ("negative", "neutral", "positive")),
        (["POSITIVE", "Negative", "neutral"], ("positive", "negative", "neutral")),
        (["NEG", "NEU", "POS"], ("negative", "neutral", "positive")),
        (["pos", "neg"], ("positive", "negative")),
        (["NEGATIVE", "POSITIVE"], ("negative", "positive")),
        (["negative sentiment", "positive_sentiment"], ("negative", "positive")),
        (["LABEL_NEGATIVE", "LABEL_POSITIVE"], ("negative", "positive")),
        (["positive", "mixed", "negative"], ("positive", "neutral", "negative")),
        (["부정", "중립", "긍정"], ("negative", "neutral", "positive")),
        (
            ["Very Negative", "Negative", "Neutral", "Positive", "Very Positive"],
            ("negative", "negative", "neutral", "positive", "positive"),
        ),
        (["1-star", "2-star", "3-star", "4-star", "5-star"], tuple(STARS.values())),
    ],
)
def test_usual_names_are_understood(names: list[str], expected: tuple[str, ...]) -> None:
    assert map_labels(names) == expected


@given(st.permutations(list(STARS)))
def test_stars_are_understood_in_any_order(names: list[str]) -> None:
    assert map_labels(names) == tuple(STARS[name] for name in names)


@given(st.permutations(["neg", "NEUTRAL", "Positive"]), st.sampled_from(["{}", " {} ", "{} sentiment", "very {}"]))
def test_order_and_dress_of_the_names_do_not_matter(names: list[str], dress: str) -> None:
    assert [label[:3] for label in map_labels([dress.format(name) for name in names])] == [n[:3].lower() for n in names]


def test_given_labels_stand_in_for_the_checkpoints_own() -> None:
    numbered = ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert map_labels(numbered, ["positive", "NEG", "neu"]) == ("positive", "negative", "neutral")
    assert map_labels(["negative", "positive"], ["positive", "negative"]) == ("positive", "negative")


@pytest.mark.parametrize(
    "names",
    [
        ["LABEL_0", "LABEL_1"],
        ["LABEL_0", "LABEL_1", "LABEL_2"],
        ["joy", "anger", "fear"],
        ["negative", "neutral"],  # nothing to be positive
        ["neutral", "positive"],
        ["negative", "positive", "sarcasm"],
        ["not positive", "positive"],
        ["negative", "positive or neutral"],
        ["negative", "positive", ""],
        ["1 star", "2 stars", "3 stars", "4 stars"],
        ["1 star", "2 stars", "3 stars", "4 stars", "5 stars", "no stars"],
        ["1 star", "2 stars", "3 stars", "4 stars", "4 stars"],
        ["LABEL_0"],
        [],
    ],
)
def test_other_names_are_refused_with_what_was_seen_and_the_way_out(names: list[str]) -> None:
    with pytest.raises(LabelMappingError, match=r"labels=\(") as refusal:
        map_labels(names)
    assert all(repr(name) in str(refusal.value) for name in names)


def test_given_labels_of_another_number_are_refused() -> None:
    with pytest.raises(LabelMappingError, match="names 2 classes, the checkpoint has 3: 'a', 'b', 'c'"):
        map_labels(["a", "b", "c"], ["negative", "positive"])


def test_given_labels_that_mean_nothing_are_refused_by_their_name() -> None:
    with pytest.raises(LabelMappingError, match="'bad', 'good'"):
        map_labels(["LABEL_0", "LABEL_1"], ["bad", "good"])
