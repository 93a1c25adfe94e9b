"""Spans of a run, as an exporter gets them."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from orchestrator import Retry, TaskGraph, current_task
from orchestrator.views.telemetry import trace

pytestmark = pytest.mark.anyio


async def give(*_: Any) -> int:
    return 1


async def parent() -> int:
    task = current_task()
    assert task is not None
    return await task.graph.add(give, name="child").result()


class Once:
    left = 1

    async def __call__(self) -> int:
        self.left -= 1
        if self.left >= 0:
            raise ConnectionError("down")
        return 1


async def test_each_attempt_is_a_span_with_its_parent_and_its_joins_as_links() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    graph = TaskGraph(name="traced")
    trace(graph, provider.get_tracer("test"))
    first, tried = graph.add(parent), graph.add(Once(), name="tried", retry=Retry(delay=0))
    graph.add(give, first, tried, name="last")
    await graph.run()
    spans = {
        (span.name, (span.attributes or {})["task.attempt"]): span
        for span in exporter.get_finished_spans()
    }
    assert set(spans) == {("parent", 1), ("child", 1), ("tried", 1), ("tried", 2), ("last", 1)}
    assert spans["child", 1].parent == spans["parent", 1].context
    assert [link.context for link in spans["last", 1].links] == [
        spans["parent", 1].context,
        spans["tried", 2].context,
    ]
    assert not spans["tried", 1].status.is_ok
    assert (spans["last", 1].attributes or {})["task.state"] == "succeeded"


async def test_tracing_can_be_stopped() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    graph = TaskGraph()
    trace(graph, provider.get_tracer("test"))()
    graph.add(give)
    await graph.run()
    assert exporter.get_finished_spans() == ()
