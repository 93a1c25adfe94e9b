"""From a problem to a `Solution`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import anyio

from orchestrator import EventStream, Listener
from orchestrator.errors import InvalidValue
from pruning import Judge, Policy, Tally
from reasoning.errors import CapabilityMissing
from reasoning.models.catalog import Model
from reasoning.models.draft import Side
from reasoning.models.loading import AnyModel
from reasoning.problems import Countdown, Covered, Problem, Several, recognise
from reasoning.run.driver import the_policy
from reasoning.run.run import Run, Thread
from reasoning.run.solution import Solution, Status, ThreadRecord, Usage
from reasoning.run.trace import TraceThread
from reasoning.strategies import STRATEGIES, SelfConsistency, Strategy, named
from reasoning.values.sampling import Constraint, Sampling


class Options(TypedDict, total=False):
    """How to solve a problem; everything has a sensible default."""

    strategy: str | None
    """A name from `reasoning.strategies`, perhaps with settings (``hogwild:layout=contiguous``);
    by default the best that the model has."""
    n: int | None
    """Samples of self-consistency, or the budget of children of each apr thread."""
    policy: str | Policy[Any] | None
    """What steers the samples: a policy, or its name and parameters, as ``async:k=8``."""
    judge: Judge | None
    """For policies that ask whether two traces will agree."""
    temperature: float | None
    """0 is greedy; by default the strategy's own."""
    seed: int
    """The same seed gives the same tokens."""
    max_tokens: int | None
    """The context of each thread, prompt included; by default the model's whole context."""
    timeout: float | None
    """Seconds, loading not counted, after which the run answers with what there is."""
    priority: int
    """Threads of a lower value are served first; needs a backend with priorities."""
    constraint: Constraint | None
    """A form that what threads write must have; needs a backend with structured output."""
    adapter: str | None
    """A LoRA adapter of the backend, by name."""
    listener: Listener | None
    """Receives every event of the run."""
    stop: anyio.CancelScope | None
    """A new scope for this run; cancelling it stops the run in the same way as the timeout."""


def check_options(options: Options) -> None:
    """Refuse what can be refused before a model is loaded.

    Raises:
        UnknownName: there is no such strategy.
        InvalidValue: a value is out of range.
    """
    name, n, policy = options.get("strategy"), options.get("n"), options.get("policy")
    kind, settings = (None, {}) if name is None else named(name)
    if n is not None and "n" in settings:
        raise InvalidValue("n: given twice, by itself and with the strategy; leave one out")
    if policy is not None:
        the_policy(policy)
        if n is not None:
            raise InvalidValue("n: the policy says how many; leave it out, or give policy sc:n=N")
        if kind is not None and not kind.steerable:
            takes = ", ".join(key for key, kind in STRATEGIES.items() if kind.steerable)
            raise InvalidValue(f"policy: strategy {name!r} takes none; use {takes}")
    most = kind.most_n if kind else 1024
    if n is not None and not 1 <= n <= most:
        raise InvalidValue(f"n: {n} is out of range; {name or 'a strategy'} takes 1 to {most}")
    Sampling(temperature=options.get("temperature") or 0.0)
    timeout, max_tokens = options.get("timeout"), options.get("max_tokens")
    if timeout is not None and not timeout > 0:
        raise InvalidValue(f"timeout: {timeout:g} is not a time; give seconds above 0")
    if max_tokens is not None and max_tokens < 16:
        raise InvalidValue(f"max-tokens: {max_tokens} is too small; give at least 16")


def choose_strategy(name: str | None, n: int | None, model: AnyModel, problem: Problem) -> Strategy:
    """The named strategy, checked against the model; by default the best that the model has.

    Raises:
        UnknownName: there is no such strategy.
        InvalidValue: ``n`` is out of its range.
        CapabilityMissing: the strategy needs what the model lacks.
    """
    if name is None:
        spawning = "spawn-join" in model.capabilities and isinstance(problem, Countdown)
        name = "apr" if spawning else "self-consistency" if model.shipped else "single"
        if isinstance(problem, Covered) and "shared-threads" in model.capabilities:
            name = "multiverse" if isinstance(problem, Several) else "group-think"
    check_options({"strategy": name, "n": n})
    kind, settings = named(name)
    missing = kind.needs - model.capabilities - set(kind.emulates)
    if missing:
        raise CapabilityMissing(
            f"strategy {kind.name!r} needs {', '.join(sorted(missing))}, which {model.name} lacks; "
            "use single or self-consistency"
        )
    return kind(**{"n": n or kind.default_n, **settings})


class Reasoner:
    """A loaded model that solves problems, several at once if asked::

    async with Reasoner(Model.load()) as reasoner:
        solution = await reasoner.solve("Use 3, 10, 21 and 23 to make 50")
    """

    def __init__(self, model: AnyModel, *, draft: AnyModel | None = None) -> None:
        """``draft`` is a smaller model beside it, for strategies of two."""
        self.model = model
        self.draft = draft
        self._backend = model.backend()
        self._side = None if draft is None else draft.backend()
        self._beside: Side | None = None
        if draft is not None and self._side is not None:
            self._beside = Side(
                name=draft.name,
                backend=self._side,
                dialect=draft.dialect,
                max_tokens=draft.context,
            )
        self._entered = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for backend in filter(None, (self._backend, self._side)):
                await stack.enter_async_context(backend)
            self._entered = stack.pop_all()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._entered.__aexit__(*error)

    @property
    def open_threads(self) -> int:
        """Threads of the backend that are not closed."""
        return self._backend.open_threads

    @property
    def leaked(self) -> int:
        """Tokens generated for threads after they were closed."""
        return self._backend.leaked

    async def solve(
        self,
        problem: str | Problem,
        **options: Unpack[Options],
    ) -> Solution:
        """Solve one problem; the arguments are those of `solve`."""
        check_options(options)
        model = self.model
        temperature, timeout = options.get("temperature"), options.get("timeout")
        max_tokens, listener = options.get("max_tokens"), options.get("listener")
        if isinstance(problem, str):
            problem = recognise(problem)
        policy, name = options.get("policy"), options.get("strategy")
        if policy is not None and name is None:
            name = SelfConsistency.name
        chosen = choose_strategy(name, options.get("n"), model, problem)
        heat = chosen.default_temperature if temperature is None else temperature
        context = model.context
        events = EventStream()
        if listener is not None:
            events.subscribe(listener)
        run = Run(
            problem=problem,
            backend=self._backend,
            dialect=model.dialect,
            temperature=heat,
            seed=options.get("seed", 0),
            policy=None if policy is None else the_policy(policy),
            judge=options.get("judge"),
            draft=self._beside,
            sampling=Sampling(
                priority=options.get("priority", 0),
                constraint=options.get("constraint"),
                adapter=options.get("adapter"),
            ),
            max_tokens=min(max_tokens or context, context),
            events=events,
        )
        started = time.monotonic()
        tally: Tally | None = None
        scope = options.get("stop") or anyio.CancelScope()
        try:
            with anyio.move_on_after(timeout) as limit, scope:
                tally = await chosen.solve(run)
        finally:
            run.close()
            if self._side is not None:
                self._side.release(list(run.segments))
        await self._backend.settle()
        status: Status = "finished"
        if tally is None:
            status = "timed-out" if limit.cancelled_caught else "interrupted"
            tally = chosen.tally(run)
        return summarise(run, chosen, tally, model.name, status, time.monotonic() - started)


async def solve(
    problem: str | Problem,
    *,
    model: AnyModel | str | Path | None = None,
    draft: AnyModel | str | Path | None = None,
    **options: Unpack[Options],
) -> Solution:
    """Solve one problem.

    Args:
        problem: The problem, or its words.
        model: A loaded model on any backend, the name of a shipped one, or a Hugging Face folder.
        draft: A smaller model in the same forms, for strategies of two, such as atts.
        options: See `Options`.

    Raises:
        ReasonError: by its leaf, what can't be done and how to mend it.
    """
    if isinstance(problem, str):
        problem = recognise(problem)  # this and the options before the model is loaded
    check_options(options)
    if model is None or isinstance(model, str | Path):
        model = Model.load(model)
    if isinstance(draft, str | Path):
        draft = Model.load(draft)
    async with Reasoner(model, draft=draft) as reasoner:
        return await reasoner.solve(problem, **options)


def solve_sync(
    problem: str | Problem,
    *,
    model: AnyModel | str | Path | None = None,
    draft: AnyModel | str | Path | None = None,
    **options: Unpack[Options],
) -> Solution:
    """`solve` for code without an event loop."""
    return anyio.run(partial(solve, problem, model=model, draft=draft, **options))


def summarise(
    run: Run, strategy: Strategy, tally: Tally, model: str, status: Status, wall: float
) -> Solution:
    """What a run that has ended comes to."""
    threads = list(run.threads.values())
    answer = None
    if tally.winner is not None:
        answer = next(
            t.answer
            for t in threads
            if t.answer and run.problem.canonical(t.answer) == tally.winner
        )
    completion = sum(thread.written for thread in threads) + run.aside
    return Solution(
        problem=run.problem,
        strategy=strategy.name,
        model=model,
        status=status,
        answer=answer,
        verdict=None if answer is None else run.problem.verify(answer),
        votes=tally.votes,
        confidence=tally.confidence,
        usage=Usage(
            prompt_tokens=run.graph.work - completion,
            completion_tokens=completion,
            span_tokens=run.graph.span,
            leaked_tokens=sum(t.trace.leaked for t in threads if isinstance(t, TraceThread)),
            **_sent(threads),
        ),
        wall_s=wall,
        threads=tuple(map(_record, threads)),
        graph=run.graph,
        steering=run.steering,
        errors=tuple(dict.fromkeys(thread.lost for thread in threads if thread.lost)),
        parallelism=completion / max([1, *(thread.chain for thread in threads)]) or 1.0,
        emulated=tuple(sorted(run.emulated)),
    )


def _sent(threads: Sequence[Thread]) -> dict[str, int]:
    """What was sent as prompts, and came from a prefix cache, as fields of `Usage`."""
    sent = [thread.sent for thread in threads]
    known = [cached for _, cached in sent if cached is not None]
    cached = {"cached_tokens": sum(known)} if known else {}
    return {"sent_tokens": sum(prompted for prompted, _ in sent), **cached}


def _record(thread: Thread) -> ThreadRecord:
    task = thread.task
    return ThreadRecord(
        id=task.id,
        parent=task.parent.id if task.parent else None,
        name=task.name,
        state=task.state,
        tokens=thread.written,
        context=thread.given + thread.written,
        text=thread.text,
        answer=thread.answer,
        logprob=thread.logprob / thread.written if thread.written else None,
        cut=thread.cut,
        trace=thread.trace.record() if isinstance(thread, TraceThread) else None,
        cached=thread.sent[1],
        lost=thread.lost,
    )
