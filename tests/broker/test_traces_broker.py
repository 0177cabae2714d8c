"""A trace over real sockets: from the producer's header through both agents to the alert, with the spans at a collector, and
the worker's log as JSON."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from streams.records import Record

from .conftest import Cluster
from .messages import Sent, call, now_ms
from .running import PATIENCE, Topics, Worker, laid_out, own, started, until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01".encode()
STATE = b"rojo=1"


@dataclass
class Collector:
    """Takes spans by OTLP over HTTP."""

    spans: list[Any] = field(default_factory=list)

    @contextmanager
    def listening(self) -> Iterator[str]:
        """While it does, at this address."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            serving.join()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        taken = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
                taken.extend(span for r in request.resource_spans for scope in r.scope_spans for span in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        return Handler

    def of(self, name: str) -> list[Any]:
        """Those of the producer's trace."""
        return [span for span in self.spans if span.name == name and span.trace_id.hex() == TRACE]


def deliver(laid: Topics, messages: list[Sent]) -> None:
    """With the producer's trace among the headers."""
    name = laid.settings.topic("segments")
    headers = [("traceparent", PARENT), ("tracestate", STATE)]
    for future in [laid.producer.send(name, value, key, headers, timestamp_ms=at) for key, value, at in messages]:
        future.get(timeout=PATIENCE)


def traces(records: list[Record]) -> set[tuple[str, str, bytes | None]]:
    """Trace, span and state of each record that has them."""
    found = [
        (h["traceparent"].decode().split("-"), h["tracestate"]) for r in records if (h := dict(r.headers)).get("traceparent")
    ]  # type: ignore[union-attr]
    return {(parts[1], parts[2], state) for parts, state in found}


@contextmanager
def ready(laid: Topics) -> Iterator[Worker]:
    """A worker whose log is JSON."""
    with started(laid.settings) as worker:
        worker.says('"message": "ready"}')
        yield worker


@pytest.mark.parametrize("on", [True, False], ids=["spans", "carried"])
def test_a_trace_goes_from_the_producer_to_the_alert(cluster: Cluster, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Collector()
    settings = own(cluster, traces=on, log_format="json", log_level="debug")
    with collector.listening() as endpoint, laid_out(settings) as laid:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
        with ready(laid) as worker:
            laid.send([(b"b", b'{"call_id":"b","text":"terrible secret', now_ms())])
            deliver(laid, call("c-1", range(8), now_ms() - 90_000))
            laid.calls_over(1)
            assert worker.stop(signal.SIGTERM)[0] == 0
        laid.read_to_the_end()
        scored, alerts = traces(laid.records["sentiment"]), traces(laid.records["alerts"])
        assert {trace for trace, _, _ in scored | alerts} == {TRACE}
        assert {state for _, _, state in scored | alerts} == {STATE}
        assert traces(laid.records["summaries"]) == set()
        if on:
            check_spans(collector, settings.prefix, scored, alerts)
        else:
            assert {span for _, span, _ in scored | alerts} == {"00f067aa0ba902b7"}
            assert collector.spans == []
        check_log(worker, {json.loads(r.value or b"")["call_id"] for r in laid.records["alerts"]})


def check_spans(collector: Collector, prefix: str, scored: set[Any], alerts: set[Any]) -> None:
    """Each of the producer's records goes through both agents, a child of what came before."""
    process, send = collector.of(f"process {prefix}segments"), collector.of(f"send {prefix}sentiment")
    judged, raised = collector.of(f"process {prefix}sentiment"), collector.of(f"send {prefix}alerts")
    assert [len(process), len(send), len(judged)] == [9, 9, 9]
    assert {span.parent_span_id.hex() for span in process} == {"00f067aa0ba902b7"}
    assert {span.parent_span_id for span in send} == {span.span_id for span in process}
    assert {span.parent_span_id for span in judged} == {span.span_id for span in send}
    assert {span.parent_span_id for span in raised} <= {span.span_id for span in judged}
    assert {span for _, span, _ in scored} == {span.span_id.hex() for span in send}
    assert {span for _, span, _ in alerts} == {span.span_id.hex() for span in raised} != set()
    assert "terrible" not in str(collector.spans)


def check_log(worker: Worker, calls: set[str]) -> None:
    """An object a line, on debug as well, and nothing of what was said in any."""
    until(lambda: not worker.reader.is_alive(), lambda: "the last line")
    lines = [json.loads(line) for line in worker.lines]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    [rejected] = [line for line in lines if line.get("reason") == "not_json"]
    assert (rejected["level"], rejected["stage"]) == ("debug", "score")
    assert calls == {line["call_id"] for line in lines if "alert_id" in line} != set()
    assert [line for line in worker.lines if "terrible" in line or "secret" in line or "awful" in line] == []
