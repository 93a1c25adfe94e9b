"""The interface as an OpenAPI 3.1 document, generated from the models that check requests."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from protocol.http.access import NO_KEY_NEEDED
from protocol.http.openai.chat import ChatRequest
from protocol.http.openai.responses import ResponseRequest

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


def openapi_document(
    *, variants: list[str], keys: bool, agent: bool, version: str
) -> dict[str, Any]:
    """The document; ``keys`` if a bearer key is asked for, ``agent`` if A2A is spoken."""
    _, schemas = models_json_schema(
        [(model, "validation") for model in (ChatRequest, ResponseRequest, ErrorBody)],
        ref_template="#/components/schemas/{model}",
    )
    question = {"model": variants[0], "messages": [{"role": "user", "content": QUESTION}]}
    spec: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "reason", "version": version},
        "paths": {
            "/health": {"get": _get("Whether the server takes requests.", _object("status"))},
            "/metrics": {"get": _get("Figures for Prometheus.", {"type": "string"}, "text/plain")},
            "/v1/models": {"get": _get("Every strategy on every model.", _object("data"))},
            "/v1/models/{name}": {
                "parameters": [
                    {
                        "name": "name",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string", "minLength": 1},
                        "example": variants[0],
                    }
                ],
                "get": _get("One of them.", _object("id")),
            },
            "/v1/chat/completions": {
                "post": _post("Answer a chat.", ChatRequest, question, "choices")
            },
            "/v1/responses": {
                "post": _post(
                    "Answer with items.",
                    ResponseRequest,
                    {"model": variants[0], "input": QUESTION},
                    "output",
                )
            },
        },
        "components": {"schemas": schemas["$defs"]},
    }
    if agent:
        spec["paths"] |= _agent()
    if keys:
        spec["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        spec["security"] = [{"key": []}]
        for path in NO_KEY_NEEDED & spec["paths"].keys():
            spec["paths"][path]["get"]["security"] = []
    return spec


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
    body = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}, "example": example}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": _answers(_object(*required), "application/json", "text/event-stream"),
    }


def _agent() -> dict[str, Any]:
    """The A2A card and both bindings; their bodies are described by A2A's own specification."""
    message = {"role": "ROLE_USER", "messageId": "m-1", "parts": [{"text": QUESTION}]}
    send = {"message": message}
    call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": send}
    task = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    rest = "/a2a/v1"
    return {
        "/.well-known/agent-card.json": {"get": _get("The agent's card.", _object("skills"))},
        "/a2a": {"post": _a2a("JSON-RPC 2.0.", call, "jsonrpc", "method")},
        f"{rest}/message:send": {"post": _a2a("Send a message.", send, "message")},
        f"{rest}/message:stream": {"post": _a2a("Send one, and follow.", send, "message")},
        f"{rest}/tasks": {"get": _a2a("List tasks.")},
        f"{rest}/tasks/{{id}}": {"parameters": [task], "get": _a2a("A task as it is.")},
        f"{rest}/tasks/{{id}}:cancel": {"parameters": [task], "post": _a2a("Stop a task.", {})},
        f"{rest}/tasks/{{id}}:subscribe": {
            "parameters": [task],
            "post": _a2a("Follow a task; Last-Event-ID says from where on.", {}),
        },
    }


def _a2a(summary: str, example: dict[str, Any] | None = None, *required: str) -> dict[str, Any]:
    version = {
        "name": "A2A-Version",
        "in": "header",
        "required": True,
        "schema": {"const": "1.0"},
    }
    kinds = ("application/a2a+json", "application/json", "text/event-stream")
    answers = {
        code: {"description": text, "content": {kind: {} for kind in kinds}}
        for code, text in (("200", "Done."), ("default", "Refused, as A2A's bindings say it."))
    }
    operation = {"summary": summary, "parameters": [version], "responses": answers}
    if example is None:
        return operation
    body = {"schema": _object(*required), "example": example}
    return {
        **operation,
        "requestBody": {"required": True, "content": {"application/json": body}},
    }
