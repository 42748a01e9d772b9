"""Spans of requests: off by default, W3C's context from the caller to the pod, and no word of a prompt or an answer."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from flask import Flask
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service import tracing
from service.tracing import Tracing
from testbed import ROOT
from testbed.fetching import fetch
from testbed.gateway import Served
from testbed.stand_in import MODEL, StandIn
from testbed.waiting import eventually

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Have all spans kept, of every app that is made from then on."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "start", lambda _environ: Tracing(provider))
    return exporter


def finished(spans: InMemorySpanExporter) -> dict[str, Any]:
    return {span.name: span for span in spans.get_finished_spans()}


def test_a_request_has_a_span_of_its_queue_and_its_answer_below_the_callers(
    spans: InMemorySpanExporter, make_app: Callable[..., Flask]
) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "a secret question"}]}
    reply = make_app().test_client().post("/v1/chat/completions", json=body, headers={"traceparent": TRACEPARENT})
    assert reply.status_code == 200
    reply.close()
    found = finished(spans)
    request, queue, answer = (found[name] for name in ("POST /v1/chat/completions", "queue", f"chat {MODEL}"))
    assert (request.kind, answer.kind) == (SpanKind.SERVER, SpanKind.CLIENT)
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert {queue.parent.span_id, answer.parent.span_id} == {request.context.span_id}
    assert request.start_time == queue.start_time <= queue.end_time == answer.start_time
    assert answer.start_time <= answer.events[0].timestamp <= answer.end_time == request.end_time
    told = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "ollama", "gen_ai.request.model": MODEL}
    used = {"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 3}
    assert answer.attributes == told | used | {"gen_ai.response.finish_reasons": ("stop",)}
    assert request.attributes["http.response.status_code"] == 200
    assert "secret" not in "".join(span.to_json() for span in found.values())


def test_a_request_without_a_slot_has_one_span_and_an_error_of_ours_is_one(
    spans: InMemorySpanExporter, make_app: Callable[..., Flask], stand_in: StandIn
) -> None:
    client = make_app().test_client()
    client.post("/generate", json={"prompt": 1}).close()
    stand_in.error = (500, "broken")
    client.post("/generate", json={"prompt": "Hi"}).close()
    refused, *_, failed = (span for span in spans.get_finished_spans() if span.name == "POST /generate")
    assert (refused.attributes["error.type"], refused.status.status_code) == ("invalid_request", StatusCode.UNSET)
    assert failed.status.status_code is StatusCode.ERROR
    assert len(spans.get_finished_spans()) == 4


def test_an_embedding_is_named_so(spans: InMemorySpanExporter, make_app: Callable[..., Flask]) -> None:
    make_app().test_client().post("/v1/embeddings", json={"model": MODEL, "input": ["x"]}).close()
    assert finished(spans)[f"embeddings {MODEL}"].attributes["gen_ai.operation.name"] == "embeddings"


def test_who_is_asked_next_gets_the_spans_context(
    spans: InMemorySpanExporter, make_app: Callable[..., Flask], stand_in: StandIn
) -> None:
    make_app().test_client().post("/generate", json={"prompt": "Hi"}, headers={"traceparent": TRACEPARENT}).close()
    span = finished(spans)["POST /generate"]
    sent = next(headers for headers in stand_in.headers if "traceparent" in headers)
    assert sent["traceparent"] == f"00-{TRACE}-{span.context.span_id:016x}-01"


class Sink(BaseHTTPRequestHandler):
    """An OTLP endpoint."""

    received: list[tuple[str, ExportTraceServiceRequest]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def sink() -> Iterator[HTTPServer]:
    Sink.received = []
    with HTTPServer(("127.0.0.1", 0), Sink) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


def test_spans_go_where_the_standard_variables_say(make_server: Callable[..., Served], sink: HTTPServer) -> None:
    address = f"http://127.0.0.1:{sink.server_port}"
    served = make_server(OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_BSP_SCHEDULE_DELAY=50, OTEL_SERVICE_NAME="mine")
    assert fetch(f"{served.url}/generate", {"prompt": "Hi"}).status == 200
    path, batch = eventually(lambda: Sink.received and Sink.received[0])
    [resource] = batch.resource_spans
    named = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (path, named["service.name"]) == ("/v1/traces", "mine")
    assert "POST /generate" in [span.name for span in resource.scope_spans[0].spans]


def test_an_endpoint_that_is_not_there_costs_no_request(make_server: Callable[..., Served]) -> None:
    served = make_server(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_BSP_SCHEDULE_DELAY=50)
    assert [fetch(f"{served.url}/generate", {"prompt": "Hi"}).status for _ in range(3)] == [200] * 3


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("disabled", [False, True])
def test_nothing_of_it_is_imported_by_default(disabled: bool) -> None:
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"} if disabled else {}
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | told
    program = (
        "import os, sys; from service import create_app; from service.settings import Settings\n"
        "create_app(Settings.from_environ(os.environ)); print([name for name in sys.modules if 'opentel' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.mark.parametrize("state", ["a secret", "a=1,a=1", ",".join(f"a{i}=1" for i in range(40)), "a=1" * 300])
def test_no_header_of_a_caller_is_warned_of_in_the_log(
    spans: InMemorySpanExporter, make_app: Callable[..., Flask], caplog: pytest.LogCaptureFixture, state: str
) -> None:
    for parent in (TRACEPARENT, "0" * 600):
        make_app().test_client().get("/v1/models", headers={"traceparent": parent, "tracestate": state}).close()
    assert not caplog.records
