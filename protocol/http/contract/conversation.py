"""A conversation as a request brings it: turns, the parts of their content, calls of tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

TurnRole = Literal["system", "developer", "user", "assistant", "tool"]


@dataclass(frozen=True, kw_only=True)
class FunctionCall:
    """A tool that a model wants called; nothing is called here.

    Attributes:
        arguments: As the model wrote them, usually a JSON object.
        id: The name by which the tool's answer refers to it.
    """

    name: str
    arguments: str
    id: str = ""

    @property
    def canonical(self) -> str:
        """What equal calls share: the name, and the arguments without order and spaces."""
        try:
            arguments = json.loads(self.arguments or "{}")
        except ValueError:
            arguments = self.arguments
        return json.dumps([self.name, arguments], sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True)
class ConversationTurn:
    """One message of a conversation.

    Attributes:
        text: Its parts of text, joined.
        parts: All of its parts in order, as OpenAI's chat writes them, where some are no text.
        thoughts: What an assistant thought, where the client sends that back.
        calls: The tools that an assistant wanted called.
        call_id: Which of these calls a tool's message answers.
        name: Who says it, where the client names somebody.
        place: Where it stands in the request, such as ``messages[2]``, for messages about it.
    """

    role: TurnRole
    text: str
    parts: tuple[Mapping[str, Any], ...] = ()
    thoughts: str = ""
    calls: tuple[FunctionCall, ...] = ()
    call_id: str | None = None
    name: str | None = None
    place: str = ""
