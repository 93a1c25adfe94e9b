"""The HTTP server in front of any `Service`: OpenAI's interfaces and, on request, A2A.

The names below are imported when they are first used, so that the command line starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protocol.http.service import AnswerOptions as AnswerOptions
    from protocol.http.service import BranchClosed as BranchClosed
    from protocol.http.service import BranchEvent as BranchEvent
    from protocol.http.service import BranchOpened as BranchOpened
    from protocol.http.service import BranchText as BranchText
    from protocol.http.service import ConversationTurn as ConversationTurn
    from protocol.http.service import EngineLoad as EngineLoad
    from protocol.http.service import ModelVariant as ModelVariant
    from protocol.http.service import ReasoningRequest as ReasoningRequest
    from protocol.http.service import ReasoningResult as ReasoningResult
    from protocol.http.service import Service as Service
    from protocol.http.settings import ServerSettings as ServerSettings

_SERVICE = [
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
    "Service",
]
_HOMES = {**dict.fromkeys(_SERVICE, "service"), "ServerSettings": "settings"}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'protocol.http' has no attribute {name!r}")
    return getattr(import_module(f"protocol.http.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
