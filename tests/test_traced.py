"""The trace among a record's headers: what is one, and that it goes on to the scored segment and to the alert."""

import asyncio
import json

import pytest
from builders import T0, scored
from hypothesis import example, given
from hypothesis import strategies as st
from lanes import came
from test_agents import TOPICS, worked

from streams import state
from streams.pipeline import Calls, judged
from streams.publisher import Outgoing
from streams.records import Record
from streams.settings import Settings
from streams.state import Judged
from streams.traced import MOST_STATE, UNTRACED, carried, trace_id
from streams.wire import encode

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
GOOD = f"00-{TRACE}-00f067aa0ba902b7-01".encode()
OTHER = GOOD.replace(b"4bf9", b"5555")
STATE = b"rojo=00f067aa0ba902b7, 1a-2f@foo=x y"


@pytest.mark.parametrize(
    "parent",
    [
        None,
        b"",
        b"junk",
        GOOD.upper(),
        GOOD[:-1],
        GOOD + b"-",
        GOOD + b"\n",
        b" " + GOOD,
        b"ff" + GOOD[2:],
        b"zz" + GOOD[2:],
        b"00-" + b"0" * 32 + GOOD[35:],
        GOOD[:36] + b"0" * 16 + GOOD[52:],
        b"01" + GOOD[2:] + b"-" + b"x" * 201,
        b"01" + GOOD[2:] + b"x",
        "४".encode() * 55,
    ],
)
def test_what_is_no_trace_is_left_out(parent: bytes | None) -> None:
    assert carried([("a", b"1"), ("traceparent", parent), ("tracestate", STATE)]) == ()
    assert trace_id([("traceparent", parent)]) is None


@pytest.mark.parametrize("parent", [GOOD, b"01" + GOOD[2:], b"cc" + GOOD[2:] + b"-what-is-to-come"])
def test_a_trace_goes_on_as_it_came(parent: bytes) -> None:
    assert carried([("tracestate", STATE), ("a", None), ("traceparent", parent)]) == (
        ("traceparent", parent),
        ("tracestate", STATE),
    )
    assert trace_id([("traceparent", parent)]) == TRACE


@pytest.mark.parametrize(
    "bad", [None, b"", b"a", b"A=1", b"a=1=2", "a=ä".encode(), b"a=1\n", b",".join([b"a=1"] * 33), b"a=" + b"1" * MOST_STATE]
)
def test_a_tracestate_that_is_none_does_not_cost_the_trace(bad: bytes | None) -> None:
    assert carried([("traceparent", GOOD), ("tracestate", bad)]) == (("traceparent", GOOD),)


def test_the_last_of_a_repeated_header_counts_and_names_are_exact() -> None:
    assert carried([("traceparent", OTHER), ("traceparent", GOOD)]) == (("traceparent", GOOD),)
    assert carried([("Traceparent", GOOD), ("tracestate", STATE)]) == ()
    assert carried([]) == carried([("tracestate", STATE)]) == ()


@given(st.lists(st.tuples(st.sampled_from(["traceparent", "tracestate", "x"]), st.none() | st.binary(max_size=600))))
@example([("traceparent", b"00-" + b"\xff" * 52)])
def test_whatever_lies_in_the_headers_nothing_is_raised_and_what_goes_on_is_bounded(
    headers: list[tuple[str, bytes | None]],
) -> None:
    assert sum(len(value or b"") for _, value in carried(headers)) <= 256 + MOST_STATE


@given(st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True), st.binary(max_size=20))
def test_what_goes_on_is_byte_for_byte_what_came(parent: bytes, state_: bytes) -> None:
    found = dict(carried([("traceparent", parent), ("tracestate", state_)]))
    assert found in ({}, {"traceparent": parent}, {"traceparent": parent, "tracestate": state_})


def test_a_scored_segment_has_the_trace_of_its_record_and_a_rejected_one_its_own_headers() -> None:
    value = json.dumps({"call_id": "c", "speaker": "customer", "text": "awful"}).encode()
    headers = [("x", b"1"), ("traceparent", GOOD), ("tracestate", STATE)]
    batch = [came(n, key=b"c", value=v, headers=h) for n, v, h in ((1, value, headers), (2, value, ()), (3, b"{", headers))]
    _, published = worked(batch)
    assert [record.headers for record in published[:2]] == [(("traceparent", GOOD), ("tracestate", STATE)), ()]
    assert list(published[2].headers[:3]) == headers


class Judge:
    """A judged partition, without a broker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **given: object) -> None:
        async def load(settings: Settings, partition: int, partitions: int, rules: object, queues: object) -> Calls:
            return Calls(settings.limits, partitions)

        monkeypatch.setattr(state, "load", load)
        self.published: list[Outgoing] = []
        self.given = given

    async def publish(self, *steps: list[Outgoing]) -> None:
        self.published += [record for step in steps for record in step]

    def judge(self, *records: Record) -> list[Outgoing]:
        """The alerts that these give."""

        async def play() -> None:
            topics = {name: TOPICS[name] for name in ("sentiment", "rejected")}
            await Judged(Settings(broker="embedded"), 0, topics, self, lambda: T0 / 1000, **self.given).judge(records)  # type: ignore[arg-type]

        asyncio.run(play())
        return [record for record in self.published if record.topic == "calls.alerts"]


def sad(count: int = 8, **given: object) -> list[Record]:
    """Turns of an unhappy call, each with a trace that says its number."""
    turns = [scored(n, -0.9, **given) for n in range(count)]
    return [Record("calls.sentiment", 0, n, T0, b"call-1", encode(turn), _trace(n)) for n, turn in enumerate(turns)]


def _trace(n: int) -> tuple[tuple[str, bytes], ...]:
    return (("traceparent", GOOD.replace(b"4bf92f", b"%06x" % (n + 1))),)


def test_an_alert_has_the_trace_of_the_segment_that_it_came_of(monkeypatch: pytest.MonkeyPatch) -> None:
    alerts = Judge(monkeypatch).judge(*sad())
    assert len(alerts) > 1
    for alert in alerts:
        last = json.loads(alert.value or b"")["evidence"][-1]["segment_id"]
        assert alert.headers[-1:] == _trace(int(last[1:]))
        assert dict(alert.headers)["ce_type"] == b"callpulse.alert.v1"


def test_an_alert_of_another_call_whose_time_had_come_does_not_take_this_record_s_trace() -> None:
    batch, record = UNTRACED.batch("judge", lambda: 0.0, 0.0), sad(1)[0]
    [first, *_] = judged([scored(n, -0.9, call_id="other") for n in range(8)], Settings().limits).alerts
    batch.judged(record, scored(0, -0.9), [first])
    assert batch.raised(first) == ()
    batch.judged(record, scored(0, -0.9, call_id="other"), [first])
    assert batch.raised(first) == record.headers
