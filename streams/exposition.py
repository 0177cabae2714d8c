"""What Prometheus reads on /metrics: the families, with what the process takes, in Prometheus's text format."""

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from models.histogram import Histogram
from streams.families import FAMILIES, Family
from streams.metrics import Scrape

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
KINDS: dict[str, Any] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}


class _Families(Collector):
    def __init__(self, look: Callable[[], Scrape]) -> None:
        self.look = look

    def collect(self) -> Iterator[Any]:
        scrape = self.look()
        for family in FAMILIES:
            if samples := list(family.samples(scrape)):
                yield _made(family, samples)


def _made(family: Family, samples: list[tuple[tuple[str, ...], float | Histogram]]) -> Any:
    made = KINDS[family.kind](family.name, family.meaning, labels=family.labels)
    for labels, value in samples:
        if isinstance(value, Histogram):
            buckets = [("+Inf" if end == float("inf") else str(float(end)), count) for end, count in value.cumulative()]
            made.add_metric(labels, buckets, value.sum)
        else:
            made.add_metric(labels, value)
    return made


class Exposition:
    """What a worker exposes: what `look` sees when it is asked, and what the process takes. In a registry of its own."""

    def __init__(self, look: Callable[[], Scrape]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Families(look))
        ProcessCollector(registry=self.registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)
