"""The ASGI application: routes, middleware and error handlers around one `RequestRunner`."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from orchestrator.errors import ReasonError
from protocol.http.access import AccessMiddleware, ApiKeys
from protocol.http.anthropic.messages import AnthropicInterface
from protocol.http.bodies import MOST_BODY
from protocol.http.errors import on_error, on_failure
from protocol.http.metrics import CONTENT_TYPE
from protocol.http.openai.chat import ChatInterface, model_object
from protocol.http.openai.responses import ResponseInterface
from protocol.http.openai.run_response import caller_of, endpoint
from protocol.http.openapi import openapi_document
from protocol.http.runs import RequestRunner
from protocol.http.service import unknown_variant
from protocol.http.settings import ServerSettings

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
"""Loopback as a Host header names it."""


def application(
    runner: RequestRunner, settings: ServerSettings, url: str, pages: Sequence[BaseRoute] = ()
) -> Starlette:
    """The application in front of ``runner``, for a server that listens at ``url``.

    Args:
        pages: Routes for people, below `access.PAGES`.
    """
    routes, lifespan = [*_routes(runner, settings), *pages], None
    if settings.a2a:
        from protocol.a2a.bindings import agent_routes  # needs an extra package
        from protocol.a2a.card import agent_card
        from protocol.a2a.operations import AgentOperations

        operations = AgentOperations(runner)
        routes += agent_routes(operations, agent_card(runner.service.variants, settings, url))
        lifespan = operations.lifespan
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=_middleware(settings),
        exception_handlers=_HANDLERS,
    )


def pages_alone(pages: Sequence[BaseRoute], keys: ApiKeys) -> Starlette:
    """An application of pages for the people of this machine who have a key."""
    access = Middleware(AccessMiddleware, keys=keys, hosts=LOOPBACK_NAMES, origins=())
    return Starlette(routes=pages, middleware=[access], exception_handlers=_HANDLERS)


_HANDLERS = {ReasonError: on_error, HTTPException: on_error, Exception: on_failure}


def _middleware(settings: ServerSettings) -> list[Middleware]:
    cors = Middleware(
        CORSMiddleware,
        allow_origins=sorted(settings.origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type"],
    )
    access = Middleware(
        AccessMiddleware,
        keys=settings.keys,
        hosts=LOOPBACK_NAMES if settings.loopback else None,
        origins=settings.origins,
    )
    limit = Middleware(RequestBodyLimitMiddleware, max_body_size=MOST_BODY)
    return [*([cors] if settings.origins else []), access, limit]


def _routes(runner: RequestRunner, settings: ServerSettings) -> list[BaseRoute]:
    variants = {variant.id: variant for variant in runner.service.variants}

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [*map(model_object, variants.values())]})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in variants:
            raise unknown_variant(name, variants.values())
        return JSONResponse(model_object(variants[name]))

    async def openapi(request: Request) -> Response:
        return JSONResponse(openapi_document(runner.service, settings))

    async def health(request: Request) -> Response:
        closed = runner.admission.closed
        body = {"status": "stopping" if closed else "ok", "runs": runner.admission.running}
        return JSONResponse(body, 503 if closed else 200)

    async def metrics(request: Request) -> Response:
        return Response(runner.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    responses = ResponseInterface()

    async def kept(request: Request) -> Response:
        id, caller = request.path_params["id"], caller_of(request)
        if request.method == "DELETE":
            responses.store.forget(id, caller)
            return JSONResponse({"id": id, "object": "response", "deleted": True})
        return JSONResponse(responses.store.find(id, caller, "response_id").body)

    return [
        Route("/health", health),
        Route("/openapi.json", openapi),
        Route("/metrics", metrics),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/v1/chat/completions", endpoint(runner, ChatInterface()), methods=["POST"]),
        Route("/v1/messages", endpoint(runner, AnthropicInterface()), methods=["POST"]),
        Route("/v1/responses", endpoint(runner, responses), methods=["POST"]),
        Route("/v1/responses/{id}", kept, methods=["GET", "DELETE"]),
    ]
