import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.errors import SettingsError, TopicsError
from streams.recording import read
from streams.records import Record, Segment
from streams.replay import Replay, fresh_ids, merge, plan, target
from streams.settings import Settings
from streams.wire import decode

CALL = Path(__file__).parent.parent / "streams" / "calls" / "en-resolved.jsonl"
NOW = 1_700_000_000_000
FRESH = fresh_ids("7f3a")

times = st.lists(st.integers(0, 10**12), min_size=1, max_size=20)
speeds = st.floats(0.01, 1000)


def record(timestamp: int, name: str = "c", value: bytes | None = b"{}") -> Record:
    return Record("segments", 0, timestamp, timestamp, name.encode(), value)


@given(times, speeds)
def test_spacing_is_kept_in_the_records_and_divided_by_the_speed_on_the_wall(some: list[int], speed: float) -> None:
    planned = list(plan(map(record, sorted(some)), NOW, speed))
    first = min(some)
    assert [p.record.timestamp for p in planned] == [NOW + t - first for t in sorted(some)]
    assert [p.due_s for p in planned] == pytest.approx([(t - first) / 1000 / speed for t in sorted(some)])


@given(times, speeds | st.just(0.0))
def test_records_stay_in_order_and_are_never_due_before_the_one_before(some: list[int], speed: float) -> None:
    planned = list(plan(map(record, some), NOW, speed))
    due = [0.0, *(p.due_s for p in planned)]
    assert due == sorted(due)
    assert [p.record.offset for p in planned] == some
    assert [p.record.timestamp for p in planned] == [max(0, NOW + t - some[0]) for t in some]


def test_at_speed_0_everything_is_due_at_once_and_timestamps_keep_their_spacing() -> None:
    planned = list(plan([record(5), record(90_005)], NOW, 0))
    assert [(p.due_s, p.record.timestamp) for p in planned] == [(0, NOW), (0, NOW + 90_000)]


def test_a_record_without_a_timestamp_comes_with_the_one_before() -> None:
    planned = plan(map(record, [-1, 1000, -1, 3000]), NOW, 1)
    assert [(p.due_s, p.record.timestamp - NOW) for p in planned] == [(0, 0), (0, 0), (0, 0), (2, 2000)]


def test_without_fresh_ids_only_the_timestamp_changes() -> None:
    original = Record("calls.segments", 3, 9, 77, b"\xff", b'{"call_id" : "c"}', (("h", b"x"), ("h", None)))
    (planned,) = plan([original], NOW, 1)
    assert planned.record == replace(original, timestamp=NOW)


def test_a_fresh_id_goes_to_key_and_message_and_leaves_every_other_field_as_it_is() -> None:
    value = '{"n":12345678901234567890123,"call_id":"c","f":1200.0,"e":1e2,"text":"\\u00e9 é","d":{"call_id":"c"}}'
    original = Record("segments", 0, 0, 0, b"c", value.encode(), (("h", b"c"),))
    (planned,) = plan([original], NOW, 1, FRESH)
    renamed = value.replace('"call_id":"c","f"', '"call_id":"c-7f3a","f"')
    assert planned.record == replace(original, timestamp=NOW, key=b"c-7f3a", value=renamed.encode())


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff",
        b'{"call_id": "c", "text": "cut o',
        b'{"call_id": 7 }',
        b'{"call_id": " " }',
        b'{"callId": "c" }',
        b'[{"call_id": "c"}]',
        b"[" * 100_000,
        b'\x00{"call_id": "c"}',
    ],
)
def test_a_message_that_names_no_call_is_left_untouched(value: bytes | None) -> None:
    (planned,) = plan([record(0, value=value)], NOW, 1, FRESH)
    assert planned.record.value == value


@pytest.mark.parametrize("key", [None, b"", b" ", b"\xff"])
def test_a_key_that_names_no_call_is_left_untouched(key: bytes | None) -> None:
    (planned,) = plan([replace(record(0), key=key)], NOW, 1, FRESH)
    assert planned.record.key == key


def test_a_sample_call_with_a_fresh_id_is_the_same_call_under_that_id() -> None:
    recorded = list(read(CALL))
    for before, after in zip(recorded, plan(recorded, NOW, 1, FRESH), strict=True):
        was, now = decode(before.value), decode(after.record.value)
        assert isinstance(was, Segment)
        assert now == replace(was, call_id="en-resolved-7f3a")
        assert list(json.loads(after.record.value or b"")) == list(json.loads(before.value or b""))
        assert after.record.key == b"en-resolved-7f3a"


@given(st.lists(times, max_size=4), st.integers(0, 5000))
def test_merged_recordings_begin_one_stagger_apart_and_keep_their_spacing_and_order(some: list[list[int]], ms: int) -> None:
    recordings = [[record(t, str(i)) for t in recording] for i, recording in enumerate(some)]
    merged = list(merge(recordings, ms / 1000))
    for i, recording in enumerate(some):
        mine = [r for r in merged if r.key == str(i).encode()]
        assert [r.offset for r in mine] == recording
        assert [r.timestamp for r in mine] == [i * ms + t - recording[0] for t in recording]
    if all(recording == sorted(recording) for recording in some):
        assert [r.timestamp for r in merged] == sorted(r.timestamp for r in merged)


def test_merged_recordings_of_different_years_overlap() -> None:
    merged = merge([[record(0, "a"), record(10_000, "a")], [record(NOW, "b"), record(NOW + 10_000, "b")]], 4)
    assert [(r.key, r.timestamp) for r in merged] == [(b"a", 0), (b"b", 4000), (b"a", 10_000), (b"b", 14_000)]


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ("segments", "now.segments"),
        ("calls.segments", "now.segments"),
        ("my-own-topic", "now.segments"),
        ("acme.eu.sentiment", "now.sentiment"),
    ],
)
def test_a_recorded_topic_keeps_its_short_name_under_the_present_prefix(recorded: str, expected: str) -> None:
    assert target(Settings(prefix="now."), recorded) == expected


@pytest.mark.parametrize("speed", [-1.0, float("nan")])
def test_a_speed_below_0_is_refused(speed: float) -> None:
    with pytest.raises(SettingsError, match="--speed"):
        Replay(speed=speed)


@pytest.mark.parametrize("recorded", ["calls.alerts", "summaries", "prod.calls.state", "calls.rejected"])
def test_what_callpulse_itself_writes_is_not_replayed_into_live_topics(recorded: str) -> None:
    with pytest.raises(TopicsError, match="leave it out, or say with --topic"):
        target(Settings(), recorded)
