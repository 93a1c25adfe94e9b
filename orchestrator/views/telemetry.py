"""A run as OpenTelemetry spans: one for each attempt, joins as links."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.errors import importing
from orchestrator.events import AttemptFailed, Event, RunEnded, TaskEnded, TaskStarted

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

    from orchestrator.graph import TaskGraph
    from orchestrator.task import Task


def trace(
    graph: TaskGraph,
    tracer: Tracer | None = None,
    *,
    name: Callable[[Task[Any]], str] = lambda task: task.name,
    attributes: Callable[[Task[Any]], Mapping[str, Any]] = lambda task: {},
) -> Callable[[], None]:
    """Report a graph's attempts as spans from now on; returns a function that ends this.

    A span is a child of the span of the task that added it, and linked to the last spans of the
    tasks that it waited for.  Only the API package is needed; the program configures where spans
    go.

    Args:
        name: What a task's spans are called; by default as the task is.
        attributes: More attributes of a task's span, asked for when it ends.

    Raises:
        ExtraMissing: the API package is not installed.
    """
    with importing("telemetry", "tracing"):
        from opentelemetry import trace as api
    spans = _Spans(graph, tracer or api.get_tracer("parallel-reason"), name, attributes)
    return graph.events.subscribe(spans.hear)


class _Spans:
    def __init__(
        self,
        graph: TaskGraph,
        tracer: Tracer,
        name: Callable[[Task[Any]], str],
        attributes: Callable[[Task[Any]], Mapping[str, Any]],
    ) -> None:
        self._name = name
        self._attributes = attributes
        self._graph = graph
        self._tracer = tracer
        self._spans: dict[str, Span] = {}
        """The last span of each task, open or ended; links and parents refer to it."""

    def hear(self, event: Event) -> None:
        if isinstance(event, TaskStarted):
            self._start(event)
        elif isinstance(event, AttemptFailed):
            self._end(event.task, "failed", event.error)
        elif isinstance(event, TaskEnded) and event.task in self._spans:
            task = self._graph[event.task]
            self._end(event.task, event.state, task.error_text, work=event.work)
        elif isinstance(event, RunEnded):
            self._spans.clear()

    def _start(self, event: TaskStarted) -> None:
        from opentelemetry import trace as api
        from opentelemetry.context import attach

        task = self._graph[event.task]
        parent = None if task.parent is None else self._spans.get(task.parent.id)
        before = [self._spans[t.id] for t in task.after if t.id in self._spans]
        span = self._spans[task.id] = self._tracer.start_span(
            self._name(task),
            context=None if parent is None else api.set_span_in_context(parent),
            links=[api.Link(span.get_span_context()) for span in before],
            attributes={
                "task.id": task.id,
                "task.attempt": event.attempt,
                "graph.name": self._graph.name,
                "graph.version": self._graph.version,
            },
        )
        attach(api.set_span_in_context(span))  # the scheduler leaves this context with the task

    def _end(self, id: str, state: str, error: str | None, **attributes: Any) -> None:
        from opentelemetry.trace import Status, StatusCode

        span = self._spans[id]
        span.set_attribute("task.state", state)
        for name, value in attributes.items():
            span.set_attribute(f"task.{name}", value)
        span.set_attributes(dict(self._attributes(self._graph[id])))
        if state == "failed":
            span.set_status(Status(StatusCode.ERROR, error or "failed"))
        span.end()
