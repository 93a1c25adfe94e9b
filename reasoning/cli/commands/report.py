"""``reason report``: an evaluation's file as one page."""

from __future__ import annotations

import shlex
from dataclasses import field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click import IntRange

from orchestrator.errors import InvalidValue
from reasoning.cli.commands.kept.samples import answers_of, run_called
from reasoning.cli.eval_page import write_page
from reasoning.cli.options import (
    RunStoreOptions,
    argument,
    named_option,
    option,
    options,
    settings_class,
)
from reasoning.cli.printing import progress_bar, say

if TYPE_CHECKING:
    from reasoning.evaluation.kept.store import StoredEval


@settings_class
class ReportSettings:
    """An evaluation's file, and the arms that the page compares."""

    stored: str = argument(metavar="EVAL|RUN")
    place: RunStoreOptions = field(default_factory=RunStoreOptions)
    out: str | None = option(
        "The page; by default EVAL's name and .html, here.", "--out", "-o", metavar="FILE"
    )
    policies: tuple[str, ...] = named_option(
        "A policy that is replayed over the samples; may be repeated.",
        "reasoning.policies:POLICIES",
        "--policy",
        multiple=True,
    )
    against: str | None = option(
        "The arm with which the others are compared, as sc:n=16.", metavar="ARM"
    )
    grader: str | None = option(
        "Who judges answers: a function (question, answer, text) -> bool, as path.py:name.",
        metavar="MODULE:NAME",
    )
    shuffles: int = option(
        "Orders of each question's samples in which policies are replayed.",
        type=IntRange(1, 1000),
        default=16,
    )
    opened: bool = option("Show it in the browser.", "--open", is_flag=True)

    @property
    def target(self) -> Path:
        """The page."""
        return Path(self.out or f"{Path(self.stored).name.removesuffix('.jsonl')}.html")

    @property
    def again(self) -> str:
        """The command that makes the page again."""
        parts = ["reason", "report", self.stored]
        for policy in self.policies:
            parts += ["--policy", policy]
        for name in ("against", "grader"):
            value = getattr(self, name)
            parts += [] if value is None else [f"--{name}", value]
        return shlex.join([*parts, "--shuffles", str(self.shuffles)])


@click.command()
@options(ReportSettings)
def report(settings: ReportSettings) -> None:
    """Write EVAL, a file of reason eval or a kept RUN of it, as one page; print the page's name.

    Nothing is asked: the page has accuracy over tokens and over span, each arm with its interval
    and what it gains, paired by question, the answers worth reading, and how they were asked.

    \b
    reason report mine.eval.jsonl --policy default --policy sc:n=8 --against sc:n=16
    """
    run = run_called(settings.stored, settings.place)
    if run is not None:
        settings = replace(settings, stored=str(answers_of(run)))
    ReportCommand(settings).run()


class ReportCommand:
    """One run of the command."""

    def __init__(self, settings: ReportSettings) -> None:
        self.settings = settings

    @cached_property
    def stored(self) -> StoredEval:
        """What the file holds.

        Raises:
            InvalidValue: it can't be read, or has no answer.
        """
        from reasoning.evaluation.kept.store import StoredEval

        found = StoredEval.read(Path(self.settings.stored))
        if not (found.samples or found.runs):
            raise InvalidValue(f"eval: {self.settings.stored} has no answer yet; ask with eval")
        return found

    @property
    def samples(self) -> int:
        """The most samples that a question has."""
        return max((len(found) for found in self.stored.samples.values()), default=0)

    @property
    def policies(self) -> tuple[str, ...]:
        """Those that are replayed."""
        if self.settings.policies or not self.samples:
            return self.settings.policies
        return tuple(dict.fromkeys(("default", "sc:n=1", f"sc:n={self.samples}")))

    def run(self) -> None:
        """Replay, compare, and write the page."""
        from reasoning.evaluation.arms import GradedEval
        from reasoning.evaluation.grading import load_grader
        from reasoning.evaluation.replay import replayed_arm
        from reasoning.evaluation.results import EvalResults, compared, pool_figures

        settings, stored = self.settings, self.stored
        steered = {text: replayed_arm(text) for text in self.policies}
        grader = None if settings.grader is None else load_grader(settings.grader)
        questions = list(stored.questions.values())
        graded = GradedEval(stored, questions, grader=grader)
        with progress_bar("replay", len(steered) * len(questions)) as advance:
            rows, curve = compared(
                graded,
                policies=steered,
                strategies=list(stored.runs),
                against=settings.against,
                shuffles=settings.shuffles,
                progress=advance,
            )
        results = EvalResults(
            questions=Path(settings.stored).name,
            model=stored.header.model,
            samples=self.samples,
            shuffles=settings.shuffles,
            seed=int(stored.header.options.get("seed", 0)),
            pool=pool_figures(graded),
            results=rows,
            curve=curve,
        )
        write_page(str(settings.target), results, graded, stored.header, settings.again)
        say(str(settings.target), err=False)
        if settings.opened:
            click.launch(settings.target.resolve().as_uri())
