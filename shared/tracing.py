"""Spans of OpenTelemetry, where an operator asks for them with OTEL_EXPORTER_OTLP_ENDPOINT; else nothing is imported.

The exporter takes its settings from the variables that OpenTelemetry defines:
https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

# Of one export [s]. A collector that does not answer costs a request no more than this.
EXPORT_TIMEOUT_S = 2


@contextmanager
def span(name: str, **attributes: str | int) -> Iterator[Any]:
    """Measure what is done meanwhile, as a part of the span around it; yields the span, or None."""
    provider = _provider()
    if provider is None:
        yield None
        return
    from opentelemetry.trace import SpanKind

    tracer = provider.get_tracer("trainshed")
    with tracer.start_as_current_span(name, kind=SpanKind.CLIENT, attributes=attributes) as current:
        yield current


@contextmanager
def request_span(name: str, traceparent: str, trace_id: str) -> Iterator[Any]:
    """Measure a request, as a part of its caller's span where there is one; sends all spans at its end.

    Args:
        traceparent: Header of the request, or empty.
        trace_id: 32 hexadecimal digits; the spans then belong to the same trace as the log lines.
    """
    provider = _provider()
    if provider is None:
        yield None
        return
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {"traceparent": traceparent or f"00-{trace_id}-{os.urandom(8).hex()}-01"}
    parent = TraceContextTextMapPropagator().extract(carrier)
    tracer = provider.get_tracer("trainshed")
    try:
        with tracer.start_as_current_span(name, context=parent, kind=SpanKind.SERVER) as current:
            yield current
    finally:
        # After the answer an instance gets no CPU, and may be ended.
        provider.force_flush(EXPORT_TIMEOUT_S * 1000)


@cache
def _provider() -> TracerProvider | None:
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    service = os.environ.get("OTEL_SERVICE_NAME") or os.environ.get("K_SERVICE", "local")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=EXPORT_TIMEOUT_S)))
    return provider
