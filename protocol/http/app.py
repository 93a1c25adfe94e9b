"""The application: routes, doorkeeper and error handlers around one `Service`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from orchestrator.errors import ReasonError
from protocol.http.admission import Gate
from protocol.http.errors import Refusal, on_error, on_failure
from protocol.http.keys import MOST_BODY, Doorkeeper, Keys
from protocol.http.metrics import CONTENT_TYPE, Metrics
from protocol.http.openai.chat import chat, model_object
from protocol.http.openai.exchange import Desk
from protocol.http.openai.responses import responses
from protocol.http.openapi import document
from protocol.http.service import Service

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Who may ask, and how much at once.

    Attributes:
        loopback: Whether to answer only to names of loopback.
        origins: Web origins whose pages may ask.
        most: Runs at once; ``queue`` more wait.
        timeout: Seconds that a run may take, whatever its request says.
        version: What the server says of itself.
        agent_url: Where others reach the server, to be an A2A agent there; None is none.
    """

    keys: Keys = field(default_factory=Keys)
    loopback: bool = True
    origins: frozenset[str] = frozenset()
    most: int = 4
    queue: int = 16
    timeout: float = 600.0
    version: str = "0"
    agent_url: str | None = None


def build(service: Service, policy: Policy) -> Starlette:
    """The ASGI application in front of ``service``."""
    gate = Gate(policy.most, policy.queue)
    desk = Desk(service=service, gate=gate, metrics=Metrics(service, gate), timeout=policy.timeout)
    agent = None if policy.agent_url is None else _agent(desk, policy, policy.agent_url)
    app = Starlette(
        routes=[*_routes(desk, policy), *(agent.routes if agent else ())],
        lifespan=agent.lifespan if agent else None,
        middleware=_middleware(policy),
        exception_handlers={
            ReasonError: on_error,
            HTTPException: on_error,
            Exception: on_failure,
        },
    )
    app.state.gate = gate
    return app


class _Agent(NamedTuple):
    routes: list[BaseRoute]
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]]


def _agent(desk: Desk, policy: Policy, url: str) -> _Agent:
    """The A2A side, which needs an extra package and a place for its tasks to run in."""
    from protocol.a2a.handler import Handler
    from protocol.a2a.wire import card, routes

    handler = Handler(desk)
    variants = desk.service.variants
    agent = card(variants, url=url, version=policy.version, keys=bool(policy.keys))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as handler.group:
            yield
            handler.group.cancel_scope.cancel()

    return _Agent(routes(handler, agent), lifespan)


def _middleware(policy: Policy) -> list[Middleware]:
    cors = [
        Middleware(
            CORSMiddleware,
            allow_origins=sorted(policy.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    ]
    hosts = LOOPBACK if policy.loopback else None
    door = Middleware(Doorkeeper, keys=policy.keys, hosts=hosts, origins=policy.origins)
    limit = Middleware(RequestBodyLimitMiddleware, max_body_size=MOST_BODY)
    return [*(cors if policy.origins else []), door, limit]


def _routes(desk: Desk, policy: Policy) -> list[BaseRoute]:
    variants = {variant.id: variant for variant in desk.service.variants}

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [*map(model_object, variants.values())]})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in variants:
            raise Refusal(
                404,
                "model_not_found",
                f"model {name!r} does not exist; see /v1/models",
                param="model",
            )
        return JSONResponse(model_object(variants[name]))

    async def openapi(request: Request) -> Response:
        return JSONResponse(
            document(
                variants=list(variants),
                keys=bool(policy.keys),
                agent=policy.agent_url is not None,
                version=policy.version,
            )
        )

    async def health(request: Request) -> Response:
        gate = desk.gate
        body = {"status": "stopping" if gate.closed else "ok", "runs": gate.running}
        return JSONResponse(body, 503 if gate.closed else 200)

    async def metrics(request: Request) -> Response:
        return Response(desk.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return [
        Route("/health", health),
        Route("/openapi.json", openapi),
        Route("/metrics", metrics),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/v1/chat/completions", chat(desk), methods=["POST"]),
        Route("/v1/responses", responses(desk), methods=["POST"]),
    ]
