"""Events of a planner in its graph's stream; ``task`` is empty where none is concerned."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import Event
from reasoning.planning.reply import PlannerReply


@dataclass(frozen=True, kw_only=True)
class PlannerEvent(Event):
    """Something happened to a planner's run."""

    task: str = ""


@dataclass(frozen=True, kw_only=True)
class RequestGiven(PlannerEvent):
    """The run began, for this request."""

    request: str


@dataclass(frozen=True, kw_only=True)
class RunResumed(PlannerEvent):
    """The run goes on from its journal, in which ``ended`` tasks had ended and ``left`` had not."""

    version: int
    ended: int
    left: int


@dataclass(frozen=True, kw_only=True)
class PlannerAsked(PlannerEvent):
    """The planner was asked; ``turn`` counts from 1."""

    turn: int
    version: int
    """The version of the graph that it was shown."""


@dataclass(frozen=True, kw_only=True)
class PlanApplied(PlannerEvent):
    """All edits of a plan were applied; ``version`` is the graph's version after them."""

    turn: int
    version: int
    plan: PlannerReply


@dataclass(frozen=True, kw_only=True)
class PlanRefused(PlannerEvent):
    """Nothing of a reply was applied, and the planner is told why."""

    turn: int
    reasons: tuple[str, ...]
    text: str


@dataclass(frozen=True, kw_only=True)
class AnswerGiven(PlannerEvent):
    """The planner gave the answer to the request."""

    turn: int
    answer: str


@dataclass(frozen=True, kw_only=True)
class TaskPlaced(Event):
    """A device ran a task to its end; in all, ``attempts`` devices were given the task."""

    device: str
    attempts: int
