"""Traces by OpenTelemetry, where its standard variables name an OTLP endpoint: of requests, their queues and answers.

Spans are made of what the log line knows, once it is complete, so an answer waits for none. No span has a prompt, an
answer or a key.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any

from service.request_log import RequestLog

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
FAILED = 500  # from this status on, a request failed by the server's fault
MS = 1_000_000  # nanoseconds


class Tracing:
    """Writes the spans; see start()."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # It warns of callers' headers that it can't read, and quotes them.
        logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
        self._trace, self._w3c = trace, TraceContextTextMapPropagator()
        self._tracer = provider.get_tracer("sluice")

    def begin(self, record: RequestLog, headers: Mapping[str, str]) -> Any:
        """Begin the span of a request, below the caller's if `headers` name one, and return it."""
        parent = self._w3c.extract({name.lower(): value for name, value in headers.items()})
        span = self._tracer.start_span(record.method, parent, self._trace.SpanKind.SERVER, start_time=time.time_ns())
        self._w3c.inject(record.trace_headers, self._trace.set_span_in_context(span))
        return span

    def end(self, span: Any, record: RequestLog, route: str) -> None:
        """End the span of a request, with what is known of it."""
        began, elapsed_ms = span.start_time, record.elapsed_ms()
        span.update_name(f"{record.method} {route}")
        span.set_attributes(_http(record, route))
        if record.status >= FAILED or record.error == "internal_error":
            span.set_status(self._trace.StatusCode.ERROR)
        if record.model is not None:
            below, queued_ms = self._trace.set_span_in_context(span), record.queued_ms or 0.0
            waited = self._tracer.start_span("queue", below, start_time=began)
            waited.end(began + round(queued_ms * MS))
            answer = self._tracer.start_span(
                f"{_operation(record)} {record.model}",
                below,
                self._trace.SpanKind.CLIENT,
                _generation(record),
                start_time=began + round(queued_ms * MS),
            )
            if record.first_token_ms is not None:
                answer.add_event("first token", timestamp=began + round(record.first_token_ms * MS))
            answer.end(began + round(elapsed_ms * MS))
        span.end(began + round(elapsed_ms * MS))


def start(environ: Mapping[str, str]) -> Tracing | None:
    """Return what writes spans, or None where no endpoint is set. Sampling and the rest are OpenTelemetry's own."""
    if not any(environ.get(name) for name in ENDPOINTS) or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    # Imported only here: it takes a quarter of a second and 20 MiB.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": "sluice"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


def _http(record: RequestLog, route: str) -> dict[str, Any]:
    told = {
        "http.request.method": record.method,
        "http.route": route,
        "http.response.status_code": record.status,
        "error.type": record.error,
        "sluice.request_id": record.request_id,
        "sluice.key": record.key,
        "sluice.priority": record.priority,
    }
    return {name: value for name, value in told.items() if value is not None}


def _generation(record: RequestLog) -> dict[str, Any]:
    """Return the attributes of https://opentelemetry.io/docs/specs/semconv/gen-ai/ that are known."""
    told = {
        "gen_ai.operation.name": _operation(record),
        "gen_ai.provider.name": "ollama",
        "gen_ai.request.model": record.model,
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.completion_tokens,
        "gen_ai.response.finish_reasons": record.finish_reason and [record.finish_reason],
        "error.type": record.error,
    }
    return {name: value for name, value in told.items() if value is not None}


def _operation(record: RequestLog) -> str:
    return "embeddings" if "/embed" in record.path else "chat"
