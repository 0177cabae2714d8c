"""The pure parts of `make bench-soak`."""

import pytest

from streams.conversation import DAY_MS
from streams.records import Segment
from streams.wire import decode
from tests.bench.soak import SAID, Sample, at_ms, figures, message, summed
from tests.bench.stream import LIVE

WAVE = LIVE * SAID


def test_each_call_starts_speaks_and_ends_before_the_next_hundred_come() -> None:
    records = [message(["hello", "안녕"], number, 1_000) for number in range(WAVE + 1)]
    segments = [s for record in records if isinstance(s := decode(record.value), Segment)]
    assert len(segments) == len(records)
    assert all(s.call_id.encode() == r.key for s, r in zip(segments, records, strict=True))
    one = [s for s in segments if s.call_id == segments[7].call_id]
    assert [s.type for s in one] == ["start", *["segment"] * (SAID - 2), "end"]
    assert len({s.text for s in segments if s.type == "segment"}) == sum(s.type == "segment" for s in segments)
    assert len({s.call_id for s in segments}) == LIVE + 1
    assert [r.timestamp for r in records] == sorted({r.timestamp for r in records})
    assert records[0].timestamp == 1_000


def test_markers_leave_long_before_memory_counts() -> None:
    a_day = next(number for number in range(0, 10**6, WAVE) if at_ms(0, number) >= DAY_MS)
    assert a_day < 0.2 * 500_000 / 4
    assert at_ms(5, 0) == 5


def test_memory_is_told_at_a_tenth_at_the_end_and_by_its_slope() -> None:
    samples = [Sample(0.0, 0, 50_000, 0)]
    samples += [Sample(n / 10, 1000 * n, (60_000 if n < 20 else 100_000) + 3 * n, 7 + n % 2) for n in range(1, 101)]
    assert figures(samples) == {
        "rss_kb_at_start": 50_000,
        "rss_kb_at_10": 60_030,
        "rss_kb_at_end": 100_300,
        "rss_kb_most": 100_300,
        "live_most": 8,
        "live_at_end": 7,
        "segments_per_s": 10_000.0,
        "kb_per_1000": 3.0,
    }


def test_the_slope_is_of_least_squares_and_after_a_fifth() -> None:
    found = figures([Sample(n, n * 1000, kb, 0) for n, kb in enumerate((9, 99, 10, 12, 10, 14, 12, 12, 16, 16, 17))])
    assert found["kb_per_1000"] == pytest.approx(0.833, abs=1e-3)
    assert "kb_per_1000" not in figures([Sample(0, 0, 1, 0), Sample(1, 10, 2, 0)])


def test_a_metric_is_summed_over_its_labels() -> None:
    exposed = '# HELP a_total x\na_total 3.0\na_total_more 9.0\nb{queue="q 1"} 2.0\nb{queue="q-2"} 5.0\n'
    assert (summed(exposed, "a_total"), summed(exposed, "b"), summed(exposed, "c")) == (3, 7, 0)
