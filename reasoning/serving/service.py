"""The `protocol.http.Service` that reasons: every strategy on every loaded model."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Self

import anyio
from anyio.from_thread import start_blocking_portal

from orchestrator.events import Listener
from protocol.http import (
    EngineLoad,
    ModelVariant,
    ReasoningRequest,
    ReasoningResult,
    RunPlan,
    RunStopped,
    ServerSettings,
)
from protocol.http.service import BranchListener
from reasoning.models.loaded import LoadedModel
from reasoning.runs.live.served import ServedRuns
from reasoning.serving.asking import AskedSolution, asked_of
from reasoning.serving.outcome import Outcome
from reasoning.serving.variants import VariantNames
from reasoning.solver import Reasoner

STOP_S = 10.0
"""How long a run for which nobody waits may take to stop."""


class ReasoningService:
    """Loaded models that answer conversations, each under every strategy that it can do::

    async with ReasoningService([load_model()]) as service:
        request = ReasoningRequest.ask("reason-5m/apr", "Use 3, 10, 21 and 23 to make 50")
        result = await service.answer(request, print)
    """

    def __init__(
        self,
        models: Sequence[LoadedModel],
        *,
        default: str | None = None,
        watch: ServedRuns | None = None,
    ) -> None:
        """``default`` is what a model's bare name stands for, as ``self-consistency:n=8``.

        ``watch`` is told of each run, on the event loop.

        Raises:
            InvalidValue: two models have the same name.
            UnknownName: there is no such default.
        """
        self._reasoners = [Reasoner(model) for model in models]
        self._watch = watch
        self._names = VariantNames(self._reasoners, default)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for reasoner in self._reasoners:
                await stack.enter_async_context(reasoner)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.__aexit__(*error)

    @property
    def variants(self) -> tuple[ModelVariant, ...]:
        return self._names.listed

    @property
    def load(self) -> EngineLoad:
        return EngineLoad(
            threads=sum(reasoner.model.backend.open_threads for reasoner in self._reasoners),
            leaked=sum(reasoner.leaked for reasoner in self._reasoners),
        )

    def check(self, request: ReasoningRequest) -> RunPlan:
        asked = asked_of(request, self._names.target(request))
        policy = asked.target.policy
        return RunPlan(
            model=asked.target.reasoner.model.name,
            strategy=asked.strategy.name,
            policy=None if policy is None else policy.name,
            width=asked.target.width,
            elastic=asked.target.elastic,
        )

    async def answer(
        self, request: ReasoningRequest, listen: BranchListener, *, width: int | None = None
    ) -> ReasoningResult:
        target = self._names.target(request)
        asked = asked_of(request, target.within(width))
        notes = ("width-shrunk",) if asked.target.width < target.width else ()
        if self._watch is None:
            return (await _answered(asked, listen, notes)).result()
        watched = self._watch.begins(request.question, request.variant)
        try:
            found = await _answered(asked, listen, notes, watched.observe)
        except BaseException as error:
            watched.fails(error)
            raise
        watched.ends(found.solution, found.seed)
        return found.result()


async def _answered(
    asked: AskedSolution,
    listen: BranchListener,
    notes: tuple[str, ...],
    watch: Listener | None = None,
) -> Outcome:
    """Solve; a run that is cancelled is stopped, and tells what it cost."""
    seed = asked.seed if asked.seed is not None else random.getrandbits(31)
    observer = asked.observer(listen)
    shield = anyio.CancelScope(shield=True)
    left = anyio.Event()

    async def stop_when_left() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            left.set()
            observer.stop.cancel()
            shield.deadline = anyio.current_time() + STOP_S

    found: Outcome | Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(stop_when_left)
        with shield:
            try:
                found = asked.outcome(
                    await asked.solve(observer, seed, watch), observer, seed, notes
                )
            except Exception as error:  # out of the group, which would wrap it
                found = error
            if left.is_set() and isinstance(found, Outcome):
                listen(RunStopped(branch="", result=found.cost()))
        group.cancel_scope.cancel()
    if isinstance(found, Exception):
        raise found
    assert found is not None  # else this was cancelled
    return found


@contextmanager
def background(*models: LoadedModel, a2a: bool = False) -> Iterator[str]:
    """Serve on a free port of loopback in a thread, as in a notebook; gives the URL::

    with background(load_model()) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    """
    from protocol.http.server import listening  # needs the packages of the extra `serve`

    @asynccontextmanager
    async def served() -> AsyncIterator[str]:
        settings = ServerSettings(port=0, drain=0.0, a2a=a2a)
        async with ReasoningService(models) as service, listening(service, settings) as url:
            yield url

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(served()) as url,
    ):
        yield url
