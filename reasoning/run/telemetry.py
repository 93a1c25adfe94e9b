"""A run as OpenTelemetry spans, with the names of the conventions for generative AI."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator import Task
from orchestrator.views.telemetry import trace
from reasoning.run.run import Run

TRACER = "parallel-reason"


@contextmanager
def traced(run: Run, *, strategy: str, model: str) -> Iterator[None]:
    """A span around a run, under the caller's, and one for each branch, current while it runs.

    An instrumented HTTP client's spans are thus children of their branch's.  There are none unless
    the program has loaded OpenTelemetry; no words of questions or answers are in them.
    """
    if "opentelemetry.trace" not in sys.modules:
        yield
        return
    from opentelemetry import trace as api

    shared = {"gen_ai.request.model": model, "gen_ai.provider.name": TRACER}
    tracer = api.get_tracer(TRACER)
    attributes = {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.agent.name": strategy,
        **shared,
    }
    with tracer.start_as_current_span(f"invoke_workflow {strategy}", attributes=attributes) as span:
        if not span.is_recording():
            yield
            return

        def told(task: Task[Any]) -> dict[str, Any]:
            """What a branch used, and why it ended."""
            thread = run.threads.get(task.id)
            found = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": task.name}
            return found | shared | ({} if thread is None else _usage(thread.given, thread.written))

        stop = trace(run.graph, tracer, name=lambda t: f"invoke_agent {t.name}", attributes=told)
        try:
            yield
        finally:
            stop()
            written = sum(thread.written for thread in run.threads.values())
            span.set_attributes(_usage(run.graph.work - written, written))


def _usage(given: int, written: int) -> dict[str, Any]:
    return {"gen_ai.usage.input_tokens": given, "gen_ai.usage.output_tokens": written}
