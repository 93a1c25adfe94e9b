"""The report of a finished run, as ``reason solve --json`` prints it and a worker sends it."""

from __future__ import annotations

from typing import Any, Literal

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
    leaked_tokens: int = Field(default=0, ge=0)
    """Generated for threads after they were told to stop, as far as known."""
    cached_tokens: int | None = Field(default=None, ge=0)
    """Tokens of prompts that came from the backend's prefix cache, where it says."""


class TraceReport(_Message):
    """What a policy was told of a thread that it steered."""

    how: Literal["finished", "length", "stopped"] | None
    """How it ended; null where it was aborted with the run."""
    probes: tuple[tuple[int, str | None], ...] = ()
    """After how many tokens it was asked for its answer, and the answer, as a key for votes."""
    confidences: tuple[float, ...] = ()
    """Means over each stretch of the policy's grid, where it asked for them."""
    score: float | None = None
    """What a scorer or the verifier gave its answer, where a policy asked."""


class DecisionReport(_Message):
    """What a policy decided, why, and after how many observations; fields by kind."""

    told: int = Field(ge=0)
    do: str
    reason: str
    trace: int | None = None
    """From 0, in the order of launch."""
    others: tuple[int, ...] | None = None
    count: int | None = None
    probe_every: int | None = None
    limit: int | None = None
    mark: int | None = None
    answer: str | None = None


class ChoiceReport(_Message):
    """How well a controller chose the steps that a larger model wrote."""

    steps: int = Field(ge=0)
    escalated: int = Field(ge=0)
    strangest: float | None = None
    """The share of the escalated among as many strangest steps; by chance escalated / steps."""
    auroc: float | None = None
    """P(a chain with a wrong answer has a stranger mean than one with a right one)."""


class AnswerNodeReport(_Message):
    """An answer in a tree of them: who wrote it, whose answer it was to better, its score."""

    thread: str
    parent: str | None
    score: float


class AnswerTreeReport(_Message):
    """The answers that a search went through, and who scored them."""

    scorer: str
    nodes: tuple[AnswerNodeReport, ...]


class SteeringReport(_Message):
    """What a policy did in a run."""

    policy: str
    seed: int
    grid: int = Field(ge=1)
    """Tokens between observations of a trace."""
    clock: int = Field(ge=0)
    """The tick at which it finished, in tokens."""
    tokens: int = Field(ge=0)
    """Of all traces up to there."""
    leaked: int = Field(ge=0)
    probes: int = Field(ge=0)
    probe_tokens: int = Field(ge=0)
    judged: int = Field(ge=0)
    judge_tokens: int = Field(ge=0)
    reason: str
    decisions: tuple[DecisionReport, ...]
    choice: ChoiceReport | None = None
    scorer: str | None = None
    """Who scored the traces, where the policy asked for that: a scorer's name, or ``verifier``."""
    timing_dependent: bool = False
    """Whether it may decide otherwise another time: pieces of text were counted for tokens."""


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
    trace: TraceReport | None = None
    cached: int | None = Field(default=None, ge=0)
    """Tokens of its prompts that came from the prefix cache, where the backend says."""
    lost: str | None = None
    """Why the backend lost it, if it did."""
    answer_source: str = "none"
    """Where its answer stood."""
    ending: str = "end"
    """Why it wrote no more: end, stop-text, max-new-tokens, context, repeats, lost or stopped."""


class ParallelReport(_Message):
    """What a run's branches cost and saved, as papers count it; prompts are left out."""

    tokens: int = Field(ge=0)
    """Written by all threads or given to them on the way."""
    longest_thread: int = Field(ge=0)
    """The longest chain of these: what is no branch's, and of branches side by side the longest."""
    parallel_tokens: int = Field(ge=0)
    """Those in blocks of branches."""
    written: int = Field(ge=0)
    """Those that a model wrote."""
    critical_path: int = Field(ge=0)
    """The longest chain of these."""
    acceleration: float
    """ThreadWeaver's: 1 - longest_thread / tokens."""
    parallel_ratio: float = Field(ge=0)
    """ThreadWeaver's: parallel_tokens / tokens."""
    degree: float = Field(ge=0)
    """Multiverse's #parallel: written / critical_path."""


class Report(_Message):
    """One run: its answer, its cost, its threads."""

    schema_: Literal["reason.solve/1"] = Field(default=SCHEMA, alias="schema")
    status: Literal["finished", "timed-out", "interrupted"]
    problem: str
    domain: str | None = None
    """What kind of problem it was taken for, such as ``free-form``."""
    answer: str | None
    answer_source: str = "none"
    """Where the answer stood: box, cue, text, pattern, json or none."""
    final_text: str | None = None
    """All that the thread of the answer wrote after its thoughts."""
    verified: bool | None
    reason: str | None
    """The verifier's words."""
    votes: dict[str, int]
    confidence: float = Field(ge=0, le=1)
    tied: bool = False
    """Whether another answer had as many votes."""
    selected_by: Literal["votes", "score", "usc", "medoid", "first"] | None = None
    """How the answer was chosen among several; null where there was no choice."""
    abstained: str | None = None
    """Why the answer with most votes was not given, where ties were to have none."""
    merged: dict[str, str] = Field(default_factory=dict)
    """Keys that algebra found equal to another one, and the key that they voted with."""
    strategy: str
    model: str
    usage: UsageReport
    wall_s: float = Field(ge=0)
    threads: tuple[ThreadReport, ...]
    steering: SteeringReport | None = None
    """What the policy that steered the threads did, if one did and finished."""
    tree: AnswerTreeReport | None = None
    """The answers that a tree search went through."""
    errors: tuple[str, ...] = ()
    """What went wrong without ending the run."""
    parallelism: float = Field(default=1.0, ge=0)
    """Tokens generated, over those of the longest chain of threads."""
    parallel: ParallelReport | None = None
    """The same and more, as papers count it."""
    saved_tokens: int | None = Field(default=None, ge=0)
    """About how many tokens more as many full samples would have written; an estimate."""
    emulated: tuple[str, ...] = ()
    """What the strategy did in place of what the backend lacks."""
    join_skipped: str | None = None
    """Why the thread that was to conclude from the others gave no answer."""
    fork_refused: str | None = None
    """Why a fork that a thread asked for was not made; the last one."""
    refusals: tuple[str, ...] = ()
    """All such reasons, each with its thread."""
    forked: bool | None = None
    """Whether a model that forks by itself did; null where that is not its own choice."""
    ignored: tuple[str, ...] = ()
    """What was asked for and had no effect, by name."""
    tool_calls: tuple[dict[str, Any], ...] = ()
    """What the answer asks others to do, as entries of OpenAI's ``tool_calls``."""
