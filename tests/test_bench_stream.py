"""The pure parts of the stream's half of `make bench`."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.records import Segment
from streams.wire import decode
from tests.bench import hosted, paced, streaming
from tests.bench.jobs import Lap, Plan
from tests.bench.stream import LIVE, TURNS, Streamed, turns_of


def test_turns_are_valid_segments_of_interleaved_calls() -> None:
    records = turns_of(["hello", "안녕"], LIVE * TURNS + 1)
    segments = [decode(record.value) for record in records]
    assert all(
        isinstance(s, Segment) and s.speaker == "customer" and s.call_id.encode() == r.key
        for s, r in zip(segments, records, strict=True)
    )
    assert len({(s.call_id, s.segment_id) for s in segments if isinstance(s, Segment)}) == len(records)
    assert len({record.key for record in records[:LIVE]}) == LIVE
    assert records[-1].key not in {record.key for record in records[:-1]}


def test_a_run_counts_from_its_first_batch() -> None:
    assert Streamed(begun=10.0, ended=14.0, messages=400).per_s == 100


def test_processor_time_is_that_between_the_samples_for_the_whole_run() -> None:
    samples = [(t, {"loop": t / 2, "forward": t, "native": t}) for t in (0.0, 1.0, 2.0, 3.0, 4.0)] + [(6.0, {"loop": 9.0})]
    found = hosted.spent(samples, 0.5, 4.5)
    assert found == {"loop": 2.0, "forward": 4.0, "native": 4.0}
    assert hosted.outside(found) == 2.0
    assert hosted.outside(found | {"decode": 1.0, hosted.NOTES: 5.0}) == 3.0
    assert hosted.spent(samples, 4.5, 5.5) == {}


@pytest.mark.parametrize(
    ("name", "of"),
    [(None, "native"), ("MainThread", "loop"), ("forward", "forward"), ("decode", "decode"), ("Thread-7", "other")],
)
def test_threads_belong_to_parts(name: str | None, of: str) -> None:
    assert hosted.part(name) == of


def test_this_process_has_had_processor_time() -> None:
    sum(n for n in range(100_000))
    assert hosted.processor_seconds()["loop"] > 0
    assert hosted.part("forward") in hosted.NOT_OUTSIDE


def test_the_brokers_cost_is_counted_from_the_first_messages_done() -> None:
    assert streaming.per_message([(0, 1.0), (0, 5.0), (100, 6.0), (300, 8.0)]) == 0.01
    assert streaming.per_message([(0, 1.0), (100, 6.0)]) == 0
    assert streaming.process_seconds(1) >= 0


def test_throughputs_and_costs_are_medians_of_the_rounds() -> None:
    laps = {"stream": [Lap(4, 0), Lap(2, 0), Lap(1, 0)], "engine_beside": [Lap(1, 0)], "kafka_python_pipeline": [Lap(10, 0)]}
    found = streaming.found(laps, replace(Plan(), messages=200, plain=50), texts=100)
    assert found["stream_per_s"] == 100
    assert found["stream_of_engine"] == 1.0
    assert found["stream_of_kafka_python_pipeline"] == 20.0
    assert "stream_of_bare_forward" not in found
    cost = streaming.costs([{"loop": 60.0, "forward": 900.0}, {"loop": 80.0, "decode": 5.0, "native": 1.0}], [7.0, 8.0])
    assert (cost["stream_us_outside_model"], cost["stream_us_loop"], cost["broker_us"]) == (72.5, 70.0, 7.5)
    assert streaming.costs([], []) == {}
    assert streaming.told(found)[1].split() == ["stream_per_s", "100.0"]


# paced runs


@given(st.floats(1, 1000), st.floats(0.1, 5), st.integers())
def test_what_is_sent_keeps_to_its_time(rate: float, seconds: float, seed: int) -> None:
    times = list(paced.gaps(rate, seconds, random.Random(seed)))
    assert times == sorted(times)
    assert all(0 < at < seconds for at in times)


def test_the_rate_is_kept_on_average() -> None:
    assert 4700 < len(list(paced.gaps(500, 10, random.Random(1)))) < 5300


def test_delays_are_of_what_was_produced_while_it_counted() -> None:
    segments = [paced.Timed(n / 10, n / 10 + 0.05) for n in range(100)] + [paced.Timed(9.95, 10.5), paced.Timed(10.5, 99.0)]
    found = paced.figures(paced.Phase(50, 5.0, 10.0), segments)
    assert found == {"p50_ms_at_50": 50.0, "p99_ms_at_50": 550.0, "lag_ms_at_50": pytest.approx(1000 * 5 / 51, abs=0.1)}
    assert paced.figures(paced.Phase(50, 50.0, 60.0), segments) == {}
    assert paced.merged(iter([{"a": 1.0}, {"b": 2.0}])) == {"a": 1.0, "b": 2.0}
