"""Constellations: a language model plans tasks on devices as a graph, and edits it."""

from __future__ import annotations

from reasoning.planning.chat_client import ChatMind, Mind
from reasoning.planning.constellation import Constellation
from reasoning.planning.events import (
    PlanApplied,
    PlanGiven,
    PlannerAsked,
    PlanRefused,
    RunResumed,
    StepPlaced,
)
from reasoning.planning.grammar import Bounds
from reasoning.planning.pilot import ModelPilot
from reasoning.planning.schema import Plan
from reasoning.planning.state import Outcome, Status, StepRecord

__all__ = [
    "Bounds",
    "ChatMind",
    "Constellation",
    "Mind",
    "ModelPilot",
    "Outcome",
    "Plan",
    "PlanApplied",
    "PlanGiven",
    "PlanRefused",
    "PlannerAsked",
    "RunResumed",
    "Status",
    "StepPlaced",
    "StepRecord",
]
