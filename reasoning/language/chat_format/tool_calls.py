"""Calls of tools in what a model wrote, in the forms that chat templates teach."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

from reasoning.values.conversation import ToolCall

_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.S)
"""Hermes, Qwen and those after them."""
_MARKED = re.compile(r"\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool_call\|>")
"""Mistral, Llama 3 and Granite; the JSON follows, without an end of its own."""


def names_of(tools: Collection[Mapping[str, Any]]) -> frozenset[str]:
    """The names of OpenAI's tool objects."""
    functions = (tool.get("function") or tool for tool in tools)
    return frozenset(str(one["name"]) for one in functions if "name" in one)


def find_calls(text: str, names: Collection[str]) -> tuple[ToolCall, ...]:
    """The calls that a text asks for, of tools with these names, in order.

    Calls of other names, and what is not whole, are none.
    """
    said = text.rpartition("</think>")[2].strip()
    found = [one for place in _places(said) for one in _values(place)]
    calls = [one for one in found if isinstance(one, dict) and one.get("name") in names]
    return tuple(
        ToolCall(id=f"call_{number}", name=call["name"], arguments=_arguments(call))
        for number, call in enumerate(calls)
    )


def _places(said: str) -> list[str]:
    """The pieces of a text that may be calls: those that are marked, or else all of it."""
    marked = _TAGGED.findall(said) or _MARKED.split(said)[1:]
    return marked or ([said] if said[:1] in ("{", "[") else [])


def _values(text: str) -> Iterator[Any]:
    """JSON at the start of a text: an object, or the items of a list."""
    with suppress(ValueError):
        value, _ = json.JSONDecoder().raw_decode(text.strip())
        yield from value if isinstance(value, list) else [value]


def _arguments(call: Mapping[str, Any]) -> str:
    found = call.get("arguments", call.get("parameters", {}))
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
