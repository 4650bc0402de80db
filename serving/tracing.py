"""Spans of requests over OTLP. Off unless it is asked for: they cost more than a prediction."""

import threading
from collections.abc import Callable
from typing import Any, cast

from starlette.types import ASGIApp

from headrace.errors import UsageError

# How long the end of the process may wait for a collector that does not answer.
_FLUSH_S = 3.0


def traced(app: ASGIApp, endpoint: str) -> tuple[ASGIApp, Callable[[], None]]:
    """The application with a span for each request, which continues the client's W3C trace.

    Args:
        app: what answers.
        endpoint: where spans go, OTLP over HTTP.

    Returns:
        The application, and what sends the spans that are not sent yet: the last thing that the process does.

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
    provider = TracerProvider(resource=Resource.create({"service.name": "headrace-serving"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    middleware: Any = OpenTelemetryMiddleware(app, tracer_provider=provider, exclude_spans=["receive", "send"])

    def flush() -> None:
        # Its own deadlines add up to half a minute.
        sending = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
        sending.start()
        sending.join(_FLUSH_S)

    return cast(ASGIApp, middleware), flush
