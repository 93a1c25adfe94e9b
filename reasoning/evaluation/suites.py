"""What papers found, tried again on the shipped models: panels of arms, and claims about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from orchestrator.errors import UnknownName
from pruning.evaluation.intervals import mean_interval, share_interval
from pruning.evaluation.statistics import Verdict
from reasoning.evaluation.replay import ReplayValue
from reasoning.evaluation.results import EvalResults, EvalRow

Found = Literal["found here", "the contrary here", "undecided here", "not run here"]


@dataclass(frozen=True, kw_only=True)
class PaperClaim:
    """That an arm is better than the panel's ``against``, or than as many tokens of samples.

    Attributes:
        arm: Empty where it is not run.
        lacking: What no shipped model can do that this claim takes; it is not run then.
        than: What stands beside the arm: ``against``, or ``token_matched``.
        by: In accuracy, or by a shorter span, question by question.
    """

    words: str
    source: str
    arm: str = ""
    lacking: str = ""
    than: Literal["against", "token_matched"] = "against"
    by: Literal["accuracy", "span"] = "accuracy"

    def found(self, rows: list[EvalRow]) -> Found:
        """Whether the rows say so: by a 95 % interval over questions that excludes "no"."""
        row = next(one for one in rows if one.policy == self.arm)
        if self.by == "span":
            return self._by_span(row, next(o for o in rows if o.policy == _reference(row)))
        base = row.beside.get(self.than)
        return "undecided here" if base is None else _VERDICTS[base.verdict]

    def _by_span(self, row: EvalRow, other: EvalRow) -> Found:
        theirs = {one.question: one.span for one in other.questions}
        pairs = [(one.span, theirs[one.question]) for one in row.questions]
        shorter = sum(ours < span for ours, span in pairs)
        apart = sum(ours != span for ours, span in pairs)
        low, high = share_interval(shorter, max(1, apart))
        return _VERDICTS["better" if low > 0.5 else "worse" if high < 0.5 else "undecided"]


_VERDICTS: dict[Verdict, Found] = {
    "better": "found here",
    "worse": "the contrary here",
    "undecided": "undecided here",
}


def _reference(row: EvalRow) -> str:
    return "" if row.against is None else row.against.policy


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Arms on drawn questions of one kind.

    Attributes:
        limit, quick: How many questions, and how many where it has to be quick.
        strategies, policies, samples, against, draft: As options of ``reason eval``.
        lacking: What no shipped model can do that the panel takes; it is not run then.
    """

    name: str
    title: str
    questions: str
    claims: tuple[PaperClaim, ...]
    strategies: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    samples: int = 0
    against: str | None = None
    draft: str | None = None
    lacking: str = ""
    max_tokens: int = 512
    limit: int = 200
    quick: int = 40


class ClaimTried(ReplayValue):
    """A claim, and whether it was found here."""

    words: str
    source: str
    found: Found
    lacking: str = ""
    """Why it was not run."""

    def __str__(self) -> str:
        said = f"{self.words} ({self.source}): {self.found}"
        return f"{said}: {self.lacking}" if self.lacking else said


class PanelResults(ReplayValue):
    """One panel: its claims, and the evaluation that they were tried by."""

    name: str
    title: str
    claims: list[ClaimTried]
    evaluation: EvalResults | None = None
    """None where it was not run."""


class SuiteResults(ReplayValue):
    """What ``reason eval --suite NAME --json`` prints."""

    schema_: str = Field(default="reason.eval-suite/1", alias="schema")
    suite: str
    quick: bool
    panels: list[PanelResults]

    def outside(self, before: SuiteResults) -> Iterator[str]:
        """The arms that are not as accurate as before, within 95 %, over the questions of both."""
        for panel, other in zip(self.panels, before.panels, strict=True):
            known = other.evaluation.results if other.evaluation else []
            for row in panel.evaluation.results if panel.evaluation else []:
                asked = {one.question for one in row.questions}
                was = [
                    one.accuracy
                    for arm in known
                    for one in arm.questions
                    if arm.policy == row.policy and one.question in asked
                ]
                low, high = mean_interval(was) if len(was) == len(asked) else (0.0, -1.0)
                if not low <= row.accuracy <= high:
                    words = f"{low:.4f} to {high:.4f}" if was else "these questions"
                    yield f"{panel.name}: {row.policy}: {row.accuracy}, not {words}"


def tried(panel: Panel, evaluation: EvalResults | None) -> PanelResults:
    """The claims of a panel, held against what was measured, where it was."""

    def found(claim: PaperClaim) -> Found:
        if evaluation is None or claim.lacking:
            return "not run here"
        return claim.found(evaluation.results)

    return PanelResults(
        name=panel.name,
        title=panel.title,
        claims=[
            ClaimTried(
                words=one.words,
                source=one.source,
                found=found(one),
                lacking=one.lacking or panel.lacking,
            )
            for one in panel.claims
        ],
        evaluation=evaluation,
    )


def suite_of(name: str) -> tuple[Panel, ...]:
    """The panels of a suite.

    Raises:
        UnknownName: there is no such suite.
    """
    if name not in SUITES:
        raise UnknownName(f"suite {name!r} does not exist; choose {', '.join(SUITES)}")
    return SUITES[name]


APR = "APR, arXiv 2504.15466"
BACKTRACK = "To Backtrack or Not, arXiv 2504.07052"
PATHS = "ParaThinker, arXiv 2509.04475"
MORE_PATHS = "{} paths solve more than one"
PRUNED = "deepprune:n=16,prefix=40,k2=1,judge=pruning.judge.prefixes:same_words"
SUITES: dict[str, tuple[Panel, ...]] = {
    "apr": (
        Panel(
            name="context",
            title="spawning and joining against one thread, each with a context of 256 tokens",
            questions="countdown",
            strategies=("single", "apr:n=16"),
            against="single",
            max_tokens=256,
            claims=(
                PaperClaim(words="apr solves more at the same context", source=APR, arm="apr:n=16"),
            ),
        ),
        Panel(
            name="tokens",
            title="spawning and joining against samples with as many tokens",
            questions="countdown",
            strategies=("apr:n=16",),
            samples=8,
            policies=("sc:n=8",),
            against="sc:n=8",
            claims=(
                PaperClaim(
                    words="apr solves more for as many tokens",
                    source=APR,
                    arm="apr:n=16",
                    than="token_matched",
                ),
                PaperClaim(
                    words="apr's longest chain is shorter than that of eight samples",
                    source=APR,
                    arm="apr:n=16",
                    by="span",
                ),
            ),
        ),
    ),
    "sharing": (
        Panel(
            name="hogwild",
            title="threads that see each other's work, on five expressions at once",
            questions="several",
            strategies=("single", "hogwild:n=4"),
            against="single",
            max_tokens=1024,
            claims=(
                PaperClaim(
                    words="four workers are done in a shorter chain than one",
                    source="Hogwild! Inference, arXiv 2504.06261",
                    arm="hogwild:n=4",
                    by="span",
                ),
            ),
        ),
        Panel(
            name="group-think",
            title="threads that read each other token by token, on enumerations",
            questions="enumeration",
            strategies=("group-think:n=1", "group-think:n=4"),
            against="group-think:n=1",
            limit=40,
            quick=20,
            claims=(
                PaperClaim(
                    words="four thinkers are done in a shorter chain than one",
                    source="Group Think, arXiv 2505.11107",
                    arm="group-think:n=4",
                    by="span",
                ),
            ),
        ),
    ),
    "paths": (
        Panel(
            name="width",
            title="one to eight paths and a summary",
            questions="countdown",
            strategies=tuple(f"parathinker:n={n}" for n in (1, 2, 4, 8)),
            against="parathinker:n=1",
            claims=(
                *(
                    PaperClaim(words=MORE_PATHS.format(n), source=PATHS, arm=f"parathinker:n={n}")
                    for n in (2, 4, 8)
                ),
                PaperClaim(
                    words=MORE_PATHS.format(16),
                    source=PATHS,
                    lacking="the shipped models have identity vectors for eight paths",
                ),
            ),
        ),
    ),
    "stopping": (
        Panel(
            name="policies",
            title="policies that stop early, over the same sixteen samples",
            questions="arithmetic",
            samples=16,
            policies=(
                "default",
                "async:k=8",
                "adaptive:n=16",
                "esc:n=16,w=4",
                "saturation:k=4,n=16",
                "rounds:n=16",
                PRUNED,
                "sc:n=16",
            ),
            against="sc:n=16",
            claims=(
                PaperClaim(
                    words="stopping when votes are settled beats as many tokens of samples",
                    source="Adaptive-Consistency, arXiv 2305.11860",
                    arm="adaptive:n=16",
                    than="token_matched",
                ),
                PaperClaim(
                    words="rounds until more would hardly help beat as many tokens of samples",
                    source="TTSPM, arXiv 2505.20522",
                    arm="rounds:n=16",
                    than="token_matched",
                ),
                PaperClaim(
                    words="stopping what begins alike beats as many tokens of samples",
                    source="DeepPrune, arXiv 2510.08483",
                    arm=PRUNED,
                    than="token_matched",
                ),
            ),
        ),
    ),
    "atts": (
        Panel(
            name="draft",
            title="a small model drafts, and the model writes the steps that it finds unlikely",
            questions="arithmetic",
            strategies=("atts:n=4",),
            samples=8,
            policies=("sc:n=4",),
            against="sc:n=4",
            draft="reason-1m",
            claims=(
                PaperClaim(
                    words="a draft solves more than as many tokens of the model's samples",
                    source="ATTS, arXiv 2509.15148",
                    arm="atts:n=4",
                    than="token_matched",
                ),
            ),
        ),
    ),
    "backtrack": (
        Panel(
            name="countdown",
            title="a search in one thread against samples of solutions, by FLOPs",
            questions="countdown",
            lacking="no shipped model was trained to write a solution without a search",
            claims=(PaperClaim(words="on Countdown samples beat backtracking", source=BACKTRACK),),
        ),
        Panel(
            name="sudoku",
            title="the same on Sudoku",
            questions="sudoku",
            lacking="no shipped model does Sudoku",
            claims=(PaperClaim(words="on Sudoku backtracking beats samples", source=BACKTRACK),),
        ),
    ),
}
"""By name; what a paper compares is told by each claim's source."""
