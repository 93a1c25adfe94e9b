"""From a problem to a `Solution`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Self

import anyio

from orchestrator import EventStream
from orchestrator.errors import InvalidValue
from orchestrator.sync import run_sync
from pruning import Tally
from reasoning.keywords import method_takes_options, takes_options
from reasoning.language.dialect import Dialect
from reasoning.many import Batch
from reasoning.models.loaded import LoadedModel
from reasoning.models.loading import is_trained, load_model
from reasoning.options import BatchOptions, ModelOptions, SolveOptions
from reasoning.problems import Problem, pose
from reasoning.problems.recognition import check_text, with_format
from reasoning.run.run import Run
from reasoning.run.solution import SelectedBy, Solution, Status, ThreadRecord, Usage
from reasoning.run.telemetry import traced
from reasoning.run.thread import Thread
from reasoning.strategies import Strategy
from reasoning.strategies.support import support
from reasoning.values.conversation import EMPTY
from reasoning.values.sampling import Sampling


def choose_strategy(options: SolveOptions, model: LoadedModel, problem: Problem) -> Strategy:
    """The strategy asked for, checked against the model; by default the best that it has.

    Raises:
        CapabilityMissing: the strategy needs what the model lacks.
        ProblemRefused: the model can't do problems of this kind.
    """
    default = "" if options.strategy else model.dialect.default_strategy(problem)
    strategy = options.strategy_or(default)
    support(strategy, model).check(model.name)
    return strategy


class Reasoner:
    """A loaded model that solves problems, several at once if asked::

    async with Reasoner(load_model()) as reasoner:
        solution = await reasoner.solve("Use 3, 10, 21 and 23 to make 50")
    """

    def __init__(self, model: LoadedModel, *, draft: LoadedModel | None = None) -> None:
        """``draft`` is a smaller model beside it, for strategies of two.

        What these learn of the two stands in ``learnt``, by policy, for the runs that follow.
        """
        self.model = model
        self.draft = draft
        self.learnt: dict[str, Any] = {}
        self._entered = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for model in filter(None, (self.model, self.draft)):
                await stack.enter_async_context(model.backend)
            self._entered = stack.pop_all()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._entered.__aexit__(*error)

    @property
    def leaked(self) -> int:
        """Tokens generated for threads after they were closed."""
        return self.model.backend.leaked

    @method_takes_options(SolveOptions)
    async def solve(self, problem: str | Problem, options: SolveOptions) -> Solution:
        """Solve one problem; the options are those of `SolveOptions`.

        Raises:
            TypeError: an option does not exist.
            ReasonError: by its leaf, what can't be done and how to mend it.
        """
        return await self.solve_with(problem, options)

    @method_takes_options(BatchOptions)
    async def solve_many(
        self, problems: Sequence[str | Problem], options: BatchOptions
    ) -> list[Solution]:
        """Solve many problems under one budget; those whose votes are open get more samples.

        The budget is counted in tokens: `Allocation.mean` times the mean sample of the first round,
        for each problem.  A later round begins where its expected tokens fit into what is left.
        Timeout and ``cancel_scope`` end all runs with what there is; their ``status`` is
        ``interrupted``.  To have other processes solve them there is `reasoning.pool.SolvePool`.

        Returns:
            The solutions in the order of the problems.

        Raises:
            TypeError: an option does not exist.
            ReasonError: by its leaf, what can't be done and how to mend it.
        """
        return await Batch(solve=self.solve_with, problems=problems, options=options).run()

    async def solve_with(self, problem: str | Problem, options: SolveOptions) -> Solution:
        """`solve`, with the options as one object."""
        problem = set_problem(problem, options, trained=self.model.dialect.trained)
        strategy = choose_strategy(options, self.model, problem)
        run = self._run(problem, strategy, options)
        started = time.monotonic()
        tally: Tally | None = None
        scope = options.cancel_scope or anyio.CancelScope()
        try:
            with (
                traced(run, strategy=strategy.name, model=self.model.name),
                anyio.move_on_after(options.timeout) as limit,
                scope,
            ):
                found = await strategy.solve(run)
                if not isinstance(found, Tally):
                    raise InvalidValue(
                        f"strategy {strategy.name!r} returned {found!r} from solve; return "
                        "self.tally(run)"
                    )
                tally = await run.merged(found)
        finally:
            run.close()
            if self.draft is not None:
                self.draft.backend.release(list(run.segments))
        await self.model.backend.settle()
        status: Status = "finished"
        if tally is None:
            status = "timed-out" if limit.cancelled_caught else "interrupted"
            tally = strategy.tally(run)
        wall = time.monotonic() - started
        return summarise(run, strategy, tally, self.model.name, status, wall)

    def _run(self, problem: Problem, strategy: Strategy, options: SolveOptions) -> Run:
        events = EventStream()
        if options.listener is not None:
            events.subscribe(options.listener)
        model, steering = self.model, options.steering
        dialect = spoken(model, options)
        draft = self.draft and replace(self.draft, dialect=spoken(self.draft, options))
        sampling = drawing(model, strategy, options)
        return Run(
            problem=problem,
            backend=model.backend,
            dialect=dialect,
            temperature=sampling.temperature,
            seed=options.seed,
            policy=None if steering is None else steering.policy,
            judge=options.judge if steering is None else steering.judge,
            scorer=options.scorer if steering is None else steering.scorer,
            draft=draft,
            model=model.name,
            memory=self.learnt,
            sampling=replace(sampling, extra={**dialect.fields, **sampling.extra}),
            emulated=set(dialect.emulated),
            election=options.election,
            ends_repetition=not (options.allow_repetition or dialect.trained),
            max_tokens=min(options.max_tokens or model.context, model.context),
            events=events,
        )


def spoken(model: LoadedModel, options: SolveOptions) -> Dialect:
    """How a model is spoken to in the conversation around a question.

    Raises:
        CapabilityMissing: the model can't be given a part of it.
    """
    talk, instruction = options.surroundings, options.instruction
    said = talk != EMPTY or instruction is not None
    return model.dialect.within(talk, instruction=instruction) if said else model.dialect


def drawing(model: LoadedModel, strategy: Strategy, options: SolveOptions) -> Sampling:
    """How tokens are drawn: as the options say, then the model's makers, then the strategy.

    A server's own temperature stands, unless the strategy needs samples that differ.
    """
    asked = options.sampling
    own = model.sampling.items()
    given: dict[str, Any] = {name: by for name, by in own if getattr(asked, name) is None}
    heat = asked.temperature if asked.temperature is not None else given.get("temperature")
    usual = strategy.temperature(trained=model.dialect.trained)
    if heat is None and (model.samples_itself is False or (usual and not model.samples_itself)):
        heat = usual
    return replace(asked, **{**given, "temperature": heat})


def set_problem(problem: str | Problem, options: SolveOptions, *, trained: bool) -> Problem:
    """The problem that a model is set, with the form of its answer.

    Raises:
        UnknownName, InvalidValue, ProblemRefused: as `pose`.
    """
    if not isinstance(problem, str):
        if not hasattr(problem, "question"):
            raise InvalidValue(f"problem: {problem!r} is neither a text nor a Problem; give one")
        return with_format(problem, options.answer_format)
    return pose(
        problem, trained=trained, domain=options.domain, answer_format=options.answer_format
    )


async def _solve(problem: str | Problem, options: ModelOptions) -> Solution:
    model, draft = options.model, options.draft
    if not isinstance(model, LoadedModel):
        urls = () if options.base_url is None else (options.base_url,)
        if isinstance(problem, str):
            check_text(problem)
        if options.domain or is_trained(model, backend=options.backend, base_urls=urls):
            problem = set_problem(problem, options, trained=True)  # what is wrong is told at once
        model = load_model(model, backend=options.backend, base_urls=urls)
    elif options.backend is not None or options.base_url is not None:
        raise InvalidValue("backend: the model is loaded already; leave it out")
    if draft is not None and not isinstance(draft, LoadedModel):
        draft = load_model(draft)
    async with Reasoner(model, draft=draft) as reasoner:
        return await reasoner.solve_with(problem, options)


@takes_options(ModelOptions)
async def solve(problem: str | Problem, options: ModelOptions) -> Solution:
    """Solve one problem, stated in words or as a `Problem`; the options are `ModelOptions`.

    Raises:
        TypeError: an option does not exist.
        ReasonError: by its leaf, what can't be done and how to mend it.
    """
    return await _solve(problem, options)


@takes_options(ModelOptions)
def solve_sync(problem: str | Problem, options: ModelOptions) -> Solution:
    """`solve` for code without an event loop, and for notebooks, where one runs already."""
    return run_sync(partial(_solve, problem, options))


def summarise(
    run: Run, strategy: Strategy, tally: Tally, model: str, status: Status, wall: float
) -> Solution:
    """What a run that has ended comes to."""
    threads = list(run.threads.values())
    if run.selected is not None and run.selected[0] in tally.votes:
        tally = replace(tally, winner=run.selected[0])
    refusal = None if run.decided else run.election.refusal(tally)
    winner: Thread | None = None
    if tally.winner is not None and refusal is None:
        winner = next(t for t in threads if run.key(t.answer) == tally.winner)
    answer = None if winner is None else winner.answer
    speaker = threads[0] if winner is None and len(threads) == 1 else winner
    completion = sum(thread.written + thread.dropped for thread in threads) + run.probe_tokens
    if any(thread.timing_dependent for thread in threads):
        run.emulated.add("timing-dependent")
    ignored = run.dialect.ignored.union(*(thread.ignored for thread in threads))
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
            leaked_tokens=sum((t.options.observer or t).leaked for t in threads),
            discarded_tokens=sum(thread.discarded for thread in threads),
            **_sent(threads),
        ),
        wall_s=wall,
        threads=tuple(_record(thread, _behind(run)) for thread in threads),
        graph=run.graph.record(),
        steering=run.steering,
        tree=run.tree,
        errors=tuple(dict.fromkeys(thread.lost for thread in threads if thread.lost)),
        parallelism=completion / max([1, *(thread.chain for thread in threads)]) or 1.0,
        emulated=tuple(sorted(run.emulated)),
        answer_source="none" if winner is None else winner.answer_source,
        final_text=None if speaker is None else speaker.final_text,
        tied=tally.tied,
        join_skipped=run.join_skipped,
        fork_refused=run.fork_refused,
        refusals=tuple(run.refusals),
        forked=run.forked,
        merged=run.merged_keys,
        ignored=tuple(sorted(ignored)),
        tool_calls=() if speaker is None else speaker.tool_calls,
        selected_by=_selected_by(run, tally),
        abstained=refusal,
        parallel=run.parallel,
    )


def _selected_by(run: Run, tally: Tally) -> SelectedBy | None:
    """How the answer was chosen among several; None where there was no choice."""
    if tally.winner is None or sum(tally.votes.values()) < 2:
        return None
    return "votes" if run.selected is None else run.selected[1]


def _sent(threads: Sequence[Thread]) -> dict[str, int]:
    """What was sent as prompts, and came from a prefix cache, as fields of `Usage`."""
    sent = [thread.sent for thread in threads]
    known = [cached for _, cached in sent if cached is not None]
    cached = {"cached_tokens": sum(known)} if known else {}
    return {"sent_tokens": sum(prompted for prompted, _ in sent), **cached}


def _behind(run: Run) -> int:
    """The tick at which a policy left its run to threads that it does not steer, or 0."""
    steered = any(thread.options.observer for thread in run.threads.values())
    return run.steering.clock if steered and run.steering is not None else 0


def _record(thread: Thread, behind: int) -> ThreadRecord:
    task, observer = thread.task, thread.options.observer
    trace = observer.record() if observer else None
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
        trace=trace,
        cached=thread.sent[1],
        lost=thread.lost,
        answer_source=thread.answer_source,
        tool_calls=thread.tool_calls,
        said=thread.last_text or thread.own_text,
        ending=thread.ending if task.state == "succeeded" else "stopped",
        stretches=thread.stretches(trace.start if trace else behind),
    )
