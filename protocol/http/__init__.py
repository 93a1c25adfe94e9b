"""The HTTP server in front of any `Service`: OpenAI's interfaces and, on request, A2A."""

from __future__ import annotations

from protocol.http.service import (
    AnswerOptions,
    BranchClosed,
    BranchEvent,
    BranchOpened,
    BranchText,
    ConversationTurn,
    EngineLoad,
    ModelVariant,
    ReasoningRequest,
    ReasoningResult,
    Service,
)
from protocol.http.settings import ServerSettings

__all__ = [
    "AnswerOptions",
    "BranchClosed",
    "BranchEvent",
    "BranchOpened",
    "BranchText",
    "ConversationTurn",
    "EngineLoad",
    "ModelVariant",
    "ReasoningRequest",
    "ReasoningResult",
    "ServerSettings",
    "Service",
]
