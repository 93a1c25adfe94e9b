"""The `protocol.http.Service` that reasons: every strategy on every loaded model."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, NamedTuple, Self

import anyio
from anyio.from_thread import start_blocking_portal

from orchestrator import Event, TaskAdded, TaskEnded
from orchestrator.errors import InvalidValue, UnknownName
from protocol.http import (
    BranchClosed,
    BranchOpened,
    BranchText,
    EngineLoad,
    ModelVariant,
    ReasoningRequest,
    ReasoningResult,
    ServerSettings,
)
from protocol.http.service import BranchListener
from reasoning.models.catalog import find, shipped
from reasoning.models.loaded import LoadedModel
from reasoning.options import SolveOptions
from reasoning.problems import Problem, pose
from reasoning.run.solution import Solution
from reasoning.run.thread import TextGenerated
from reasoning.solver import Reasoner, choose_strategy
from reasoning.strategies import STRATEGIES, Strategy

_N = re.compile(r"(.+):n=(\d{1,4})")


class _VariantTarget(NamedTuple):
    """The model and the strategy that a variant stands for; None chooses by the problem."""

    reasoner: Reasoner
    strategy: str | None


class ReasoningService:
    """Loaded models that answer questions, each under every strategy that it can do::

    async with ReasoningService([load_model()]) as service:
        request = ReasoningRequest.ask("reason-5m/apr", "Use 3, 10, 21 and 23 to make 50")
        result = await service.answer(request, print)
    """

    def __init__(self, models: Sequence[LoadedModel]) -> None:
        names = [model.name for model in models]
        if len(set(names)) < len(names):
            raise InvalidValue("model: two have the same name; rename a folder")
        self._reasoners = [Reasoner(model) for model in models]
        found = [pair for reasoner in self._reasoners for pair in _variants(reasoner)]
        self._choices = {variant.id: choice for variant, choice in found}
        self.variants = tuple(variant for variant, _ in found)
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
    def load(self) -> EngineLoad:
        return EngineLoad(
            threads=sum(reasoner.model.backend.open_threads for reasoner in self._reasoners),
            leaked=sum(reasoner.leaked for reasoner in self._reasoners),
        )

    def check(self, request: ReasoningRequest) -> None:
        self._prepare(request)

    async def answer(self, request: ReasoningRequest, listen: BranchListener) -> ReasoningResult:
        reasoner, problem, options = self._prepare(request)
        observer = _RunObserver(request.options.budget, listen)
        options |= {"listener": observer.observe, "cancel_scope": observer.stop}
        solution = await reasoner.solve(problem, **options)
        return _result(solution, cut=observer.stop.cancel_called)

    def _prepare(self, request: ReasoningRequest) -> tuple[Reasoner, Problem, dict[str, Any]]:
        name, n = request.variant, request.options.n
        suffixed = _N.fullmatch(name)
        if suffixed:
            name, n = suffixed[1], int(suffixed[2])
        if name not in self._choices:
            raise UnknownName(
                f"model: {request.variant!r} does not exist; choose {', '.join(self._choices)}"
            )
        reasoner, strategy = self._choices[name]
        options: dict[str, Any] = {
            "strategy": strategy,
            "n": n,
            "temperature": request.options.temperature,
            "seed": request.options.seed,
            "max_tokens": request.options.context,
            "timeout": request.options.timeout,
        }
        checked = SolveOptions(**options)
        problem = pose(request.question, trained=reasoner.model.dialect.trained)
        choose_strategy(checked, reasoner.model, problem)
        return reasoner, problem, options


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


class _RunObserver:
    """Passes a run's events on, and stops the run when its token budget is spent."""

    def __init__(self, budget: int | None, listen: BranchListener) -> None:
        self.stop = anyio.CancelScope()
        self._left = budget
        self._listen = listen

    def observe(self, event: Event) -> None:
        match event:
            case TextGenerated():
                self._listen(BranchText(branch=event.task, text=event.text))
                if self._left is not None:
                    self._left -= 1
                    if self._left <= 0:
                        self.stop.cancel()
            case TaskAdded():
                self._listen(BranchOpened(branch=event.task, name=event.name))
            case TaskEnded():
                self._listen(BranchClosed(branch=event.task, state=event.state))


def _variants(reasoner: Reasoner) -> Iterator[tuple[ModelVariant, _VariantTarget]]:
    """The model itself, which chooses by the problem, and every strategy that it can do."""
    model = reasoner.model
    created = int(find(model.name).stat().st_mtime) if model.name in shipped() else 0
    yield (
        ModelVariant(
            id=model.name,
            title=model.name,
            description="The best strategy that the model has for the problem.",
            created=created,
        ),
        _VariantTarget(reasoner, None),
    )
    for name in STRATEGIES.names:
        kind = STRATEGIES.make(name)
        if kind.needs <= model.capabilities:
            yield (
                ModelVariant(
                    id=f"{model.name}/{name}",
                    title=f"{name} on {model.name}",
                    description=_sentence(kind),
                    created=created,
                ),
                _VariantTarget(reasoner, name),
            )


def _sentence(kind: Strategy) -> str:
    """The first sentence of a strategy's docstring, without its markup."""
    paragraph = (kind.__doc__ or kind.name).strip().partition("\n\n")[0]
    return " ".join(paragraph.replace("``", "").split())


def _result(solution: Solution, *, cut: bool) -> ReasoningResult:
    usage = solution.usage
    return ReasoningResult(
        text=solution.answer,
        status=solution.status,
        cut=cut,
        verified=solution.verified,
        confidence=solution.confidence,
        strategy=solution.strategy,
        branches=len(solution.threads),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        span_tokens=usage.span_tokens,
        wall_s=solution.wall_s,
        votes=solution.votes,
    )
