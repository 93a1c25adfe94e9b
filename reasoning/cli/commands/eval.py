"""``reason eval``: a model on questions, by several strategies and policies, with intervals."""

from __future__ import annotations

import os
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click import Choice, FloatRange, IntRange

from orchestrator.errors import InvalidValue
from reasoning.cli.arms_table import arms_table, parallel_words
from reasoning.cli.eval_page import write_page
from reasoning.cli.interrupts import INTERRUPTED, raise_when_interrupted
from reasoning.cli.options import (
    BackendOptions,
    ChatOptions,
    Duration,
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
)
from reasoning.cli.picture import check_picture, draw, pyplot
from reasoning.cli.printing import (
    passing,
    print_object,
    print_tables,
    progress_bar,
    say,
    warn,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import anyio
    from anyio.abc import TaskStatus

    from reasoning.evaluation.arms import GradedEval
    from reasoning.evaluation.kept.records import EvalHeader, Record
    from reasoning.evaluation.kept.store import EvalStore, StoredEval
    from reasoning.evaluation.results import EvalResults, RunFigures
    from reasoning.evaluation.suites import Panel
    from reasoning.options import SolveOptions
    from reasoning.runs.record import RecordedRun

SAMPLES = 16
UNTOLD = {"suite", "quick", "dry_run", "as_json", "keep", "keep_mb"}
"""Settings that say nothing of how an evaluation went; a suite's panels stand by themselves."""


@settings_class
class EvalSettings:
    """Questions, a model, and the arms that are compared on them."""

    source: str = argument(metavar="[QUESTIONS]", required=False, default="")
    output: str | None = option(
        "Where every sample is kept; by default QUESTIONS' name and .eval.jsonl, here.",
        "--output",
        "-o",
        metavar="FILE",
    )
    samples: int | None = option(
        f"Samples of each question, over which policies are replayed; {SAMPLES} by default.",
        type=IntRange(0, 1024),
    )
    policies: tuple[str, ...] = named_option(
        "A policy, or allocation:mean=8, replayed over the samples; may be repeated.",
        "reasoning.policies:POLICIES",
        "--policy",
        multiple=True,
    )
    strategies: tuple[str, ...] = named_option(
        "A strategy, run on each question; may be repeated.  policy=NAME is its last setting.",
        "reasoning.strategies:STRATEGIES",
        "--strategy",
        multiple=True,
    )
    against: str | None = option(
        "The arm with which the others are compared, as sc:n=16.", metavar="ARM"
    )
    equal: tuple[str, ...] = option(
        "Self-consistency that the table shows: with as many traces, tokens, as long a span.",
        type=Choice(["traces", "tokens", "span"]),
        multiple=True,
        default=("tokens",),
    )
    limit: int | None = option(
        "So many questions, chosen by the seed.", "--limit", "-n", type=IntRange(min=1)
    )
    question: str | None = option("The column of questions.", metavar="COLUMN")
    gold: str | None = option("The column of right answers.", metavar="COLUMN")
    id: str | None = option("The column of ids, or else the row's number.", metavar="COLUMN")
    template: str | None = option("The question, with {column} in place of values.", metavar="TEXT")
    grader: str | None = option(
        "Who judges answers: a function (question, answer, text) -> bool, as path.py:name.",
        metavar="MODULE:NAME",
    )
    answer: str = option(
        "How an answer is read: auto, boxed, text, json or /regex/.",
        metavar="FORMAT",
        default="auto",
    )
    model: str | None = model_option(
        "As in reason solve: a shipped model, a folder, or a model's name on a server.",
    )
    draft: str | None = model_option(
        "A smaller model that drafts, for --strategy atts.", metavar="NAME|PATH"
    )
    backend: BackendOptions = field(default_factory=BackendOptions)
    chat: ChatOptions = field(default_factory=ChatOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    seed: int = option("The same seed gives the same questions and samples.", default=0)
    max_tokens: int | None = option(
        "The context of each thread, prompt included; by default the model's.", type=IntRange(16)
    )
    timeout: float | None = option(
        "The most that one sample or run may take; 60 or 15m.", type=Duration()
    )
    observe: int = option(
        "Every so many tokens, keep a sample's confidence and ask what it would answer, for "
        "policies that probe and DeepConf; 0 for none.",
        type=IntRange(0, 100_000),
        default=0,
    )
    parallel: int = option(
        "Samples or runs that are under way at once.", type=IntRange(1, 4096), default=16
    )
    workers: int = option(
        "Processes that share the work, each with the model; one that is lost is replaced.",
        type=IntRange(1, 1024),
        default=1,
    )
    shuffles: int = option(
        "Orders of each question's samples in which policies are replayed.",
        type=IntRange(1, 1000),
        default=16,
    )
    price: tuple[float, float] | None = option(
        "What a million tokens cost, given and written.",
        type=(FloatRange(0), FloatRange(0)),
        metavar="IN OUT",
    )
    suite: str | None = option(
        "In place of QUESTIONS and arms: what papers found, tried again on shipped models: apr, "
        "sharing, paths, stopping, atts or backtrack.",
        metavar="NAME",
    )
    quick: bool = option("Fewer questions of a suite.", is_flag=True)
    keeping: KeepOptions = field(default_factory=KeepOptions)
    dry_run: bool = option("Say what would be asked and what it would cost.", is_flag=True)
    as_json: bool = json_option("a table")
    plot: tuple[str, ...] = option(
        "Draw accuracy against tokens and against span; repeat for other formats.",
        metavar="FILE",
        multiple=True,
    )
    report: str | None = option(
        "Write one page of HTML: the picture, the arms, and answers worth reading.", metavar="FILE"
    )

    @cached_property
    def run_options(self) -> SolveOptions:
        """How the model is asked.

        Raises:
            InvalidValue: a value is out of range.
        """
        from reasoning.options import SolveOptions

        return SolveOptions(**self.said)

    @property
    def said(self) -> dict[str, Any]:
        """The options of `SolveOptions` that were given."""
        given: dict[str, Any] = {"seed": self.seed, "answer": self.answer}
        given |= {"max_tokens": self.max_tokens, "timeout": self.timeout}
        for group in (self.chat, self.sampling):
            given |= {name: getattr(group, name) for name in group.__dataclass_fields__}
        return {name: value for name, value in given.items() if value or _is_zero(value)}

    @property
    def path(self) -> Path:
        """The file of samples."""
        return Path(self.output or f"{Path(self.source.replace(':', '-')).stem}.eval.jsonl")

    @property
    def wanted(self) -> int:
        """How many samples of each question there are to be."""
        if self.samples is not None:
            return self.samples
        return 0 if self.strategies and not self.policies else SAMPLES

    @property
    def replayed(self) -> tuple[str, ...]:
        """The policies that are replayed."""
        if self.policies or not self.wanted:
            return self.policies
        return ("default", "sc:n=1", f"sc:n={self.wanted}")


def _is_zero(value: object) -> bool:
    """Whether it is the number, which says something where False, None and () don't."""
    return value == 0 and not isinstance(value, bool)


@click.command()
@options(EvalSettings)
def eval(settings: EvalSettings) -> int:
    """Measure a model on QUESTIONS: a file (JSON lines, CSV, Parquet) or drawn, as countdown.

    Each question is sampled once, and every policy is replayed over the same samples; a strategy
    is run on each question.  All that was sampled is in the output file at once: after Ctrl-C or a
    crash the same command goes on.

    \b
    reason eval mine.jsonl --base-url http://localhost:8000/v1 --policy default --policy sc:n=8
    reason eval countdown --limit 50 --strategy single --strategy apr:n=16
    """
    if settings.suite is not None:
        return run_suite(settings, settings.suite)
    if settings.quick:
        raise InvalidValue("quick: it is for a --suite; leave it out, or give --limit")
    if not settings.source:
        raise InvalidValue("questions: give a file, what is drawn as countdown, or --suite")
    return EvalCommand(settings).run()


def run_suite(settings: EvalSettings, name: str) -> int:
    """Evaluate the panels of a suite, each into a file of its own; returns the exit code."""
    from reasoning.evaluation.suites import SuiteResults, suite_of, tried

    panels = suite_of(name)
    if settings.source or settings.policies or settings.strategies or settings.against:
        raise InvalidValue("suite: it has questions and arms of its own; leave yours out")
    done = []
    for panel in panels:
        evaluation = None
        if not panel.lacking:
            command = EvalCommand(panel_settings(settings, panel, name))
            if settings.dry_run:
                command.foretell()
                continue
            stored = command.answers()
            if stored is None:
                return INTERRUPTED
            evaluation = command.measured(stored)[0]
            if not settings.as_json:
                command.print(evaluation)
        done.append(tried(panel, evaluation))
        if not settings.as_json:
            for claim in done[-1].claims:
                say(f"{claim}\n", err=False)
    if settings.as_json and not settings.dry_run:
        print_object(SuiteResults(suite=name, quick=settings.quick, panels=done))
    return 0


def panel_settings(settings: EvalSettings, panel: Panel, suite: str) -> EvalSettings:
    """How a panel of a suite is evaluated."""
    kept = Path(settings.output or f"{suite}.eval.jsonl")
    return replace(
        settings,
        source=panel.questions,
        output=str(kept.with_name(f"{panel.name}-{kept.name}")),
        samples=panel.samples,
        policies=panel.policies,
        strategies=panel.strategies,
        against=panel.against,
        draft=settings.draft or panel.draft,
        limit=settings.limit or (panel.quick if settings.quick else panel.limit),
        max_tokens=settings.max_tokens or panel.max_tokens,
    )


class KeptEval:
    """The record of an evaluation: one for its file, however often it goes on.

    Attributes:
        id: Under which it is kept, if it is.
    """

    def __init__(self, settings: EvalSettings) -> None:
        from reasoning.runs.record import RunJournal, RunOrigin

        given = given_options(settings)
        self.id: str | None = None
        self._settings = settings
        self._origin = RunOrigin(
            command="eval",
            settings={name: given[name] for name in given.keys() - UNTOLD},
            journal=RunJournal.at(settings.path),
        )

    def add(
        self,
        stored: StoredEval,
        questions: int,
        results: EvalResults | None = None,
        *,
        lacking: str | None = None,
    ) -> None:
        """Keep what there is; without results or what is ``lacking``, it has not ended."""
        from reasoning.evaluation.kept.summary import eval_branches, eval_report

        def record() -> RecordedRun:
            report = eval_report(
                f"{self._settings.source}, {questions:,} questions",
                stored,
                results,
                wall_s=time.time() - self._origin.began,
                lacking=lacking,
            )
            branches = () if results is None else eval_branches(results)
            ended = results is not None or lacking is not None
            return self._origin.record(report, branches, ended=ended)

        run = self._settings.keeping.add(record)
        self.id = None if run is None else run.id


class EvalCommand:
    """One run of the command."""

    def __init__(self, settings: EvalSettings) -> None:
        from reasoning.evaluation.grading import load_grader
        from reasoning.evaluation.observing import check_observed
        from reasoning.evaluation.questions import QuestionColumns, load_questions
        from reasoning.evaluation.replay import replayed_arm
        from reasoning.evaluation.run import EvalPlan, LiveArm

        self.settings = settings
        self.kept = KeptEval(settings)
        self._stopped = False
        for target in settings.plot:
            check_picture(target)  # what is wrong is told before the work
        if settings.report is not None:
            pyplot("report")
        self.steered = {text: replayed_arm(text) for text in settings.replayed}
        check_observed(self.steered, settings.observe)
        self.grader = None if settings.grader is None else load_grader(settings.grader)
        columns = {name: getattr(settings, name) for name in ("question", "gold", "id", "template")}
        self.plan = EvalPlan(
            questions=load_questions(
                settings.source,
                QuestionColumns(**columns),
                limit=settings.limit,
                seed=settings.seed,
                graded=self.grader is not None,
            ),
            samples=settings.wanted,
            arms=[LiveArm.parse(text) for text in settings.strategies],
            options=settings.run_options,
            parallel=settings.parallel,
            observe=settings.observe,
        )

    def run(self) -> int:
        """Ask what is missing, and print what came of all; returns the exit code."""
        settings = self.settings
        if settings.dry_run:
            self.foretell()
            return 0
        stored = self.answers()
        if stored is None:
            return INTERRUPTED
        results, graded = self.measured(stored)
        for target in settings.plot:
            draw(results.title, results.results, results.curve, target)
        if settings.report is not None:
            write_page(settings.report, results, graded, stored.header)
        if settings.as_json:
            print_object(results)
        else:
            self.print(results)
        if self.kept.id is not None:
            say(f"run {self.kept.id}")
        return 0

    def _kept(self) -> StoredEval:
        from reasoning.evaluation.kept.store import StoredEval

        path = self.settings.path
        return StoredEval.read(path) if path.exists() else StoredEval()

    def answers(self) -> StoredEval | None:
        """All answers, once what is missing was asked; None where that was interrupted."""
        path, stored = self.settings.path, self._kept()
        if self.plan.missing(stored):
            stored = self._ask()
            if self._stopped:
                lacking = f"{len(self.plan.missing(stored)):,} answers are missing"
                self.kept.add(stored, len(self.plan.questions), lacking=lacking)
                return None
            return stored
        if differing := stored.header.differs(self._header(self._named(stored.header.model))):
            raise InvalidValue(f"output: {path} was made with {differing}; give another file")
        return stored

    def _named(self, kept: str) -> str:
        """The name of the model that is asked for, as far as that is known without loading it."""
        from reasoning.models.catalog import name_of

        asked = self.settings.model
        if asked is None or Path(asked).is_file():  # a file's model has a name in it
            return kept
        return kept if kept in (asked, name_of(Path(asked))) else asked

    def _header(self, model: str, versions: dict[str, str] | None = None) -> EvalHeader:
        from reasoning.evaluation.kept.records import EvalHeader

        said = {name: value for name, value in self.settings.said.items() if name != "timeout"}
        said |= {"observe": self.settings.observe} if self.settings.observe else {}
        dialect = self.settings.backend.dialect
        said |= {} if dialect is None else {"dialect": dialect}
        return EvalHeader(
            model=model,
            draft=self.settings.draft,
            options=said,
            versions=versions or {},
        )

    def foretell(self) -> None:
        """Print what would be asked, and what it would cost."""
        from reasoning.evaluation.forecast import forecast

        told = forecast(self.plan, self._kept(), self.settings.price)
        if self.settings.as_json:
            print_object(told)
        else:
            say(str(told), err=False)

    # Asking.

    def _ask(self) -> StoredEval:
        """Sample and run what is missing; returns all that there is then."""
        import anyio

        from reasoning.evaluation.kept.records import versions_of

        settings = self.settings
        if settings.workers > 1:
            return anyio.run(self._ask_by_workers)
        with passing(f"loading {settings.model or 'the model'} …"):
            model = settings.backend.load(settings.model, timeout=settings.timeout)
            draft = None if settings.draft is None else named_draft(settings.draft).load()
        self.plan.check(model, draft)
        fill = partial(self.plan.fill, model=model, draft=draft)
        with self._opened(model.name, versions_of(model)) as store:
            anyio.run(self._fill, store, fill)
            return store.stored

    async def _ask_by_workers(self) -> StoredEval:
        """The same, by processes that load the model each."""
        from reasoning.evaluation.workers import EvalWorkers

        settings = self.settings
        workers = EvalWorkers(
            self.plan,
            count=settings.workers,
            model=settings.backend.named(settings.model, timeout=settings.timeout),
            draft=None if settings.draft is None else named_draft(settings.draft),
        )
        async with AsyncExitStack() as stack:
            with passing(
                f"loading {settings.model or 'the model'} in {settings.workers} workers …"
            ):
                await stack.enter_async_context(workers)
            with self._opened(workers.loaded.name, workers.loaded.versions) as store:
                await self._fill(store, workers.fill)
                return store.stored

    def _opened(self, model: str, versions: dict[str, str]) -> EvalStore:
        """The file of samples, for more of this model's."""
        from reasoning.evaluation.kept.store import EvalStore

        store = EvalStore(self.settings.path, self._header(model, versions))
        store.ask(self.plan.questions)
        raise_when_interrupted()
        self.kept.add(store.stored, len(self.plan.questions))
        return store

    async def _fill(self, store: EvalStore, fill: Callable[..., Awaitable[None]]) -> None:
        import anyio

        from reasoning.evaluation.forecast import EvalProgress

        missing = len(self.plan.missing(store.stored))
        say(f"{len(self.plan.questions)} questions, {missing} answers to ask; kept in {store.path}")
        shown = EvalProgress(self._graded(store.stored), self.settings.price)
        with progress_bar("asking", missing) as advance:

            def heard(record: Record) -> None:
                shown.add(record)
                advance(description=str(shown))
                advance()

            async with anyio.create_task_group() as group:
                await group.start(self._stop_at_signal, group.cancel_scope)
                await fill(store, heard=heard)
                group.cancel_scope.cancel()
        say(str(shown))
        left = len(self.plan.missing(store.stored))
        if left:
            what = "are missing" if self._stopped else "were lost"
            why = f" ({shown.lost})" if shown.lost else ""
            warn(f"{left} of {missing} {what}{why}; the same command goes on with {store.path}")

    async def _stop_at_signal(
        self, scope: anyio.CancelScope, *, task_status: TaskStatus[None]
    ) -> None:
        import anyio

        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                if self._stopped:
                    os._exit(INTERRUPTED)
                self._stopped = True
                scope.cancel()

    # Concluding.

    def _graded(
        self, stored: StoredEval, progress: Callable[[], None] = lambda: None
    ) -> GradedEval:
        from reasoning.evaluation.arms import GradedEval

        return GradedEval(
            stored,
            self.plan.questions,
            grader=self.grader,
            progress=progress,
        )

    def measured(self, stored: StoredEval) -> tuple[EvalResults, GradedEval]:
        """What all answers come to, and these as they were graded."""
        from reasoning.evaluation.results import EvalResults, compared, pool_figures

        settings = self.settings
        self._tell_seen()
        with progress_bar("grading", len(self.plan.questions)) as advance:
            graded = self._graded(stored, advance)
        with progress_bar("replay", len(self.steered) * len(self.plan.questions)) as advance:
            rows, curve = compared(
                graded,
                policies=self.steered,
                strategies=settings.strategies,
                against=settings.against,
                shuffles=settings.shuffles,
                progress=advance,
            )
        results = EvalResults(
            questions=settings.source,
            model=stored.header.model,
            samples=settings.wanted,
            shuffles=settings.shuffles,
            seed=settings.seed,
            pool=pool_figures(graded),
            results=rows,
            curve=curve,
        )
        self.kept.add(stored, len(self.plan.questions), results)
        return results, graded

    def _tell_seen(self) -> None:
        """Say how many questions a judge or its calibration knows, on which its arms flatter."""
        from pruning import Question
        from reasoning.evaluation.replay import fresh_to

        live = (arm.steering for arm in self.plan.arms)
        asked = [
            Question(id=one.id, right=frozenset(), traces=(), words=one.text)
            for one in self.plan.questions
        ]
        seen = len(asked) - len(fresh_to([*self.steered.values(), *live], asked))
        if seen:
            warn(
                f"a judge or its calibration has seen {seen} of {len(asked)} questions; its arms "
                "flatter there: ask others"
            )

    def print(self, results: EvalResults) -> None:
        """Print the table of arms, and what is known beside it."""
        rows = results.results
        print_tables(arms_table(results.title, rows, self.settings.equal))
        if results.pool is not None:
            say(str(results.pool), err=False)
        for row in rows:
            if row.runs is not None:
                say(f"{row.policy}: {run_words(row.runs)}", err=False)


def run_words(runs: RunFigures) -> str:
    """What is known of a strategy's runs beside the table, in one line."""
    if runs.parallel is None or runs.threads <= 1:
        return str(runs)
    return f"{runs} · {', '.join(parallel_words(runs.parallel))}"
