"""Spans of ``serve``: under the caller's trace, and over the requests to the server behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from reasoning import load_model
from reasoning.serving import background
from tests.support.rule_server import RuleServer, rule_server
from tests.support.serving_tools import chat, eventually

TRACE = 0x0AF7651916CD43DD8448EB211C80319C
CALLER = 0xB7AD6B7169203331
TOLD = {"traceparent": f"00-{TRACE:032x}-{CALLER:016x}-01"}
"""A caller's trace, as W3C's Trace Context writes it."""

Spans = dict[str, list[Any]]


class TracedServer:
    """A server in this process, whose spans are kept, in front of a rule server."""

    def __init__(self, url: str, rules: RuleServer, exporter: InMemorySpanExporter) -> None:
        self.url = url
        self.rules = rules
        self._exporter = exporter

    def ask(self, body: dict[str, Any], headers: dict[str, str] | None = None) -> Spans:
        """The spans of one request, by the first word of their names."""
        self._exporter.clear()
        done = httpx.post(
            f"{self.url}/v1/chat/completions", json=body, headers=headers or TOLD, timeout=60
        )
        assert done.status_code == 200, done.text
        finished = self._exporter.get_finished_spans
        eventually(lambda: any(span.name.startswith("serve") for span in finished()))
        spans: Spans = {}
        for span in finished():
            spans.setdefault(span.name.partition(" ")[0], []).append(span)
        return spans


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TracedServer]:
    """A server whose HTTP client to the server behind is instrumented by OpenTelemetry's own."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    client = HTTPX2ClientInstrumentor()
    client.instrument(tracer_provider=provider)
    try:
        with rule_server() as rules, background(load_model(base_urls=[rules.url])) as url:
            yield TracedServer(url, rules, exporter)
    finally:
        client.uninstrument()


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_s_spans_stand_under_the_caller_s_trace(
    server: TracedServer, stream: bool
) -> None:
    asked = chat("SAY: 4", "rules/self-consistency:n=3,policy=sc", stream=stream)
    spans = server.ask(asked)
    (request,), (run,) = spans["serve"], spans["invoke_workflow"]
    branches, calls = spans["invoke_agent"], spans["POST"]
    assert {span.context.trace_id for many in spans.values() for span in many} == {TRACE}
    assert (request.parent.span_id, request.parent.is_remote) == (CALLER, True)
    assert request.kind is trace.SpanKind.SERVER
    assert run.parent == request.context
    assert [branch.parent for branch in branches] == [run.context] * 3
    assert {call.parent.span_id for call in calls} == {b.context.span_id for b in branches}
    written = sum(branch.attributes["gen_ai.usage.output_tokens"] for branch in branches)
    assert run.attributes["gen_ai.usage.output_tokens"] == written > 0


def test_the_server_behind_is_told_the_span_of_its_branch(server: TracedServer) -> None:
    spans = server.ask(chat("SAY: 4", "rules/self-consistency:n=3,policy=sc"))
    calls = {f"00-{TRACE:032x}-{call.context.span_id:016x}-01" for call in spans["POST"]}
    assert set(server.rules.traces) == calls
    assert len(calls) == 3


def test_without_a_caller_s_trace_a_request_begins_one(server: TracedServer) -> None:
    for headers in ({"traceparent": "00-nonsense-01"}, {"x-other": "1"}):
        spans = server.ask(chat("SAY: 4", "rules"), headers)
        (request,), (run,) = spans["serve"], spans["invoke_workflow"]
        assert request.parent is None
        assert run.parent == request.context
