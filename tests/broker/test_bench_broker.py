"""The stream's half of `make bench` on a real broker, with the word-list scorer: it measures what it says."""

from pathlib import Path

import pytest

from streams import topics
from streams.settings import Settings
from tests.bench import hosted, paced
from tests.bench.consumer import consumer
from tests.bench.stream import StreamError, prepare, scored, streamed, turns_of
from tests.bench.streaming import HOSTED

from .conftest import Cluster

MESSAGES = 1000  # more than a batch
pytestmark = pytest.mark.parametrize("cluster", ["apache"], indirect=True)  # where it is measured


class Echo:
    """A pipeline's stand-in."""

    def score(self, texts: list[str]) -> list[list[float]]:
        return [[float(len(text))] for text in texts]


@pytest.fixture
def settings(cluster: Cluster, prefix: str) -> Settings:
    return Settings(
        cluster.bootstrap, cluster.profile, prefix, prefix, model="lexicon", start="earliest", web_port=0, log_level="warning"
    )


def test_a_backlog_is_streamed_with_notes_of_its_threads(settings: Settings, tmp_path: Path) -> None:
    notes, seen = tmp_path / "threads", list[int]()
    prepare(settings, turns_of(["thank you", "this is awful"], MESSAGES))
    run = streamed(settings, MESSAGES, HOSTED, seen.append, {hosted.FILE: str(notes)})
    assert 0 < run.messages <= MESSAGES
    assert run.per_s > 0
    assert seen == sorted(seen)
    assert seen[-1] == MESSAGES
    assert all(turn.sentiment is not None for turn in scored(settings))
    samples = hosted.read(notes)
    assert {"loop", "forward", "tokenize", "decode", "notes"} <= {part for _, parts in samples for part in parts}
    assert [at for at, _ in samples] == sorted(at for at, _ in samples)


def test_a_worker_that_stops_is_an_error(settings: Settings) -> None:
    prepare(settings, turns_of(["hello"], 1))
    with pytest.raises(StreamError):
        streamed(settings, 1, (*HOSTED[:1], "-c", "pass"))


def test_the_plain_consumer_passes_on_what_it_was_told_to(settings: Settings) -> None:
    prepare(settings, turns_of(["hello"], 20))
    plain = consumer.__new__(consumer)
    plain.scorer, plain.batch = Echo(), 8  # type: ignore[assignment]
    out = settings.topic("rejected")
    told = {"bootstrap": settings.bootstrap_servers, "topic": settings.topic("segments"), "out": out, "group": "g", "count": 20}
    assert plain.run([], told)["seconds"] > 0
    records = list(topics.tail(settings, out, follow=False))
    assert len(records) == 20
    assert all(b'"scores": [5.0]' in (record.value or b"") for record in records)


def test_paced_runs_give_delays_for_each_share(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paced, "SETTLE_S", 0.1)
    found = paced.measure(settings, 100.0, ["hello"], 0.5)
    assert {f"{name}_ms_at_{share}" for name in ("p50", "p99", "lag") for share in paced.SHARES} == found.keys()
    assert all(0 <= found[f"p50_ms_at_{share}"] <= found[f"p99_ms_at_{share}"] for share in paced.SHARES)
