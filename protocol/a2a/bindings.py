"""A2A's bindings, JSON-RPC and HTTP+JSON: the routes, with numbered events in streams."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from a2a.server.context import ServerCallContext
from a2a.server.jsonrpc_models import JSONParseError
from a2a.server.request_handlers import RequestHandler
from a2a.server.request_handlers.response_helpers import build_error_response
from a2a.server.routes import create_agent_card_routes
from a2a.server.routes.common import DefaultServerCallContextBuilder
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from a2a.server.routes.rest_dispatcher import RestDispatcher
from a2a.types.a2a_pb2 import AgentCard, TaskState
from a2a.utils.constants import VERSION_HEADER
from a2a.utils.error_handlers import build_rest_error_payload
from a2a.utils.errors import (
    A2AError,
    ContentTypeNotSupportedError,
    InternalError,
    InvalidParamsError,
)
from pydantic_core import from_json
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from protocol.a2a.tasks import EXTENSION
from protocol.http.bodies import in_time, media_type
from protocol.http.errors import Refusal

RPC, REST = "/a2a", "/a2a/v1"
CARD_AGE_S = 300
"""Seconds for which others may keep the card."""
JSON = frozenset({"application/json", "application/a2a+json"})

Endpoint = Callable[[Request], Awaitable[Response]]


def agent_routes(handler: RequestHandler, agent: AgentCard) -> list[BaseRoute]:
    """The card and both bindings."""
    rpc = _RpcDispatcher(handler, _ContextBuilder())
    rest = _RestDispatcher(handler, _ContextBuilder())
    table: dict[tuple[str, str], Endpoint] = {
        ("/message:send", "POST"): rest.on_message_send,
        ("/message:stream", "POST"): rest.on_message_send_stream,
        ("/tasks", "GET"): rest.list_tasks,
        ("/tasks/{id}:cancel", "POST"): rest.on_cancel_task,
        ("/tasks/{id}:subscribe", "POST"): rest.on_subscribe_to_task,
        ("/tasks/{id}:subscribe", "GET"): rest.on_subscribe_to_task,
        ("/tasks/{id}", "GET"): rest.on_get_task,
        ("/tasks/{id}/pushNotificationConfigs", "POST"): rest.set_push_notification,
        ("/tasks/{id}/pushNotificationConfigs", "GET"): rest.list_push_notifications,
        ("/tasks/{id}/pushNotificationConfigs/{push_id}", "GET"): rest.get_push_notification,
        ("/tasks/{id}/pushNotificationConfigs/{push_id}", "DELETE"): rest.delete_push_notification,
        ("/extendedAgentCard", "GET"): rest.handle_authenticated_agent_card,
    }
    return [
        *create_agent_card_routes(agent, cache_control=f"public, max-age={CARD_AGE_S}"),
        *(Route(path, rpc.handle, methods=["POST"]) for path in (RPC, f"{RPC}/")),
        *(
            Route(f"{REST}{path}", _json_only(endpoint), methods=[method])
            for (path, method), endpoint in table.items()
        ),
    ]


class _ContextBuilder(DefaultServerCallContextBuilder):
    """The version may also be a parameter of the request (A2A 1.0, 3.6.1)."""

    def build(self, request: Request) -> ServerCallContext:
        context = super().build(request)
        version = request.query_params.get(VERSION_HEADER)
        if version is not None:
            context.state["headers"].setdefault(VERSION_HEADER.lower(), version)
        return context


class _RpcDispatcher(JsonRpcDispatcher):
    async def handle(self, request: Request) -> Response:
        id, problem = None, _wrong_type(request)
        if problem is not None:
            return JSONResponse(build_error_response(id, problem), 415)
        unread = await _read(request)
        if unread is not None:
            return JSONResponse(build_error_response(None, JSONParseError(message=unread)))
        id, state = await _listed(request)
        problem = _no_state(state)
        if problem is not None:
            return JSONResponse(build_error_response(id, problem))
        return await self.handle_requests(request)

    def _create_response(
        self,
        context: ServerCallContext,
        handler_result: AsyncGenerator[dict[str, Any]] | dict[str, Any],
    ) -> Response:
        if isinstance(handler_result, dict):
            return super()._create_response(context, handler_result)
        id = context.state.get("request_id")

        def failed(error: A2AError) -> dict[str, Any]:
            return dict(build_error_response(id, error))

        return EventSourceResponse(_numbered(handler_result, failed))


class _RestDispatcher(RestDispatcher):
    async def _handle_streaming(
        self, request: Request, handler_func: Callable[[ServerCallContext], AsyncIterator[Any]]
    ) -> EventSourceResponse:
        stream = aiter(handler_func(self._build_call_context(request)))
        first = await anext(stream)  # a refusal has a status of its own

        async def items() -> AsyncGenerator[dict[str, Any], None]:
            yield first
            async for item in stream:
                yield item

        return EventSourceResponse(_numbered(items(), build_rest_error_payload))


async def _numbered(
    items: AsyncGenerator[dict[str, Any]], failed: Callable[[A2AError], dict[str, Any]]
) -> AsyncGenerator[ServerSentEvent, None]:
    """Server-sent events that carry their number, for Last-Event-ID."""
    try:
        async for item in items:
            yield ServerSentEvent(data=json.dumps(item), id=_number(item))
    except Exception as error:
        problem = error if isinstance(error, A2AError) else InternalError("the stream failed")
        yield ServerSentEvent(data=json.dumps(failed(problem)), event="error")
    finally:
        await items.aclose()


def _number(item: dict[str, Any]) -> str | None:
    """The number of the event in a stream's item, bare or in a JSON-RPC envelope."""
    for event in item.get("result", item).values():
        if isinstance(event, dict):
            number = event.get("metadata", {}).get(EXTENSION, {}).get("event")
            return None if number is None else str(int(number))
    return None


def _json_only(endpoint: Endpoint) -> Endpoint:
    async def checked(request: Request) -> Response:
        problem = _wrong_type(request) if request.method == "POST" else None
        if problem is not None:
            payload = build_rest_error_payload(problem)
            return JSONResponse(payload, 415)
        if request.url.path == f"{REST}/tasks":
            problem = _no_state(request.query_params.get("status"))
        if problem is not None:
            payload = build_rest_error_payload(problem)
            return JSONResponse(payload, payload["error"]["code"])
        unread = await _read(request)
        if unread is not None:
            raise Refusal(400, "invalid_json", unread)
        return await endpoint(request)

    return checked


async def _read(request: Request) -> str | None:
    """Read the body in time; the SDK finds it read, so it never sees one that is refused.

    Returns what is wrong with a body that is no JSON, by its encoding, depth or grammar.
    """
    with in_time():
        body = await request.body()
    try:
        from_json(body or b"null")
    except ValueError as error:
        return f"the body is no JSON: {error}"
    return None


async def _listed(request: Request) -> tuple[Any, object]:
    """The id of a call that lists tasks, and the state that it filters by; of others, None."""
    with suppress(ValueError, RecursionError):  # the SDK refuses what is no JSON
        match await request.json():
            case {"method": "ListTasks", "id": id, "params": {"status": state}}:
                return id, state
    return None, None


def _no_state(name: object) -> A2AError | None:
    """The error for an unknown state, which protobuf would read as no state at all."""
    states = TaskState.keys()
    if not name or not isinstance(name, str) or name in states:
        return None
    return InvalidParamsError(f"status: {name} is no state; choose {', '.join(states)}")


def _wrong_type(request: Request) -> A2AError | None:
    kind = media_type(request)
    empty = request.headers.get("content-length", "0") == "0"
    if kind in JSON or (empty and not kind):
        return None
    return ContentTypeNotSupportedError("send the body as 'Content-Type: application/json'")
