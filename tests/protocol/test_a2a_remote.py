"""A remote A2A agent as a place to run: ours over a real socket, and one of a2a-sdk's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types.a2a_pb2 import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    Message,
    Part,
    Role,
    Task,
)
from starlette.applications import Starlette

from orchestrator.errors import UnknownName
from protocol.a2a.remote_agent import RemoteAgent
from protocol.errors import AgentLost, AgentRefused
from protocol.http import BranchEvent, BranchText, ReasoningRequest, ReasoningResult
from tests.support.serving_tools import COUNTDOWN, HARD, Server, eventually

pytestmark = pytest.mark.anyio


def ask(text: str = COUNTDOWN, variant: str = "reason-5m/apr", **more: Any) -> ReasoningRequest:
    return ReasoningRequest.ask(variant, text, **more)


class Listener:
    """Collects what each branch wrote."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def __call__(self, event: BranchEvent) -> None:
        assert isinstance(event, BranchText)
        self.texts[event.branch] = self.texts.get(event.branch, "") + event.text


class Cutting(httpx.AsyncHTTPTransport):
    """A network that breaks every stream after some of its pieces, as often as it may."""

    def __init__(self, after: int, cuts: int) -> None:
        super().__init__()
        self.after, self.cuts = after, cuts

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if "text/event-stream" in response.headers.get("content-type", "") and self.cuts:
            self.cuts -= 1
            return httpx.Response(200, headers=response.headers, stream=self._cut(response))
        return response

    def _cut(self, response: httpx.Response) -> httpx.AsyncByteStream:
        after = self.after

        class Stream(httpx.AsyncByteStream):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                count = 0
                async for piece in response.aiter_raw():
                    yield piece
                    count += 1
                    if count == after:
                        raise httpx.ReadError("cut")

            async def aclose(self) -> None:
                await response.aclose()

        return Stream()


async def run(
    agent: RemoteAgent, question: ReasoningRequest
) -> tuple[ReasoningResult, dict[str, str]]:
    listener = Listener()
    agent.check(question)
    return await agent.answer(question, listener), listener.texts


async def test_a_remote_agent_answers_like_a_model_here(server: Server) -> None:
    async with RemoteAgent(server.url) as agent:
        assert "reason-5m/apr" in {variant.id for variant in agent.variants}
        answer, texts = await run(agent, ask())
    assert answer.text is not None
    assert answer.text.endswith("=50")
    assert (answer.status, answer.verified, answer.strategy) == ("finished", True, "apr")
    assert answer.work_tokens == answer.prompt_tokens + answer.completion_tokens
    assert answer.work_tokens > answer.span_tokens > 0
    assert answer.branches == len(texts)
    assert "<spawn>" in texts["1"]


async def test_a_connection_that_breaks_loses_and_repeats_nothing(server: Server) -> None:
    async with RemoteAgent(server.url) as agent:
        whole = await run(agent, ask())
    runs = server.metric("reason_requests_total", endpoint="a2a")
    for after in (1, 3):
        async with RemoteAgent(server.url, transport=Cutting(after, cuts=4)) as agent:
            answer, texts = await run(agent, ask())
        assert (answer.text, texts) == (whole[0].text, whole[1])
    assert server.metric("reason_requests_total", endpoint="a2a") == runs + 2


async def test_a_network_that_stays_broken_is_told(server: Server) -> None:
    async with RemoteAgent(server.url) as agent:
        await agent._http.aclose()
        agent._http = httpx.AsyncClient()
        with pytest.raises(AgentLost, match="ask again"):
            await agent.answer(ask(), Listener())


async def test_cancelling_here_stops_every_branch_there(server: Server) -> None:
    async with RemoteAgent(server.url) as agent:
        long = ask(HARD, "reason-5m/self-consistency", n=500, temperature=1.0)
        async with anyio.create_task_group() as group:
            group.start_soon(agent.answer, long, Listener())
            await anyio.to_thread.run_sync(
                eventually, lambda: server.metric("reason_engine_threads") >= 400
            )
            assert agent.load.threads == 1
            group.cancel_scope.cancel()
        assert agent.load.threads == 0
    assert eventually(lambda: server.metric("reason_engine_threads") == 0) < 2


async def test_what_the_agent_does_not_take_is_refused(server: Server) -> None:
    async with RemoteAgent(server.url) as agent:
        with pytest.raises(AgentRefused, match="can't make 99"):
            await agent.answer(ask("Use 1, 1, 1 and 1 to make 99"), Listener())
        with pytest.raises(UnknownName, match="the nearest are reason-5m"):
            agent.check(ask(variant="gpt-7"))


async def test_where_no_agent_is_none_is_found(server: Server) -> None:
    for url in (f"{server.url}/v1", "http://127.0.0.1:9"):
        with pytest.raises(AgentLost, match="check the address"):
            await RemoteAgent(url).__aenter__()


class Echo(AgentExecutor):
    """Somebody else's agent: it knows nothing of our extension."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        assert context.task_id is not None
        assert context.context_id is not None
        text = context.get_user_input()
        if text == "hello":
            reply = Message(message_id="m", role=Role.ROLE_AGENT, parts=[Part(text="hello, you")])
            await event_queue.enqueue_event(reply)
            return
        task = Task(id=context.task_id, context_id=context.context_id)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        await updater.start_work(updater.new_agent_message([Part(text="thinking")]))
        if text == "fail":
            await updater.failed(updater.new_agent_message([Part(text="no idea")]))
            return
        await updater.add_artifact([Part(text="forty-")], artifact_id="a")
        await updater.add_artifact([Part(text="two")], artifact_id="a", append=True)
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError


def foreign() -> httpx.ASGITransport:
    card = AgentCard(
        name="echo",
        description="repeats",
        version="1",
        supported_interfaces=[
            AgentInterface(
                url="http://echo/rpc", protocol_binding="JSONRPC", protocol_version="1.0"
            )
        ],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="echo", name="echo", description="repeats", tags=["echo"])],
    )
    handler = DefaultRequestHandler(Echo(), InMemoryTaskStore(), card)
    routes = [*create_jsonrpc_routes(handler, "/rpc"), *create_agent_card_routes(card)]
    return httpx.ASGITransport(Starlette(routes=routes))


@pytest.mark.parametrize(("text", "answer"), [("what?", "forty-two"), ("hello", "hello, you")])
async def test_an_agent_of_another_kind_can_be_asked(text: str, answer: str) -> None:
    async with RemoteAgent("http://echo", transport=foreign()) as agent:
        found, _ = await run(agent, ask(text, "echo"))
    assert (found.text, found.verified, found.work_tokens) == (answer, None, 0)


async def test_the_failure_of_another_agent_is_told_in_its_words() -> None:
    async with RemoteAgent("http://echo", transport=foreign()) as agent:
        with pytest.raises(AgentLost, match="no idea"):
            await run(agent, ask("fail", "echo"))
