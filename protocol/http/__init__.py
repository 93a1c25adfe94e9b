"""The HTTP server in front of any `Service`: OpenAI's interfaces and, on request, A2A.

The names below are imported when they are first used, so that the command line starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protocol.http.contract.conversation import ConversationTurn as ConversationTurn
    from protocol.http.contract.conversation import FunctionCall as FunctionCall
    from protocol.http.contract.options import AnswerOptions as AnswerOptions
    from protocol.http.contract.options import OutputForm as OutputForm
    from protocol.http.contract.options import ToolOffer as ToolOffer
    from protocol.http.contract.results import ChosenAnswer as ChosenAnswer
    from protocol.http.contract.results import ReasoningResult as ReasoningResult
    from protocol.http.service import BranchChosen as BranchChosen
    from protocol.http.service import BranchClosed as BranchClosed
    from protocol.http.service import BranchEvent as BranchEvent
    from protocol.http.service import BranchOpened as BranchOpened
    from protocol.http.service import BranchText as BranchText
    from protocol.http.service import EngineLoad as EngineLoad
    from protocol.http.service import ModelVariant as ModelVariant
    from protocol.http.service import ReasoningRequest as ReasoningRequest
    from protocol.http.service import RunPlan as RunPlan
    from protocol.http.service import RunStopped as RunStopped
    from protocol.http.service import Service as Service
    from protocol.http.service import unknown_variant as unknown_variant
    from protocol.http.settings import ServerSettings as ServerSettings

_NAMES = {
    "contract.conversation": ["ConversationTurn", "FunctionCall"],
    "contract.options": ["AnswerOptions", "OutputForm", "ToolOffer"],
    "contract.results": ["ChosenAnswer", "ReasoningResult"],
    "service": [
        "BranchChosen",
        "BranchClosed",
        "BranchEvent",
        "BranchOpened",
        "BranchText",
        "EngineLoad",
        "ModelVariant",
        "ReasoningRequest",
        "RunPlan",
        "RunStopped",
        "Service",
        "unknown_variant",
    ],
    "settings": ["ServerSettings"],
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'protocol.http' has no attribute {name!r}")
    return getattr(import_module(f"protocol.http.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
