"""Spans, with the SDK's own exporter in memory: which there are, how they hang together, what they say and what they do not."""

import asyncio
import json
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from lanes import came
from msgspec.structs import replace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, ParentBasedTraceIdRatio, Sampler
from test_agents import NOW_S, SECRET, TOPICS, FakePublisher, Moody, scoring
from test_traced import GOOD, STATE, TRACE, Judge, sad

from streams import cli, tracing
from streams.agents import Context
from streams.delivery import Event
from streams.errors import DeliveryError, SettingsError
from streams.publisher import Outgoing
from streams.settings import Settings
from streams.traced import UNTRACED
from streams.tracing import RATIO, Spans, exported, made

UNSAMPLED = GOOD[:-2] + b"00"
VALUE = json.dumps({"call_id": "c", "segment_id": "s1", "speaker": "customer", "text": "awful " + SECRET[:7]}).encode()


class Traced:
    """A tracer whose spans are kept."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler or ParentBasedTraceIdRatio(1.0), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.spans = Spans(Settings(), provider)

    def score(self, *batch: Event, publisher: Any = None) -> list[Outgoing]:
        publisher = publisher or FakePublisher()
        with scoring(Context(Settings(), TOPICS, clock=lambda: NOW_S, tracer=self.spans), Moody(), publisher) as agent:
            asyncio.run(agent.work(batch))
        return list(publisher.published)

    @property
    def by_name(self) -> dict[str, list[ReadableSpan]]:
        found: dict[str, list[ReadableSpan]] = {}
        for span in self.exporter.get_finished_spans():
            found.setdefault(span.name, []).append(span)
        return found


def segment(offset: int = 3, value: bytes = VALUE, headers: Iterable[tuple[str, bytes]] = ()) -> Event:
    return came(offset, partition=2, key=b"c", value=value, headers=list(headers))


def said(span: ReadableSpan) -> Mapping[str, Any]:
    return dict(span.attributes or {})


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def test_a_segment_s_spans_are_the_producer_s_children_and_the_last_one_s_context_goes_on() -> None:
    traced = Traced()
    [out] = traced.score(segment(headers=[("traceparent", GOOD), ("tracestate", STATE)]))
    [process], [send] = traced.by_name["process calls.segments"], traced.by_name["send calls.sentiment"]
    assert [f"{span.context.trace_id:032x}" for span in (process, send)] == [TRACE, TRACE]
    assert (parent(process), parent(send)) == (0x00F067AA0BA902B7, process.context.span_id)
    assert [link.context.span_id for link in process.links] == [0x00F067AA0BA902B7]
    assert (process.kind.name, send.kind.name) == ("CONSUMER", "PRODUCER")
    headers = dict(out.headers)
    assert headers["traceparent"] == f"00-{TRACE}-{send.context.span_id:016x}-01".encode()
    assert headers["tracestate"] == b"rojo=00f067aa0ba902b7,1a-2f@foo=x y"
    assert said(process) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "calls.segments",
        "messaging.destination.partition.id": "2",
        "messaging.kafka.offset": 3,
        "messaging.consumer.group.name": "callpulse-score",
        "callpulse.call_id": "c",
        "callpulse.segment_id": "s1",
    }
    assert said(send)["messaging.destination.name"] == "calls.sentiment"
    assert process.start_time == process.end_time == send.end_time == int(NOW_S * 1e9)


def test_the_judge_goes_on_with_the_trace_up_to_the_alert_and_no_span_says_what_was_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced = Traced()
    alerts = Judge(monkeypatch, tracer=traced.spans).judge(*sad(text="my secret"))
    spans = traced.by_name
    assert len(spans["process calls.sentiment"]) == 8
    assert len(spans["send calls.alerts"]) == len(alerts) > 1
    for alert, send in zip(alerts, spans["send calls.alerts"], strict=True):
        value = json.loads(alert.value or b"")
        [process] = [span for span in spans["process calls.sentiment"] if span.context.span_id == parent(send)]
        assert said(process)["callpulse.segment_id"] == value["evidence"][-1]["segment_id"]
        assert alert.headers[-1] == (
            "traceparent",
            f"00-{process.context.trace_id:032x}-{send.context.span_id:016x}-01".encode(),
        )
        assert said(send)["callpulse.rule"] == value["rule"]["name"]
        assert said(send)["callpulse.alert_id"] == value["alert_id"]
    everything = "".join(span.to_json() for span in traced.exporter.get_finished_spans())
    assert "secret" not in everything


@pytest.mark.parametrize(
    ("headers", "spans"),
    [([("traceparent", UNSAMPLED)], 0), ([("traceparent", GOOD)], 2), ([], 0)],
    ids=["not", "sampled", "none"],
)
def test_a_record_that_is_not_sampled_has_no_span_and_its_own_trace_goes_on(
    headers: list[tuple[str, bytes]], spans: int
) -> None:
    traced = Traced(ParentBased(ALWAYS_OFF))
    [out] = traced.score(segment(headers=headers))
    assert len(traced.exporter.get_finished_spans()) == spans
    assert spans or list(out.headers) == headers


def test_a_record_without_a_trace_begins_one_with_the_scorer_and_never_with_the_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = Traced()
    first, second = traced.score(segment(3), segment(4))
    traces = {dict(out.headers)["traceparent"][3:35] for out in (first, second)}  # type: ignore[index]
    assert len(traces) == 2
    [process, _] = traced.by_name["process calls.segments"]
    assert (process.parent, list(process.links)) == (None, [])
    judge = Traced()
    alerts = Judge(monkeypatch, tracer=judge.spans).judge(*(replace(record, headers=()) for record in sad()))
    assert alerts
    assert judge.by_name == {}
    assert not any("traceparent" in dict(alert.headers) for alert in alerts)


def test_what_is_rejected_says_why_by_its_reason_alone() -> None:
    traced = Traced()
    traced.score(segment(value=b'{"call_id": "' + SECRET.encode()))
    [process] = traced.by_name["process calls.segments"]
    assert (said(process)["error.type"], process.status.status_code.name, process.status.description) == (
        "not_json",
        "ERROR",
        None,
    )
    assert "4711" not in process.to_json()


def test_what_is_not_delivered_says_so_by_its_kind_alone() -> None:
    class Broken(FakePublisher):
        async def publish(self, *steps: Iterable[Outgoing]) -> None:
            raise DeliveryError(SECRET)

    traced = Traced()
    with pytest.raises(DeliveryError):
        traced.score(segment(), publisher=Broken())
    [send] = traced.by_name["send calls.sentiment"]
    assert (said(send)["error.type"], send.status.status_code.name) == ("DeliveryError", "ERROR")
    assert "4711" not in send.to_json()


def test_what_the_tracestate_of_a_producer_says_is_never_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    traced = Traced()
    [out] = traced.score(segment(headers=[("traceparent", GOOD), ("tracestate", b"1=secret,a=1,a=2,,b=3 ")]))
    assert dict(out.headers)["tracestate"] == b"a=2,b=3"
    assert "secret" not in caplog.text


def test_the_resource_and_the_sampler_are_ours_unless_the_variables_say_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)
    for unsaid in ({}, {"OTEL_TRACES_SAMPLER": ""}):
        provider = made(InMemorySpanExporter(), unsaid)
        assert provider.resource.attributes["service.name"] == "callpulse"
        assert f"TraceIdRatioBased{{{RATIO}}}" in provider.sampler.get_description()
        provider.shutdown()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "scorer")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    other = made(InMemorySpanExporter())
    assert other.resource.attributes["service.name"] == "scorer"
    assert other.sampler is ALWAYS_OFF
    other.shutdown()


def test_a_protocol_that_is_not_spoken_is_refused_at_once() -> None:
    with pytest.raises(SettingsError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' will not do"):
        exported(Settings(), {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_a_collector_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "CLOSE_S", 0.2)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    with exported(Settings()) as spans:
        spans.tracer.start_span("last").end()
        began = time.monotonic()
    assert time.monotonic() - began < 2


def test_without_the_libraries_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with cli._tracing(Settings()) as tracer:
        assert tracer is UNTRACED
    monkeypatch.delitem(sys.modules, "streams.tracing")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match=r"pip install '\.\[otel\]'"):
        cli._tracing(Settings(traces=True))
