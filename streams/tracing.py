"""Spans of what the worker does, sent by OTLP over HTTP: the only module that imports OpenTelemetry, and only with --traces.

Names and attributes are those of OpenTelemetry's messaging conventions. Each sampled record has a `process` span, a child of
the producer's (and linked to it), and what came of it a `send` span, whose context is among the headers of what is sent:
producer -> process segments -> send sentiment -> process sentiment -> send alerts. What was said is in none of them.

A record without a trace begins one if the sampler says so; only the scorer begins any, else a call would be in two.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from streams import __version__
from streams.errors import SettingsError
from streams.records import Alert, Record, Rejected, Scored
from streams.settings import Settings
from streams.traced import PARENT, STATE, Headers, Role, carried

RATIO = 0.01  # of the records whose producers began no trace, unless OTEL_TRACES_SAMPLER says otherwise
CLOSE_S = 2.0  # for the last spans, when the worker stops and the collector does not answer
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
# What OpenTelemetry takes for a member; it would say the others in the log.
_MEMBER = re.compile(r"([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})=([^=]{0,255}[^ =])")

Attributes = Mapping[str, str | int]


def exported(settings: Settings, environment: Mapping[str, str] = os.environ) -> "AbstractContextManager[Spans]":
    """Sends spans to where OpenTelemetry's own variables say, in the background. What is not yet sent at the end has CLOSE_S.
    Raises SettingsError, before it is entered, for a protocol that the extra does not bring."""
    for name in PROTOCOLS:
        if environment.get(name, "") not in ("", "http/protobuf"):
            raise SettingsError(f"{name}: {environment[name]!r} will not do: --traces speaks http/protobuf; leave it out")
    return _open(settings, made(OTLPSpanExporter(), environment))


@contextmanager
def _open(settings: Settings, provider: TracerProvider) -> "Iterator[Spans]":
    try:
        yield Spans(settings, provider)
    finally:
        closing = threading.Thread(target=provider.shutdown, daemon=True)  # it would wait for half a minute
        closing.start()
        closing.join(CLOSE_S)


def made(exporter: SpanExporter, environment: Mapping[str, str] = os.environ) -> TracerProvider:
    """A provider for this exporter; all else is as OpenTelemetry's variables say. An empty one says nothing; the SDK would take
    an empty sampler for one that samples everything."""
    ours = Resource.create({SERVICE_NAME: "callpulse", SERVICE_VERSION: __version__})
    sampler = None if environment.get("OTEL_TRACES_SAMPLER") else ParentBasedTraceIdRatio(RATIO)
    provider = TracerProvider(sampler, ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


class Spans:
    """A traced.Tracer."""

    def __init__(self, settings: Settings, provider: TracerProvider) -> None:
        self.settings, self.tracer = settings, provider.get_tracer("callpulse", __version__)

    def batch(self, role: Role, clock: Callable[[], float], began: float) -> "BatchSpans":
        return BatchSpans(self, role, clock, began)


class BatchSpans:
    """The spans of one batch; those of what is sent end when it is delivered. The scorer's records are worked on side by side,
    all since `began`, the judge's one after the other."""

    def __init__(self, spans: Spans, role: Role, clock: Callable[[], float], began: float) -> None:
        self.settings, self.tracer, self.role, self.clock = spans.settings, spans.tracer, role, clock
        self.began = _ns(began)
        self.group = f"{spans.settings.group}-{role}"
        self.sending: list[Span] = []
        self.of: dict[int, Headers] = {}

    def __enter__(self) -> "BatchSpans":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        now = self._now()
        for span in self.sending:
            if kind is not None:
                _failed(span, kind.__name__)
            span.end(now)

    def scored(self, record: Record, scored: Scored, partition: int) -> Headers:
        processed = self._process(record, _named(scored))
        if processed is None:
            return carried(record.headers)
        processed.end(now := self._now())
        return self._send(processed, "sentiment", partition, _named(scored), now)

    def rejected(self, record: Record, rejected: Rejected) -> None:
        if (span := self._process(record, {})) is not None:
            _failed(span, rejected.reason)
            span.end(self._now())

    def judged(self, record: Record, scored: Scored, alerts: Iterable[Alert]) -> None:
        span = self._process(record, _named(scored))
        now = self._now()
        self.began = now
        if span is not None:
            span.end(now)
        for alert in alerts:
            if alert.call_id == scored.call_id:
                self.of[id(alert)] = self._raise(span, record, alert, now)

    def _raise(self, span: Span | None, record: Record, alert: Alert, now: int) -> Headers:
        if span is None:
            return carried(record.headers)
        return self._send(span, "alerts", record.partition, _told(alert), now)

    def raised(self, alert: Alert) -> Headers:
        return self.of.get(id(alert), ())

    def _process(self, record: Record, named: Attributes) -> Span | None:
        """None where the record's trace is not sampled, or begun here."""
        headers = carried(record.headers)
        if not headers and self.role == "judge":
            return None
        parent = _context(headers)
        attributes = {
            **_operation("process", record.topic, record.partition),
            "messaging.kafka.offset": record.offset,
            "messaging.consumer.group.name": self.group,
            **named,
        }
        span = self.tracer.start_span(
            f"process {record.topic}",
            set_span_in_context(NonRecordingSpan(parent)) if parent else None,
            SpanKind.CONSUMER,
            attributes,
            [Link(parent)] if parent else (),
            self.began,
        )
        return span if span.is_recording() else None

    def _send(self, processed: Span, topic: str, partition: int, named: Attributes, now: int) -> Headers:
        name = self.settings.topic(topic)
        attributes = {**_operation("send", name, partition), **named}
        span = self.tracer.start_span(
            f"send {name}", set_span_in_context(processed), SpanKind.PRODUCER, attributes, start_time=now
        )
        self.sending.append(span)
        return _headers(span.get_span_context())

    def _now(self) -> int:
        return _ns(self.clock())


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _failed(span: Span, kind: str) -> None:
    """By the kind of error alone: its message might say what was said."""
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


def _operation(name: str, topic: str, partition: int) -> dict[str, str | int]:
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": name,
        "messaging.operation.type": name,
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(partition),
    }


def _named(scored: Scored) -> Attributes:
    named = {"callpulse.call_id": scored.call_id}
    return named | {"callpulse.segment_id": scored.segment_id} if scored.segment_id else named


def _told(alert: Alert) -> Attributes:
    return {
        "callpulse.call_id": alert.call_id,
        "callpulse.alert_id": alert.alert_id,
        "callpulse.alert.event": alert.event,
        "callpulse.alert.severity": alert.severity,
        "callpulse.rule": alert.rule.name,
    }


def _context(headers: Headers) -> SpanContext | None:
    """What well-formed headers say."""
    found = dict(headers)
    if not (parent := found.get(PARENT)):
        return None
    _, trace, span, flags = parent.decode().split("-")[:4]
    state = TraceState(_members((found.get(STATE) or b"").decode()))
    return SpanContext(int(trace, 16), int(span, 16), True, TraceFlags(int(flags, 16)), state)


def _members(state: str) -> list[tuple[str, str]]:
    found = (_MEMBER.fullmatch(member.strip(" \t")) for member in state.split(","))
    return [*{match[1]: match[2] for match in found if match}.items()]


def _headers(context: SpanContext) -> Headers:
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}".encode()
    state = context.trace_state.to_header().encode()
    return ((PARENT, parent), (STATE, state)) if state else ((PARENT, parent),)
