"""Events of a planner in its graph's stream; ``task`` is empty where none is concerned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
class DeviceChanged(PlannerEvent):
    """A device is ``here``, ``away`` (not heard of) or ``gone``; ``why`` in words.

    With ``untold`` the hub elsewhere tells nothing of its devices, and ``device`` is empty.
    """

    device: str
    state: Literal["here", "away", "gone", "untold"]
    why: str = ""

    @property
    def said(self) -> str:
        """What became of the device, in words."""
        words = {"here": "is here", "away": "is not heard of", "gone": "is gone"}
        return words.get(self.state, "") + (f": {self.why}" if self.why else "")


@dataclass(frozen=True, kw_only=True)
class TaskGiven(Event):
    """A task was given to a device, the ``attempt``-th that it was given to."""

    device: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class TaskUnplaced(Event):
    """A task waits, and no connected device is able to run it; ``why`` names the nearest."""

    why: str


@dataclass(frozen=True, kw_only=True)
class TaskReported(Event):
    """How far a task is, in its device's words."""

    text: str


@dataclass(frozen=True, kw_only=True)
class TaskReturned(Event):
    """A task's value has come, as JSON text."""

    value: str


@dataclass(frozen=True, kw_only=True)
class TaskPlaced(Event):
    """A device ran a task to its end; in all, ``attempts`` devices were given the task."""

    device: str
    attempts: int
