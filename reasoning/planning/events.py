"""What is to be seen of a planner, among its graph's events; ``task`` is mostly empty."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import Event
from reasoning.planning.plan import Plan


@dataclass(frozen=True, kw_only=True)
class RequestGiven(Event):
    """The run began, for this request."""

    task: str = ""
    request: str


@dataclass(frozen=True, kw_only=True)
class RunResumed(Event):
    """The run goes on from its journal: so many tasks had ended, and so many are left."""

    task: str = ""
    version: int
    ended: int
    left: int


@dataclass(frozen=True, kw_only=True)
class PlannerAsked(Event):
    """The planner was asked for the so-manieth time."""

    task: str = ""
    turn: int
    version: int
    """Of the graph that it was shown."""


@dataclass(frozen=True, kw_only=True)
class PlanApplied(Event):
    """All edits of a plan were checked and applied, which made this version."""

    task: str = ""
    turn: int
    version: int
    plan: Plan


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
    """A task was run by a device, the last of so many that it was given to."""

    device: str
    attempts: int
