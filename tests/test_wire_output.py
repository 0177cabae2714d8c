"""What callpulse writes: records that are read back as they were, their headers, and the partition of a key."""

import json
from datetime import datetime

import msgspec
import pytest
from builders import NOW, event, scored
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner import murmur2 as kafka_murmur2
from msgspec.structs import replace

from streams.conversation import Conversation, Limits, Position, Positions
from streams.outcome import Outcome
from streams.pipeline import Calls, judged
from streams.records import Alert, Record, Rejected, Scored, Summary
from streams.wire import (
    POSITIONS_KEY,
    cloud_event,
    decode_alert,
    decode_positions,
    decode_scored,
    decode_state,
    decode_summary,
    encode,
    murmur2,
    partition_of,
    rejection,
)

CALL = [
    event(0, "start", started_at=NOW, attributes={"queue": "요금", "vip": True, "wait_s": 1.5}),
    *(scored(n, score, text="최악이에요 " * 40) for n, score in enumerate((0.5, -1, -0.9, -0.9, 1, 0.9, 0.9), 1)),
    event(8, "end", reason="hangup"),
]


def judged_call() -> tuple[list[Alert], Summary, list[Conversation]]:
    calls, outcome = Calls(Limits(), 4), Outcome()
    states: list[Conversation] = []
    for turn in CALL:
        calls.judge(turn, outcome)
        states += calls.calls.values()
    return outcome.alerts, judged(CALL, Limits()).summaries[0], states


def test_alerts_summaries_and_states_are_read_back_as_they_were() -> None:
    alerts, summary, states = judged_call()
    assert {alert.event for alert in alerts} >= {"open", "resolve"}
    for alert in (*alerts, replace(alerts[0], call_url="https://crm.example/calls/1")):
        assert decode_alert(encode(alert)) == alert
    assert decode_summary(encode(summary)) == summary
    for state in states:
        assert decode_state(encode(state)) == state


def test_positions_are_read_back_and_their_key_can_be_no_call() -> None:
    positions = Positions(12, {"topic:0": Position(41, 1_700_000_000_000), "topic:7": Position(0, -1)})
    assert decode_positions(encode(positions)) == positions
    with pytest.raises(UnicodeDecodeError):
        POSITIONS_KEY.decode()


@given(st.none() | st.floats(-1, 1), st.text(max_size=30), st.booleans(), st.datetimes(timezones=st.timezones()))
def test_scored_segments_are_read_back_as_they_were(score: float | None, text: str, flag: bool, at: datetime) -> None:
    turn = scored(3, score, text=text, final=flag, truncated=flag, start_at=at.astimezone(NOW.tzinfo))
    assert decode_scored(encode(turn)) == turn


def test_every_output_names_its_schema() -> None:
    alerts, summary, states = judged_call()
    outputs: tuple[Scored | Alert | Summary | Conversation | Positions, ...] = (
        CALL[1], alerts[0], summary, states[0], Positions(1)
    )  # fmt: skip
    schemas = [json.loads(encode(output))["schema"] for output in outputs]
    assert schemas == [f"callpulse.{name}.v1" for name in ("sentiment", "alert", "summary", "state", "positions")]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scored_at": "2026-01-31T09:00:00"}, "scored_at"),
        ({"start_at": "2026-01-31T09:00:00"}, "start_at"),
        ({"start_ms": -1}, "start_ms"),
        ({"end_ms": 1 << 62}, "end_ms"),
        ({"sentiment": {"label": "negative", "score": 1e308, "negative": 1, "neutral": 0}}, "sentiment.score"),
        ({"sentiment": {"label": "negative", "score": 0, "negative": 1.1, "neutral": 0}}, "sentiment.negative"),
        ({"sentiment": {"label": "cross", "score": 0, "negative": 1, "neutral": 0}}, "sentiment.label"),
        ({"source": {"topic_id": "t", "partition": 0, "offset": 1, "timestamp": 1 << 70}}, "source.timestamp"),
        ({"source": {"topic_id": "t", "partition": 0, "offset": 1}}, "timestamp"),
        ({"source": None}, "source"),
    ],
)
def test_somebody_elses_scored_segment_is_rejected_with_the_field_named(change: dict[str, object], field: str) -> None:
    found = decode_scored(json.dumps(json.loads(encode(scored(1, 0.5))) | change).encode())
    assert isinstance(found, Rejected)
    assert found.detail.partition(":")[0] == field


@pytest.mark.parametrize("decode", [decode_state, decode_positions, decode_alert, decode_summary])
def test_a_broken_record_of_our_own_is_an_exception(decode: type) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(b'{"schema":"callpulse.other.v1"}')


def test_cloud_events_headers_of_an_alert_are_complete() -> None:
    alert = judged_call()[0][0]
    assert cloud_event(alert) == [
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{alert.alert_id}-1".encode()),
        ("ce_type", b"callpulse.alert.v1"),
        ("ce_source", b"callpulse"),
        ("ce_subject", b"call-1"),
        ("ce_time", alert.at.strftime("%Y-%m-%dT%H:%M:%SZ").encode()),
        ("ce_dataschema", b"urn:callpulse:schema:callpulse.alert.v1"),
        ("content-type", b"application/json"),
    ]


def test_cloud_events_headers_of_a_summary_name_the_call_and_its_end() -> None:
    summary = judged_call()[1]
    headers = dict(cloud_event(summary))
    assert headers["ce_id"] == b"call-1-%d" % (summary.ended_at.timestamp() * 1000)
    assert headers["ce_type"] == b"callpulse.summary.v1"
    assert headers["ce_time"] == b"2026-01-31T09:31:14Z"


def test_events_of_one_call_have_identities_of_their_own() -> None:
    alerts, summary, _ = judged_call()
    identities = [dict(cloud_event(alert))["ce_id"] for alert in alerts] + [dict(cloud_event(summary))["ce_id"]]
    assert len(set(identities)) == len(identities) > 3


def test_a_rejection_keeps_the_originals_headers_in_front() -> None:
    own = (("trace", b"\xff\x00"), ("empty", None), ("trace", b"again"))
    record = Record("calls.segments", 3, 41, 0, b"k", b"{", own)
    assert rejection(record, Rejected("not_json", "말"), "score") == [
        *own,
        ("callpulse-topic", b"calls.segments"),
        ("callpulse-partition", b"3"),
        ("callpulse-offset", b"41"),
        ("callpulse-stage", b"score"),
        ("callpulse-reason", b"not_json"),
        ("callpulse-detail", "말".encode()),
    ]


@given(st.binary(max_size=70))
def test_murmur2_is_kafka_pythons(data: bytes) -> None:
    assert murmur2(data) == kafka_murmur2(data)


@given(st.text(max_size=40), st.integers(1, 1000))
def test_a_call_goes_where_javas_partitioner_puts_its_key(call_id: str, partitions: int) -> None:
    place = partition_of(call_id, partitions)
    assert place == (kafka_murmur2(call_id.encode()) & 0x7FFFFFFF) % partitions


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"abc", 479470107),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    ],
)
def test_murmur2_gives_the_values_of_kafkas_own_tests(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF
