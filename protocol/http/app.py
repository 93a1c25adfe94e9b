"""The application: routes, doorkeeper and error handlers around one `Service`."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from orchestrator.errors import ReasonError
from protocol.http.admission import Gate
from protocol.http.errors import Refusal, on_error, on_failure
from protocol.http.exchange import Desk
from protocol.http.keys import Doorkeeper, Keys
from protocol.http.metrics import CONTENT_TYPE, Metrics
from protocol.http.openai import chat, model_object
from protocol.http.openapi import document
from protocol.http.responses import responses
from protocol.http.service import Service

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Who may ask, and how much at once.

    Attributes:
        loopback: Whether to answer only to names of loopback.
        origins: Web origins whose pages may ask.
        most: Runs at once; ``queue`` more wait.
        version: What the server says of itself.
    """

    keys: Keys = field(default_factory=Keys)
    loopback: bool = True
    origins: frozenset[str] = frozenset()
    most: int = 4
    queue: int = 16
    version: str = "0"


def build(service: Service, policy: Policy) -> Starlette:
    """The ASGI application in front of ``service``."""
    gate = Gate(policy.most, policy.queue)
    desk = Desk(service=service, gate=gate, metrics=Metrics(service, gate))
    app = Starlette(
        routes=_routes(desk, policy),
        middleware=_middleware(policy),
        exception_handlers={
            ReasonError: on_error,
            HTTPException: on_error,
            Exception: on_failure,
        },
    )
    app.state.gate = gate
    return app


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
    return [*(cors if policy.origins else []), door]


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
            document(variants=list(variants), keys=bool(policy.keys), version=policy.version)
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
