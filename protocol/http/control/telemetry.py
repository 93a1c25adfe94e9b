"""A request as a span of OpenTelemetry, under the caller's own trace where it tells one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def request_span(headers: Iterable[tuple[bytes, bytes]], endpoint: str) -> Iterator[None]:
    """A span around a request, current in the block; none where the API is not installed."""
    try:
        from opentelemetry import propagate
        from opentelemetry import trace as tracing
    except ImportError:  # the extra `telemetry`
        yield
        return
    told = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    with tracing.get_tracer("parallel-reason").start_as_current_span(
        f"serve {endpoint}",
        context=propagate.extract(told),
        kind=tracing.SpanKind.SERVER,
        attributes={"reason.endpoint": endpoint},
    ):
        yield
