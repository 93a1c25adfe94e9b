"""Spans of a solved problem, with the names for generative AI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from reasoning import solve
from reasoning.backends.text import TextBackend
from reasoning.values.sampling import Sampling

pytestmark = pytest.mark.anyio


class Asking(TextBackend):
    """Opens a span for each answer, as an instrumented HTTP client does."""

    async def write(
        self, messages: list[dict[str, str]], sampling: Sampling, *, most: int
    ) -> AsyncIterator[str]:
        with trace.get_tracer("client").start_as_current_span("POST"):
            yield "\\boxed{4}"


async def test_a_solve_is_a_span_under_the_caller_s_with_one_for_each_branch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    with trace.get_tracer("caller").start_as_current_span("caller"):
        await solve("What is 2+2?", backend=Asking(), strategy="self-consistency", n=3)
    spans: dict[str, list[Any]] = {}
    for span in exporter.get_finished_spans():
        spans.setdefault(span.name, []).append(span)
    (caller,), (run,) = spans["caller"], spans["invoke_workflow self-consistency"]
    branches = spans["invoke_agent sample"]
    assert run.parent == caller.context
    assert [branch.parent for branch in branches] == [run.context] * 3
    ids = {branch.context.span_id for branch in branches}
    assert {call.parent.span_id for call in spans["POST"]} == ids
    assert run.attributes["gen_ai.operation.name"] == "invoke_workflow"
    assert run.attributes["gen_ai.request.model"] == "Asking"
    written = [branch.attributes["gen_ai.usage.output_tokens"] for branch in branches]
    assert sum(written) == run.attributes["gen_ai.usage.output_tokens"] > 0
    assert run.attributes["gen_ai.usage.input_tokens"] > 0
