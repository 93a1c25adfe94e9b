"""What is kept of a run: all that it takes to look at it, compare it and replay it later."""

from __future__ import annotations

import platform
import secrets as random
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import InvalidValue
from orchestrator.journal.codec import why
from orchestrator.views.record import TaskRecord
from protocol import Report
from pruning import Stop
from reasoning.run.solution import Solution, ThreadRecord
from reasoning.runs.secrets import hidden, hidden_settings

SCHEMA: Literal["reason.run/1"] = "reason.run/1"
LIBRARIES = ("torch", "transformers", "vllm", "openai")
"""Their versions are kept where they are loaded."""

ENDINGS = {
    "end": "ended by itself",
    "stop-text": "met a stop text",
    "max-new-tokens": "cut at its most new tokens",
    "context": "cut at its context",
    "repeats": "repeated itself",
    "lost": "lost by the backend",
    "stopped": "stopped",
}


def called(command: str) -> str:
    """What the branches of a command's run are, in the plural."""
    return {"plan": "tasks", "eval": "arms"}.get(command, "branches")


def verdict(command: str, verified: bool | None) -> str:
    """What is told of the answer of a command's run."""
    if command == "eval":
        return "right answers"
    if verified is None:
        return "not verifiable"
    return "✓ verified" if verified else "✗ rejected by the verifier"


class BranchRecord(BaseModel):
    """What a thread's report does not say: when it ran, whom it waited for, why it ended.

    Attributes:
        vote: The key that its answer votes with.
        why: Why it wrote no more, in words.
        stretches: From which token to which it wrote, on the axis that all branches share: the
            longest chain of tokens up to there.
        after: The branches that it waited for, beside its children.
        started: In seconds since the run began; None for one that never did.
        attempts: How often it was tried.
        number: By which the policy's decisions name it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    vote: str | None
    why: str
    stretches: tuple[tuple[int, int], ...]
    after: tuple[str, ...] = ()
    started: float | None = None
    ended: float | None = None
    attempts: int = 1
    number: int | None = None
    error: str | None = None


class RunJournal(BaseModel):
    """What a run writes while it goes on, and from which it can go on.

    Attributes:
        file: A plan's journal, or an evaluation's answers; the whole path.
        folder: Where the command was given, to which the paths among its settings are relative.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    folder: str

    @staticmethod
    def at(file: str | Path) -> RunJournal:
        """The journal of a command that is given here."""
        return RunJournal(file=str(Path(file).resolve()), folder=str(Path.cwd()))


class RecordedRun(BaseModel):
    """A run as it is kept; there is no secret in it.

    Attributes:
        began: In seconds since 1970.
        command: What ran it, such as ``solve``.
        settings: Those that were given, by name; secrets are ``[hidden]``.
        versions: Of Python, this package and what it has loaded.
        report: The answer, what each branch wrote, each decision of the policy, and the cost.  The
            threads of a plan are its tasks, those of an evaluation its arms.
        branches: In the order of the report's threads.
        journal: None where the run has written none.
        ended: Whether it had, when this was written; else it goes on, or was killed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal["reason.run/1"] = Field(default=SCHEMA, alias="schema")
    id: str = Field(pattern="^[0-9a-f]{8}$")
    began: float
    command: str
    settings: dict[str, Any]
    versions: dict[str, str]
    report: Report
    branches: tuple[BranchRecord, ...]
    journal: RunJournal | None = None
    ended: bool = True

    @property
    def status(self) -> str:
        """The report's, or that it had not ended."""
        return self.report.status if self.ended else "not ended"

    @classmethod
    def of(
        cls,
        solution: Solution,
        *,
        command: str,
        settings: Mapping[str, Any],
        ended: float | None = None,
        id: str | None = None,
    ) -> RecordedRun:
        """The record of a run that ended then, or just now, without the secrets it was given."""
        origin = RunOrigin(
            command=command,
            settings=settings,
            began=(ended or time.time()) - solution.wall_s,
            id=id or random.token_hex(4),
        )
        return origin.record(solution.report(), _branches(solution))

    @staticmethod
    def from_json(text: str | bytes) -> RecordedRun:
        """The run that `to_json` wrote.

        Raises:
            InvalidValue: the text is none; the message names the field.
        """
        try:
            return RecordedRun.model_validate_json(text)
        except ValidationError as error:
            raise InvalidValue(f"the run can't be read: {why(error)}; mend that field") from error

    def to_json(self, *, indent: int | None = None) -> str:
        """The run as JSON."""
        return self.model_dump_json(by_alias=True, indent=indent)


@dataclass(frozen=True, kw_only=True)
class RunOrigin:
    """What is known of a run when it begins.

    Attributes:
        began: In seconds since 1970.
        id: That of a run with a journal follows from the journal's place: there is one record of
            it, however often it went on.
    """

    command: str
    settings: Mapping[str, Any]
    began: float = field(default_factory=time.time)
    journal: RunJournal | None = None
    id: str = ""

    @property
    def run_id(self) -> str:
        """The id of its record."""
        if self.id or self.journal is None:
            return self.id
        return sha256(f"{self.command} {self.journal.file}".encode()).hexdigest()[:8]

    def record(
        self, report: Report, branches: Iterable[BranchRecord] = (), *, ended: bool = True
    ) -> RecordedRun:
        """The record of the run, without the secrets that it was given."""
        shown, secrets = hidden_settings(self.settings)
        parts = {
            "report": report.model_dump(by_alias=True),
            "branches": [one.model_dump() for one in branches],
        }
        return RecordedRun(
            id=self.run_id or random.token_hex(4),
            began=round(self.began, 3),
            command=self.command,
            settings=shown,
            versions=_versions(),
            journal=self.journal,
            ended=ended,
            **hidden(parts, secrets),
        )


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("parallel-reason")
    except PackageNotFoundError:
        own = "not installed"
    loaded = {name: sys.modules.get(name) for name in LIBRARIES}
    return {
        "parallel-reason": own,
        "python": platform.python_version(),
        **{n: str(getattr(one, "__version__", "?")) for n, one in loaded.items() if one},
    }


def _branches(solution: Solution) -> Iterator[BranchRecord]:
    tasks = {task.id: task for task in solution.graph.tasks}
    sources: dict[str, list[str]] = {}
    for edge in solution.graph.edges:
        if edge.kind != "spawn":
            sources.setdefault(edge.target, []).append(edge.source)
    stops = _stops(solution)
    for thread in solution.threads:
        task = tasks.get(thread.id)
        yield BranchRecord(
            id=thread.id,
            vote=_vote(solution, thread),
            why=_why(solution, thread, stops),
            stretches=thread.stretches,
            after=tuple(sources.get(thread.id, ())),
            number=None if thread.trace is None else thread.trace.number,
            **({} if task is None else _times(task)),
        )


def _times(task: TaskRecord) -> dict[str, Any]:
    times = {"started": task.started, "ended": task.ended}
    rounded = {name: None if at is None else round(at, 4) for name, at in times.items()}
    return {**rounded, "attempts": max(1, len(task.attempts)), "error": task.error}


def _vote(solution: Solution, thread: ThreadRecord) -> str | None:
    key = None if thread.answer is None else solution.problem.canonical(thread.answer)
    return key if key is None else solution.merged.get(key, key)


def _stops(solution: Solution) -> dict[int, str]:
    """Why the policy stopped traces, by their numbers."""
    log = () if solution.steering is None else solution.steering.log
    return {one.trace: one.reason for _, one in log if isinstance(one, Stop)}


def _why(solution: Solution, thread: ThreadRecord, stops: Mapping[int, str]) -> str:
    """Why a thread wrote no more."""
    if thread.lost is not None:
        return f"lost by the backend: {thread.lost}"
    if thread.ending != "stopped":
        return ENDINGS[thread.ending]
    trace, steered = thread.trace, solution.steering
    if trace is not None and trace.number in stops:
        return f"stopped by the policy: {stops[trace.number]}"
    if trace is not None and trace.how is None and steered is not None:
        return f"stopped as the policy had finished: {steered.finish.reason}"
    if solution.status != "finished":
        return f"stopped as the run was {solution.status}"
    return f"stopped: its task {thread.state}"
