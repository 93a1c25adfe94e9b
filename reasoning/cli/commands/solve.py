"""``reason solve``: solve one problem, show the threads, print the answer."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click import Choice

from orchestrator.errors import InvalidValue
from reasoning.cli.interrupts import (
    INTERRUPTED,
    TERMINATED,
    leave_at_second_interrupt,
    raise_when_interrupted,
)
from reasoning.cli.options import (
    BackendOptions,
    ChatOptions,
    Duration,
    HubOptions,
    KeepOptions,
    SamplingOptions,
    argument,
    given_options,
    json_option,
    model_option,
    named_draft,
    named_option,
    option,
    options,
    settings_class,
    state_file,
)
from reasoning.cli.printing import passing, print_object, say, warn

if TYPE_CHECKING:
    import anyio
    from anyio.abc import TaskStatus

    from orchestrator import Event
    from orchestrator.events import Listener
    from reasoning.cli.tree import ThreadTree
    from reasoning.models.loaded import LoadedModel
    from reasoning.options import SolveOptions
    from reasoning.problems import Problem
    from reasoning.run.solution import Solution
    from reasoning.runs.live.live_run import LiveRun

UNTOLD = {"problem", "as_json", "quiet", "keep", "keep_mb"}
"""Settings that say nothing of how a run went, or stand in its record elsewhere."""
MOST_INPUT = 1_000_000  # bytes of standard input; a longer one is refused by its length
PATIENCE_S = 60.0
"""How long a run waits for a worker that has the model."""


@settings_class
class SolveSettings:
    """A problem, the model that solves it, and how."""

    problem: str = argument()
    strategy: str | None = named_option(
        "How threads share the work; by default the best that the model has.",
        "reasoning.strategies:STRATEGIES",
    )
    n: int | None = option(
        "Samples of self-consistency (16), or each apr thread's budget of children (24).", type=int
    )
    model: str | None = model_option(
        "A shipped model (reason-5m), a Hugging Face folder or org/name in its cache, a GGUF file, "
        "or a model's name on a server.",
    )
    draft: str | None = model_option(
        "A smaller model that drafts, for --strategy atts.", metavar="NAME|PATH|URL"
    )
    backend: BackendOptions = field(default_factory=BackendOptions)
    on: str = option(
        "Where threads are generated: devices are workers of a hub.",
        type=Choice(["here", "devices"]),
        default="here",
    )
    hub: HubOptions = field(default_factory=HubOptions)
    domain: str | None = named_option(
        "What kind of problem the words state; by default it is recognised for a shipped model, "
        "and any other is asked as it stands.",
        "reasoning.problems:DOMAINS",
        metavar="NAME",
    )
    answer: str = option(
        "How a free answer is read: auto, boxed, text, json or /regex/.",
        metavar="FORMAT",
        default="auto",
    )
    policy: str | None = named_option(
        "When to stop samples of self-consistency, as async:k=8.", "reasoning.policies:POLICIES"
    )
    on_tie: str = option(
        "Where votes are tied: take the first answer, sample more, or abstain.",
        type=Choice(["first", "more", "abstain"]),
        default="first",
    )
    min_confidence: float = option(
        "A winner with a smaller share of the samples counts as tied; with --on-tie.",
        type=float,
        default=0.0,
    )
    select: str = option(
        "How one of several texts is chosen where a question is open: usc asks the model, medoid "
        "compares embeddings.",
        type=Choice(["auto", "usc", "medoid", "first"]),
        default="auto",
    )
    chat: ChatOptions = field(default_factory=ChatOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    seed: int = option("The same seed gives the same tokens.", default=0)
    max_tokens: int | None = option(
        "The context of each thread, prompt included; by default the model's.", type=int
    )
    timeout: float | None = option(
        "Stop then, and answer with what there is; 60 or 15m.", type=Duration()
    )
    keeping: KeepOptions = field(default_factory=KeepOptions)
    as_json: bool = json_option()
    quiet: bool = option("No tree of threads on stderr.", "--quiet", "-q", is_flag=True)

    @property
    def run_options(self) -> SolveOptions:
        """How the run goes.

        Raises:
            UnknownName, InvalidValue: as `SolveOptions`.
        """
        from reasoning.options import SolveOptions

        known = SolveOptions.__dataclass_fields__.keys()
        given: dict[str, Any] = {}
        for group in (self, self.chat, self.sampling):
            shared = known & group.__dataclass_fields__.keys() - {"sampling"}
            given |= {name: getattr(group, name) for name in shared}
        return SolveOptions(**given)


@click.command()
@options(SolveSettings)
def solve(settings: SolveSettings) -> int:
    """Solve PROBLEM, stated in words; - reads it from standard input.

    The answer goes to stdout; the threads and the cost go to stderr.  Exits with 0 for an answer
    that the verifier did not reject, 1 for none or a rejected one or an error, 2 for wrong usage
    and 130 for Ctrl-C.

    \b
    reason solve "Use 3, 10, 21 and 23 to make 50"
    reason solve "Compute (17*3+5)*4-12" --strategy self-consistency --n 8
    """
    from reasoning.problems.recognition import check_text

    words = _standard_input() if settings.problem == "-" else settings.problem
    check_text(words)
    run_options = settings.run_options
    _check_before_loading(words, settings, run_options)
    from reasoning.cli.tree import ThreadTree

    started = time.monotonic()
    with passing(_waited_for(settings), quiet=settings.quiet):
        model = _load_model(settings)  # before Ctrl-C is ours to handle
        draft = None if settings.draft is None else named_draft(settings.draft).load()
    if model.backend.addresses and run_options.timeout is not None:  # which covers connecting
        left = run_options.timeout - (time.monotonic() - started)
        run_options = replace(run_options, timeout=max(left, run_options.timeout / 2))
    if not settings.quiet and (recognised := getattr(model.dialect, "recognised", None)):
        say(recognised)
    from reasoning.solver import set_problem

    problem = set_problem(words, run_options, trained=model.dialect.trained)
    run = SolveCommand(
        settings=settings,
        problem=problem,
        model=model,
        draft=draft,
        options=run_options,
        tree=ThreadTree(quiet=settings.quiet, unbounded=_unbounded(run_options, model)),
    )
    raise_when_interrupted()
    return run.solve()


def _unbounded(run_options: SolveOptions, model: LoadedModel) -> int:
    """The tokens that a thread may have, prompt included, where neither they nor time are bounded;
    else 0."""
    if run_options.max_new_tokens is not None or run_options.timeout is not None:
        return 0
    return min(run_options.max_tokens or model.context, model.context)


def _waited_for(settings: SolveSettings) -> str:
    """What takes time before the run begins."""
    if urls := settings.backend.base_urls:
        return f"asking {', '.join(urls)} what it can do …"
    return f"loading {settings.model or 'the shipped model'} …"


def _check_before_loading(words: str, settings: SolveSettings, run_options: SolveOptions) -> None:
    """Tell what is wrong with the options, or a shipped model's problem, before torch is imported.

    Raises:
        UnknownName, InvalidValue, ProblemRefused: as `pose`, or the options don't fit each other.
    """
    if settings.on == "devices" and settings.backend.given:
        raise InvalidValue("on: devices bring their own backends; leave out those of this machine")
    if settings.on == "here" and settings.hub.asked_for:
        raise InvalidValue("hub: its workers are used with --on devices; add it, or leave this out")
    run_options.check_draft(settings.draft)
    from reasoning.models.loading import is_trained
    from reasoning.problems import FreeForm, pose

    backend = settings.backend
    urls = backend.base_urls
    trained = is_trained(settings.model, backend=backend.backend, base_urls=urls)
    if not trained and settings.domain is None:
        return
    form = run_options.answer_format
    problem = pose(words, trained=True, domain=settings.domain, answer_format=form)
    if trained and isinstance(problem, FreeForm):
        from reasoning.language.markup_dialect import untaught

        raise untaught(problem.domain, question=words)


def _recognised(problem: Problem) -> str:
    """What the words were taken for, in one line."""
    from reasoning.problems import FreeForm

    if not isinstance(problem, FreeForm):
        return f"problem: {problem.domain}"
    checker = problem.checker
    return "problem: free-form" + (f", verified as {checker.domain}" if checker else "")


def _standard_input() -> str:
    if sys.stdin is None:
        raise InvalidValue("standard input is closed; give the problem as an argument")
    try:
        return sys.stdin.buffer.read(MOST_INPUT).decode()
    except UnicodeDecodeError as error:
        raise InvalidValue("standard input is not UTF-8; encode it as such") from error


def _load_model(settings: SolveSettings) -> LoadedModel:
    """The model here, or on the workers of a hub."""
    if settings.on == "here":
        return settings.backend.load(settings.model, timeout=settings.timeout)
    from reasoning.models.devices import DevicesSource

    submitter = settings.hub.submitter(f"solve.{os.getpid()}")
    return DevicesSource(submitter=submitter, patience_s=PATIENCE_S).load(settings.model)


@dataclass(kw_only=True, eq=False)
class SolveCommand:
    """One run of the command, and what it prints.

    Attributes:
        solution: What came out, once the run has ended.
        signal: The number of the signal that stopped it, or 0.
        kept: Under which id the run is kept, if it is.
    """

    settings: SolveSettings
    problem: Problem
    model: LoadedModel
    draft: LoadedModel | None
    options: SolveOptions
    tree: ThreadTree
    solution: Solution | None = None
    signal: int = 0
    kept: str | None = None

    def solve(self) -> int:
        """Run, print, and return the exit code."""
        import anyio

        try:
            anyio.run(self._run)
        except KeyboardInterrupt:
            if self.solution is None:
                raise
        assert self.solution is not None
        leave_at_second_interrupt()
        return self.print(self.solution)

    @cached_property
    def told(self) -> dict[str, Any]:
        """The settings that say how the run goes."""
        given = given_options(self.settings)
        return {name: given[name] for name in given.keys() - UNTOLD}

    @cached_property
    def live(self) -> LiveRun | None:
        """What shows the run as it happens, where somebody looks on, and it is to be kept."""
        if not self.settings.keeping.keep or not self._viewer.is_socket():
            return None
        from reasoning.runs.live.live_run import LiveRun

        words, name = self.problem.question, self.model.name
        return LiveRun(question=words, command="solve", model=name, settings=self.told)

    @property
    def _viewer(self) -> Path:
        return state_file("viewer.sock")

    def _keep(self, solution: Solution) -> None:
        """Keep the run, and show its end."""
        from reasoning.runs.record import RecordedRun

        id = None if self.live is None else self.live.id
        run = self.settings.keeping.add(
            lambda: RecordedRun.of(solution, command="solve", settings=self.told, id=id)
        )
        self.kept = None if run is None else run.id
        if self.live is not None:
            from reasoning.runs.page import run_data

            self.live.end(None if run is None else run_data(run))

    def print(self, solution: Solution) -> int:
        """Print the answer on stdout, the rest on stderr; returns the exit code."""
        from reasoning.cli.conclusion import conclude

        if self.settings.as_json:
            print_object(solution.report())
        elif solution.answer is not None:
            say(solution.answer, err=False)
        sys.stdout.flush()
        with contextlib.suppress(OSError):  # the answer is out; nobody reads the rest
            if not self.settings.quiet:
                say(_recognised(self.problem))
            self.tree.print()
            conclude(solution, self.settings.timeout, self.model.backend.addresses, kept=self.kept)
        if solution.status == "interrupted":
            return TERMINATED if self.signal == signal.SIGTERM else INTERRUPTED
        return 0 if solution.answer is not None and solution.verified is not False else 1

    async def _run(self) -> None:
        import anyio

        from reasoning.solver import Reasoner

        scope = anyio.CancelScope()
        how = replace(self.options, listener=self._heard, cancel_scope=scope)
        with self.tree:
            async with anyio.create_task_group() as group:
                await group.start(self._cancel_on_signal, scope)
                async with self._shown():
                    async with Reasoner(self.model, draft=self.draft) as reasoner:
                        self.solution = await reasoner.solve_with(self.problem, how)
                    self._keep(self.solution)
                group.cancel_scope.cancel()

    @property
    def _heard(self) -> Listener:
        """What hears the run's events."""
        live = self.live
        if live is None:
            return self.tree.listen

        def both(event: Event) -> None:
            self.tree.listen(event)
            live.observe(event)

        return both

    def _shown(self) -> AbstractAsyncContextManager[None]:
        """The run is shown meanwhile, where somebody looks on."""
        if self.live is None:
            return contextlib.nullcontext()
        from reasoning.runs.live.telling import shown

        return shown(self._viewer, self.live)

    async def _cancel_on_signal(
        self, scope: anyio.CancelScope, *, task_status: TaskStatus[None]
    ) -> None:
        import anyio

        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if scope.cancel_called:  # asked twice: nothing is waited for
                    self._leave()
                self.signal = number
                scope.cancel()

    def _leave(self) -> NoReturn:
        """End the process at once, with what was found, or the threads if the run has not ended."""
        self.tree.stop()
        if self.solution is not None:
            self.print(self.solution)
        else:
            self.tree.print()
            warn("interrupted twice; the run was left before it had an answer")
        sys.stderr.flush()
        os._exit(INTERRUPTED)
