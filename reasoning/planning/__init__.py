"""Constellations: a language model plans tasks on devices as a graph, and edits it."""

from __future__ import annotations

from reasoning.planning.chat_client import Chat, ChatClient
from reasoning.planning.constellation import Constellation
from reasoning.planning.events import (
    AnswerGiven,
    DeviceChanged,
    PlanApplied,
    PlannerAsked,
    PlanRefused,
    RunResumed,
    TaskGiven,
    TaskPlaced,
    TaskReported,
    TaskReturned,
    TaskUnplaced,
)
from reasoning.planning.pilot import ModelPilot
from reasoning.planning.reply import PlannerReply
from reasoning.planning.reply_schema import ReplyBounds
from reasoning.planning.state import ConstellationResult, PlannedTask, Status

__all__ = [
    "AnswerGiven",
    "Chat",
    "ChatClient",
    "Constellation",
    "ConstellationResult",
    "DeviceChanged",
    "ModelPilot",
    "PlanApplied",
    "PlanRefused",
    "PlannedTask",
    "PlannerAsked",
    "PlannerReply",
    "ReplyBounds",
    "RunResumed",
    "Status",
    "TaskGiven",
    "TaskPlaced",
    "TaskReported",
    "TaskReturned",
    "TaskUnplaced",
]
