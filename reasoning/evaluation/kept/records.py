"""What an evaluation leaves on disk: a header, the questions, and a line for each sample or run."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import metadata
from math import isnan
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from reasoning.models.loaded import LoadedModel
from reasoning.problems import Covered
from reasoning.run.solution import Ending, Solution, StepChoice
from reasoning.values.accounting import ParallelStats

SCHEMA: Literal["reason.eval/1"] = "reason.eval/1"


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="forbid")


class EvalHeader(_Line):
    """What all samples of a file have in common; another value is another file.

    Attributes:
        options: How the model is asked, by the names of `SolveOptions`, as far as it was said.
        versions: Of this package and of what generates; they may differ between lines of a file.
    """

    schema_: Literal["reason.eval/1"] = Field(default=SCHEMA, alias="schema")
    model: str
    draft: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)

    def differs(self, other: EvalHeader) -> str:
        """What another header would change, in words; empty where nothing is."""
        before = {"model": self.model, "draft": self.draft, **self.options}
        now = {"model": other.model, "draft": other.draft, **other.options}
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        return ", ".join(f"{name} {before.get(name)!r}, not {now.get(name)!r}" for name in names)


class QuestionRecord(_Line):
    """One question, with all that a grader needs."""

    kind: Literal["question"] = "question"
    id: str
    text: str
    gold: list[str] = []
    domain: str | None = None
    fields: dict[str, Any] = {}


class SampleRecord(_Line):
    """One sample of a question.

    Attributes:
        sample: Which one, from 0.
        tokens, prompt_tokens: Written, and given.
        logprob: The mean log-probability of its tokens; None where the backend does not tell it.
        ending: Why it wrote no more.
        lost: Why the backend lost it; it is asked for again.
        confidences, probes, every: What was observed each ``every`` tokens, where it was.
    """

    kind: Literal["sample"] = "sample"
    question: str
    sample: int
    seed: int
    text: str = ""
    answer: str | None = None
    answer_source: str = "none"
    tokens: int = 0
    prompt_tokens: int = 0
    logprob: float | None = None
    ending: Ending = "end"
    lost: str | None = None
    wall_s: float = 0.0
    confidences: list[float] = []
    probes: list[str | None] = []
    every: int = 0


class StrategyRun(_Line):
    """One run of a strategy on a question.

    Attributes:
        arm: The strategy as it was written.
        tokens, prompt_tokens: Written by all threads and probes, and given to them.
        span: The longest chain of written tokens that depend on each other.
        threads: How many there were.
        leaked: Tokens written after they were no longer wanted.
        coverage: How much of a problem with parts the answer covers.
        choice: Of a strategy of two models.
        emulated: What was done in place of what the backend lacks.
        parallel: What its branches cost and saved, as papers count it; None in older files.
        forked: Whether a model that forks by itself did; None where that is not its own choice.
        lost: Why there is no answer, where the run failed; it is tried again.
    """

    kind: Literal["run"] = "run"
    question: str
    arm: str
    seed: int
    text: str = ""
    answer: str | None = None
    answer_source: str = "none"
    confidence: float = 0.0
    tokens: int = 0
    prompt_tokens: int = 0
    span: int = 0
    threads: int = 0
    leaked: int = 0
    coverage: float | None = None
    choice: StepChoice | None = None
    emulated: list[str] = []
    errors: list[str] = []
    parallel: ParallelStats | None = None
    forked: bool | None = None
    lost: str | None = None
    wall_s: float = 0.0


Record: TypeAlias = SampleRecord | StrategyRun


def sample_record(question: str, sample: int, seed: int, solution: Solution) -> SampleRecord:
    """The record of a run of one sample."""
    if not solution.threads:
        lost = solution.errors[0] if solution.errors else solution.status
        return SampleRecord(question=question, sample=sample, seed=seed, lost=lost)
    thread = solution.threads[0]
    return SampleRecord(
        question=question,
        sample=sample,
        seed=seed,
        text=thread.text,
        answer=thread.answer,
        answer_source=thread.answer_source,
        tokens=thread.tokens,
        prompt_tokens=solution.usage.prompt_tokens,
        logprob=None if isnan(thread.logprob or 0.0) else thread.logprob,
        ending=thread.ending,
        lost=thread.lost if solution.status == "finished" else solution.status,
        wall_s=round(solution.wall_s, 3),
    )


def run_record(question: str, arm: str, seed: int, solution: Solution) -> StrategyRun:
    """The record of a run of a strategy."""
    problem, answer = solution.problem, solution.answer
    covered = problem.coverage(answer or "") if isinstance(problem, Covered) else None
    lost: str | None = None if solution.status == "finished" else solution.status
    if answer is None and solution.errors:
        lost = solution.errors[0]
    return StrategyRun(
        question=question,
        arm=arm,
        seed=seed,
        text=solution.final_text or "",
        answer=answer,
        answer_source=solution.answer_source,
        confidence=round(solution.confidence, 4),
        tokens=solution.usage.completion_tokens,
        prompt_tokens=solution.usage.prompt_tokens,
        span=round(solution.usage.completion_tokens / (solution.parallelism or 1)),
        threads=len(solution.threads),
        leaked=solution.usage.leaked_tokens,
        coverage=covered,
        choice=solution.steering.choice if solution.steering else None,
        emulated=list(solution.emulated),
        errors=list(solution.errors),
        parallel=solution.parallel,
        forked=solution.forked,
        lost=lost,
        wall_s=round(solution.wall_s, 3),
    )


def versions_of(model: LoadedModel) -> dict[str, str]:
    """The versions of what generates: our packages here, or the server as it names itself."""
    found: dict[str, str] = {}
    for name in ("parallel-reason", "torch", "transformers", "vllm"):
        if name == "parallel-reason" or name in sys.modules:
            with suppress(metadata.PackageNotFoundError):
                found[name] = metadata.version(name)
    profile = getattr(model.backend, "profile", None)
    if profile is not None:
        found[f"server {profile.server}"] = profile.version or "of an unknown version"
    return found
