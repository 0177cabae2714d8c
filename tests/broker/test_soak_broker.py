"""`make bench-soak` on a real broker, with the word-list scorer: it measures what it says."""

import sys
from dataclasses import replace

import pytest

from streams.settings import Settings
from tests.bench.soak import LIVE, SAID, ready_s, soaked
from tests.bench.stream import StreamError

from .apache import free_ports
from .conftest import Cluster

SEGMENTS = 2 * LIVE * SAID  # two hundreds of calls, of which the first are over before the others come
pytestmark = pytest.mark.parametrize("cluster", ["apache"], indirect=True)  # where it is measured


@pytest.fixture
def settings(cluster: Cluster, prefix: str) -> Settings:
    [port] = free_ports(1)
    base = Settings(cluster.bootstrap, cluster.profile, prefix, prefix, model="lexicon", start="earliest", log_level="warning")
    return replace(base, web_port=port)


def test_the_start_of_a_worker_is_timed(settings: Settings) -> None:
    assert ready_s(settings) > 0.3  # imports alone take longer


def test_a_worker_that_ends_is_never_ready(settings: Settings) -> None:
    with pytest.raises(StreamError):
        ready_s(settings, (sys.executable, "-c", "pass"))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_soak_judges_all_and_ends_calls_on_the_way(settings: Settings) -> None:
    found, samples = soaked(settings, SEGMENTS)
    assert samples[0].done == 0
    assert samples[-1].done >= SEGMENTS  # more where a batch was scored again
    assert [s.done for s in samples] == sorted({s.done for s in samples})
    assert found["rejected"] == 0
    assert found["summaries"] >= LIVE
    assert 0 < found["live_most"] <= 2 * LIVE
    assert 20_000 < found["rss_kb_at_10"] <= found["rss_kb_most"]
    assert found["segments_per_s"] > 0
