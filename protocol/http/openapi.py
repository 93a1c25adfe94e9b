"""The interface as an OpenAPI 3.1 document, generated from the models that check requests."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from protocol.http.access import NO_KEY_NEEDED
from protocol.http.anthropic.messages import AnthropicRequest
from protocol.http.openai.chat import ChatRequest
from protocol.http.openai.response_items import ResponseRequest
from protocol.http.service import Service
from protocol.http.settings import ServerSettings

QUESTION = "Use 3, 10, 21 and 23 to make 50"


class ErrorObject(BaseModel):
    """What went wrong, and what to do."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """The body of every error."""

    error: ErrorObject


def openapi_document(service: Service, settings: ServerSettings) -> dict[str, Any]:
    """The document of a server's interface."""
    _, schemas = models_json_schema(
        [
            (model, "validation")
            for model in (ChatRequest, ResponseRequest, AnthropicRequest, ErrorBody)
        ],
        ref_template="#/components/schemas/{model}",
    )
    model = service.variants[0].id
    chat = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}
    response = {"model": model, "input": QUESTION}
    message = {**chat, "max_tokens": 2048}
    schema = {"type": "string", "minLength": 1}
    name = _parameter("name", "path", schema) | {"example": model}
    paths = {
        "/health": {"get": _get("Whether the server takes requests.", _object("status"))},
        "/metrics": {"get": _get("Figures for Prometheus.", {"type": "string"}, "text/plain")},
        "/v1/models": {"get": _get("Every strategy on every model.", _object("data"))},
        "/v1/models/{name}": {"parameters": [name], "get": _get("One of them.", _object("id"))},
        "/v1/chat/completions": {"post": _post("Answer a chat.", ChatRequest, chat, "choices")},
        "/v1/messages": {"post": _post("Answer a message.", AnthropicRequest, message, "content")},
        "/v1/responses": {"post": _post("Answer with items.", ResponseRequest, response, "output")},
        "/v1/responses/{id}": {
            "parameters": [_parameter("id", "path", schema)],
            "get": _get("A response that is kept.", _object("output")),
            "delete": _get("Keep it no longer.", _object("deleted")),
        },
        **(_agent() if settings.a2a else {}),
    }
    spec: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "reason", "version": settings.version},
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }
    if settings.keys:
        spec["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        spec["security"] = [{"key": []}]
        for path in NO_KEY_NEEDED & paths.keys():
            paths[path]["get"]["security"] = []
    return spec


def _parameter(name: str, where: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": where, "required": True, "schema": schema}


def _body(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "example": example}}
    return {"required": True, "content": content}


def _object(*required: str) -> dict[str, Any]:
    return {"type": "object", "required": list(required)}


def _answers(schema: dict[str, Any], *kinds: str) -> dict[str, Any]:
    error = {"schema": {"$ref": "#/components/schemas/ErrorBody"}}
    bodies = {kind: {} if kind == "text/event-stream" else {"schema": schema} for kind in kinds}
    return {
        "200": {"description": "Done.", "content": bodies},
        "default": {"description": "Refused.", "content": {"application/json": error}},
    }


def _get(summary: str, schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"summary": summary, "responses": _answers(schema, kind)}


def _post(
    summary: str, model: type[BaseModel], example: dict[str, Any], *required: str
) -> dict[str, Any]:
    return {
        "summary": summary,
        "requestBody": _body({"$ref": f"#/components/schemas/{model.__name__}"}, example),
        "responses": _answers(_object(*required), "application/json", "text/event-stream"),
    }


def _agent() -> dict[str, Any]:
    """The A2A card and both bindings; their bodies are described by A2A's own specification."""
    message = {"role": "ROLE_USER", "messageId": "m-1", "parts": [{"text": QUESTION}]}
    send = {"message": message}
    call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": send}
    task = {"parameters": [_parameter("id", "path", {"type": "string"})]}
    rest = "/a2a/v1"
    return {
        "/.well-known/agent-card.json": {"get": _get("The agent's card.", _object("skills"))},
        "/a2a": {"post": _a2a("JSON-RPC 2.0.", call, "jsonrpc", "method")},
        f"{rest}/message:send": {"post": _a2a("Send a message.", send, "message")},
        f"{rest}/message:stream": {"post": _a2a("Send one, and follow.", send, "message")},
        f"{rest}/tasks": {"get": _a2a("List tasks.")},
        f"{rest}/tasks/{{id}}": {**task, "get": _a2a("A task as it is.")},
        f"{rest}/tasks/{{id}}:cancel": {**task, "post": _a2a("Stop a task.", {})},
        f"{rest}/tasks/{{id}}:subscribe": {
            **task,
            "post": _a2a("Follow a task; Last-Event-ID says from where on.", {}),
        },
    }


def _a2a(summary: str, example: dict[str, Any] | None = None, *required: str) -> dict[str, Any]:
    kinds = ("application/a2a+json", "application/json", "text/event-stream")
    answers = {
        code: {"description": text, "content": {kind: {} for kind in kinds}}
        for code, text in (("200", "Done."), ("default", "Refused, as A2A's bindings say it."))
    }
    version = _parameter("A2A-Version", "header", {"const": "1.0"})
    body = {} if example is None else {"requestBody": _body(_object(*required), example)}
    return {"summary": summary, "parameters": [version], "responses": answers, **body}
