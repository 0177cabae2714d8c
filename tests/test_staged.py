"""What every scorer in stages promises: fakes and the real one pass the same tests."""

import pytest
from checkpoints import TEXTS, save_classifier
from stages import Staged as Fake

from models import transformer
from models.sentiment import LexiconScorer, Scorer, Sentiment
from models.staged import Staged, Whole, has_stages


@pytest.fixture(scope="module", params=["fake", "whole", "checkpoint", "packed"])
def stages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Staged:
    if request.param in ("checkpoint", "packed"):
        folder = save_classifier(tmp_path_factory.mktemp("checkpoint"))
        return transformer.load(folder, "cpu", packed=request.param == "packed")
    return Fake() if request.param == "fake" else Whole(LexiconScorer())


def whole_score(stages: Staged, texts: list[str]) -> list[Sentiment]:
    if isinstance(stages, Whole):
        return stages.scorer.score(texts)
    scorer: Scorer = stages  # type: ignore[assignment]
    return scorer.score(texts)


def test_it_is_known_by_its_stages(stages: Staged) -> None:
    assert has_stages(stages)
    assert not has_stages(LexiconScorer())
    assert stages.budget > 0
    assert all(issubclass(error, Exception) for error in stages.exhausted)


def test_its_stages_make_up_its_score(stages: Staged) -> None:
    texts = list(TEXTS)
    rows, truncated = stages.tokenize(texts)
    assert (len(rows), len(truncated)) == (len(texts), len(texts))
    assert all(stages.length(row) >= 1 for row in rows)
    logits = stages.forward(rows)
    assert len(logits) == len(texts)
    for one, other in zip(stages.decode(logits, truncated), whole_score(stages, texts), strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)


def test_logits_can_be_decoded_in_slices(stages: Staged) -> None:
    rows, truncated = stages.tokenize(list(TEXTS))
    logits = stages.forward(rows)
    cut = [*stages.decode(logits[:2], truncated[:2]), *stages.decode(logits[2:], truncated[2:])]
    for one, other in zip(cut, stages.decode(logits, truncated), strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-9)
    assert stages.decode(logits[:0], []) == []


def test_no_texts_make_no_rows(stages: Staged) -> None:
    assert stages.tokenize([]) == ([], [])
