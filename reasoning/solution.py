"""What comes out of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator import TaskGraph, TaskState
from reasoning.domains import Problem, Verdict

Status = Literal["finished", "timed-out", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class ThreadRecord:
    """One thread as it ended.

    Attributes:
        id: Its place in the graph, such as ``"1.3"``: the third child of the first thread.
        tokens: Tokens that it generated.
        context: Those and the given ones: prompt and appended text.
        text: What it generated and what was appended to it, without its prompt.
        cut: Whether its context had no room for what it had to write or to read.
        logprob: The mean log-probability of its tokens.
    """

    id: str
    parent: str | None
    name: str
    state: TaskState
    tokens: int
    context: int
    text: str
    answer: str | None
    logprob: float | None
    cut: bool


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Token counts of a run; what threads share is counted once.

    Attributes:
        prompt_tokens: Tokens given to threads: prompts and joins.
        completion_tokens: Tokens generated, by cancelled threads too.
        work_tokens: Both together.
        span_tokens: The longest chain of tokens that depend on each other; latency's floor.
    """

    prompt_tokens: int
    completion_tokens: int
    span_tokens: int

    @property
    def work_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The answer to one problem, with its evidence.

    Attributes:
        answer: The winning answer, or None.
        verdict: The verifier's judgement of it; None without an answer or a verifier.
        votes: Votes by canonical answer, most first.
        confidence: The winner's share of all top-level threads.
        graph: The executed task graph.
    """

    problem: Problem
    strategy: str
    model: str
    status: Status
    answer: str | None
    verdict: Verdict | None
    votes: dict[str, int]
    confidence: float
    usage: Usage
    wall_s: float
    threads: tuple[ThreadRecord, ...]
    graph: TaskGraph

    @property
    def verified(self) -> bool | None:
        """Whether the verifier agreed; None where it could not be asked."""
        return None if self.verdict is None else self.verdict.ok
