"""Errors as OpenAI's clients read them: one object with message, type, param and code."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from orchestrator.errors import InvalidValue, ReasonError, leaf

log = logging.getLogger(__name__)

AGENT = "/a2a/v1/"
RPC_STATUSES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
_ROUTING = {
    404: ("not_found", "there is nothing here; see /openapi.json"),
    405: ("method_not_allowed", "not this method"),
    413: ("refused", "too large"),
}
_FIELD = re.compile(r"([a-z_][\w.\[\]-]*): ")


class UnknownParameter(InvalidValue):
    """A field of a request that nobody behind this server takes."""


class UnsupportedParameter(InvalidValue):
    """A field of a request that asks for what the model can't do."""


class Refusal(ReasonError):
    """Raised to refuse a request, with what the response says.

    Attributes:
        param: The field that is at fault, where one is.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.name = code
        self.param = param
        self.headers = headers or {}

    @property
    def code(self) -> str:
        return self.name


def failure() -> Refusal:
    """What a client is told of an error that nobody expected."""
    return Refusal(
        500, "internal_error", "the server failed at this request; its log says why, report it"
    )


def as_refusal(error: Exception) -> Refusal:
    """Any error as a refusal; an unexpected one is logged, and its words are not told."""
    cause = leaf(error)
    if isinstance(cause, Refusal):
        return cause
    if isinstance(cause, ReasonError):
        field = _FIELD.match(str(cause))
        return Refusal(
            cause.http_status,
            re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cause.code).lower(),
            str(cause),
            param=field[1].replace("-", "_") if field else None,
        )
    log.error("a request failed", exc_info=error)
    return failure()


def invalid_body(error: ValidationError) -> Refusal:
    """The first thing that is wrong with a body, by the path of its field."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = _path(first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return Refusal(
            400, "unknown_parameter", f"{path}: is not a parameter here; leave it out", param=path
        )
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    return Refusal(400, code, f"{path}: {message}", param=path)


def _path(loc: Sequence[int | str]) -> str:
    """``messages[0].content``; names of union members, which are no fields, are left out."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif re.fullmatch(r"[a-z_]+", part):
            path += f".{part}" if path else part
    return path or "body"


def error_body(problem: Refusal) -> dict[str, Any]:
    """The object that a body or a stream carries."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = "server_error" if problem.status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": str(problem),
            "type": kinds.get(problem.status, kind),
            "param": problem.param,
            "code": problem.code,
        }
    }


def error_response(problem: Refusal, path: str = "") -> Response:
    """The response to a request for ``path``, as OpenAI or as A2A's HTTP binding writes errors."""
    body = error_body(problem) if not path.startswith(AGENT) else _rpc_status(problem)
    return JSONResponse(body, problem.status, headers=dict(problem.headers))


def _rpc_status(problem: Refusal) -> dict[str, Any]:
    """A google.rpc.Status, as A2A 1.0 has it for all errors of its HTTP binding (11.6)."""
    kind = "INTERNAL" if problem.status >= 500 else "INVALID_ARGUMENT"
    status = RPC_STATUSES.get(problem.status, kind)
    return {"error": {"code": problem.status, "status": status, "message": str(problem)}}


async def on_error(request: Request, error: Exception) -> Response:
    """Starlette's handler for whatever a route raises, and for what no route takes."""
    if isinstance(error, HTTPException):
        code, words = _ROUTING.get(error.status_code, ("refused", "refused"))
        message = f"{request.method} {request.url.path}: {words}"
        problem = Refusal(error.status_code, code, message, headers=error.headers)
    else:
        problem = as_refusal(error)
    return error_response(problem, request.url.path)


async def on_failure(request: Request, error: Exception) -> Response:
    """Starlette's handler for unexpected errors, which Starlette logs by itself."""
    return error_response(failure(), request.url.path)
