"""Spans of requests over OTLP. Off unless it is asked for: they cost more than a prediction."""

from typing import Any, cast

from starlette.types import ASGIApp

from headrace.errors import UsageError


def traced(app: ASGIApp, endpoint: str) -> ASGIApp:
    """The application with a span for each request, which continues the client's W3C trace.

    Args:
        app: what answers.
        endpoint: where spans go, OTLP over HTTP.

    Raises:
        UsageError: the libraries are not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as missing:
        raise UsageError(
            f"--otlp-endpoint needs {missing.name}: install headrace with its extra `tracing`"
        ) from missing
    provider = TracerProvider(resource=Resource.create({"service.name": "headrace-serving"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    middleware: Any = OpenTelemetryMiddleware(app, tracer_provider=provider, exclude_spans=["receive", "send"])
    return cast(ASGIApp, middleware)
