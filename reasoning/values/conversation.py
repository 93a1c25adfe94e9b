"""What stands around a question: a system prompt, earlier turns, tools, and how they are written.

Messages are those of OpenAI's chat interface, which servers and chat templates share.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from orchestrator.errors import InvalidValue

SYSTEM = ("system", "developer")
THINKING = ("enable_thinking", "thinking")
"""What templates call the switch for thoughts (Qwen3, GLM and others; DeepSeek, Granite)."""
MessageRole = Literal["system", "developer", "user", "assistant", "tool"]
Part = Mapping[str, Any]
"""A part of a message that has several, as ``{"type": "text", "text": ...}``."""


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One call that a model asks for, which somebody else carries out.

    Attributes:
        arguments: As JSON text, as the model wrote it.
    """

    id: str
    name: str
    arguments: str

    @property
    def whole(self) -> bool:
        """Whether its arguments are JSON; servers hand on calls that were cut in their middle."""
        with suppress(ValueError):
            json.loads(self.arguments or "{}")
            return True
        return False

    def as_field(self) -> dict[str, Any]:
        """The call as an entry of a message's ``tool_calls``."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


def calls_as_answer(calls: Sequence[ToolCall]) -> str:
    """Calls as one answer: JSON in which equal calls are equal, whatever their ids."""
    found = [{"name": call.name, "arguments": _value(call.arguments)} for call in calls]
    return json.dumps(found, sort_keys=True, ensure_ascii=False)


def _value(text: str) -> Any:
    with suppress(ValueError):
        return json.loads(text)
    return text


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn.

    Attributes:
        content: Its text; or its parts, where some of them are no text; or nothing.
        fields: What a template or server takes beside it, by its name there: ``tool_calls``,
            ``tool_call_id``, ``name``, ``reasoning_content`` and others.
    """

    role: MessageRole
    content: str | tuple[Part, ...] | None = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.role not in get_args(MessageRole):
            roles = ", ".join(get_args(MessageRole))
            raise InvalidValue(f"messages: {self.role!r} is no role; choose {roles}")

    @classmethod
    def of(cls, message: Message | Mapping[str, Any]) -> Message:
        """A message of OpenAI's chat interface; parts that are all text are joined.

        Raises:
            InvalidValue: it has no role, or its content is neither text nor parts.
        """
        if isinstance(message, Message):
            return message
        if not isinstance(message, Mapping) or "role" not in message:
            raise InvalidValue(f"messages: {str(message)[:60]!r} has no role; give one")
        rest = {name: value for name, value in message.items() if name not in ("role", "content")}
        content = message.get("content")
        if isinstance(content, Sequence) and not isinstance(content, str):
            content = _joined(content)
        elif not (content is None or isinstance(content, str)):
            raise InvalidValue(f"messages: {str(content)[:60]!r} is no content; give a text")
        return cls(role=message["role"], content=content, fields=rest)

    @property
    def text(self) -> str:
        """The text of its content, without its other parts."""
        if isinstance(self.content, str) or self.content is None:
            return self.content or ""
        return "".join(map(_text, self.content))

    @property
    def plain(self) -> bool:
        """Whether it is text and nothing else."""
        return isinstance(self.content, str) and not self.fields

    def saying(self, text: str) -> Message:
        """The same message with another text; its other parts stay."""
        if isinstance(self.content, str) or self.content is None:
            return replace(self, content=text)
        others = tuple(part for part in self.content if part.get("type") != "text")
        return replace(self, content=({"type": "text", "text": text}, *others))

    def as_dict(self) -> dict[str, Any]:
        """The message as servers and templates take it."""
        content = list(self.content) if isinstance(self.content, tuple) else self.content
        return {"role": self.role, "content": content, **self.fields}


def _text(part: Part) -> str:
    return str(part.get("text", "")) if part.get("type") == "text" else ""


def _joined(parts: Sequence[Any]) -> str | tuple[Part, ...]:
    if not all(isinstance(part, Mapping) and "type" in part for part in parts):
        raise InvalidValue("messages: a part has no type; give {'type': 'text', 'text': ...}")
    if all(part["type"] == "text" for part in parts):
        return "".join(map(_text, parts))
    return tuple(parts)


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """What surrounds a question.

    The question stands in place of the last user message.  Where there is none, or the assistant
    spoke last, the question is a new turn at the end.  A conversation may end with a tool's
    results.

    Attributes:
        messages: In order; a system message first, if any.
        tools: What the model may call, as OpenAI's tool objects.
        template: More variables for the model's chat template (``chat_template_kwargs``).
        thinking: Whether the model is to think before it answers; None leaves it to the template.
        effort: How much it is to think, in the words of the model: ``low``, ``high``, ...
    """

    messages: tuple[Message, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    template: Mapping[str, Any] = field(default_factory=dict)
    thinking: bool | None = None
    effort: str | None = None

    @classmethod
    def of(cls, messages: Iterable[Message | Mapping[str, Any]], **more: Any) -> Conversation:
        """A conversation of OpenAI's messages; ``more`` are its other fields.

        Raises:
            InvalidValue: a message is none; see `Message.of`.
        """
        return cls(messages=tuple(map(Message.of, messages)), **more)

    @property
    def goes_on(self) -> bool:
        """Whether there are turns before the question, beside what the system says."""
        return any(message.role not in SYSTEM for message in self.messages)

    @property
    def switches(self) -> dict[str, Any]:
        """Variables of chat templates, as far as they know them: thoughts, and then the rest."""
        thinking = {} if self.thinking is None else dict.fromkeys(THINKING, self.thinking)
        return {**thinking, **self.template}

    @property
    def question(self) -> str:
        """The text of the last user message; empty where there is none."""
        place = self._place
        return "" if place is None else self.messages[place].text

    def asking(self, text: str) -> tuple[Message, ...]:
        """All messages, with ``text`` as the question."""
        place = self._place
        if place is None:
            return (*self.messages, Message(role="user", content=text))
        before, after = self.messages[:place], self.messages[place + 1 :]
        return (*before, self.messages[place].saying(text), *after)

    @property
    def _place(self) -> int | None:
        """Where the question stands; None where it is a turn of its own."""
        roles = [message.role for message in self.messages]
        if not roles or "user" not in roles or roles[-1] == "assistant":
            return None
        return len(roles) - 1 - roles[::-1].index("user")


EMPTY = Conversation()
