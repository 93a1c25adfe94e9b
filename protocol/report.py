"""The report of a finished run, as ``reason solve --json`` prints it and a worker sends it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator import TaskState

SCHEMA: Literal["reason.solve/1"] = "reason.solve/1"


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class UsageReport(_Message):
    """Token counts; what threads share is counted once."""

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    work_tokens: int = Field(ge=0)
    span_tokens: int = Field(ge=0)


class ThreadReport(_Message):
    """One thread: its id says whose child it is, ``1.3`` being the third child of ``1``."""

    id: str
    parent: str | None
    name: str
    state: TaskState
    tokens: int = Field(ge=0)
    text: str
    answer: str | None
    logprob: float | None


class Report(_Message):
    """One run: its answer, its cost, its threads."""

    schema_: Literal["reason.solve/1"] = Field(default=SCHEMA, alias="schema")
    status: Literal["finished", "timed-out", "interrupted"]
    problem: str
    answer: str | None
    verified: bool | None
    reason: str | None
    """The verifier's words."""
    votes: dict[str, int]
    confidence: float = Field(ge=0, le=1)
    strategy: str
    model: str
    usage: UsageReport
    wall_s: float = Field(ge=0)
    threads: tuple[ThreadReport, ...]
