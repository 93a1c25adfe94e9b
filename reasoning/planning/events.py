"""Events of a planner in its graph's stream; ``task`` is empty where none is concerned."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import Event
from reasoning.planning.reply import PlannerReply


@dataclass(frozen=True, kw_only=True)
class RequestGiven(Event):
    """The run began, for this request."""

    task: str = ""
    request: str


@dataclass(frozen=True, kw_only=True)
class RunResumed(Event):
    """The run goes on from its journal, in which ``ended`` tasks had ended and ``left`` had not."""

    task: str = ""
    version: int
    ended: int
    left: int


@dataclass(frozen=True, kw_only=True)
class PlannerAsked(Event):
    """The planner was asked; ``turn`` counts from 1."""

    task: str = ""
    turn: int
    version: int
    """The version of the graph that it was shown."""


@dataclass(frozen=True, kw_only=True)
class PlanApplied(Event):
    """All edits of a plan were applied; ``version`` is the graph's version after them."""

    task: str = ""
    turn: int
    version: int
    plan: PlannerReply


@dataclass(frozen=True, kw_only=True)
class PlanRefused(Event):
    """Nothing of a reply was applied, and the planner is told why."""

    task: str = ""
    turn: int
    reasons: tuple[str, ...]
    text: str


@dataclass(frozen=True, kw_only=True)
class AnswerGiven(Event):
    """The planner gave the answer to the request."""

    task: str = ""
    turn: int
    answer: str


@dataclass(frozen=True, kw_only=True)
class TaskPlaced(Event):
    """A device ran a task to its end; in all, ``attempts`` devices were given the task."""

    device: str
    attempts: int
