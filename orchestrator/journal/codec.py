"""Values as JSON and back, by their annotations; the one place that knows how pydantic does it."""

from __future__ import annotations

from typing import Any

import pydantic_core
from pydantic import ConfigDict, PydanticUserError, TypeAdapter
from pydantic import ValidationError as Invalid

from orchestrator.errors import InvalidValue


def adapter(hint: Any) -> TypeAdapter[Any] | None:
    """What checks and reads values of an annotation; None for one that pydantic can't use."""
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # a type with a configuration of its own
        pass
    except Exception:  # whatever is wrong with an annotation, it can't be used
        return None
    try:
        return TypeAdapter(hint)
    except Exception:
        return None


def to_json(value: Any, task: str) -> str:
    """The value as JSON.

    Raises:
        InvalidValue: it can't be written as JSON.
    """
    try:
        return pydantic_core.to_json(value).decode()
    except (pydantic_core.PydanticSerializationError, ValueError) as error:
        raise InvalidValue(
            f"the result of task {task} can't be journaled as JSON ({error}); return JSON "
            "values, dataclasses or pydantic models, or run without a journal"
        ) from error


def why(error: ValueError) -> str:
    """The first of pydantic's complaints, in one line; the whole of any other error's text."""
    if not isinstance(error, Invalid):
        return str(error)
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def from_json(text: str, hint: Any) -> Any:
    """The value that a text holds, as its annotation wants it; None for no annotation.

    Raises:
        ValueError: it does not fit.
    """
    found = None if hint is None else adapter(hint)
    return pydantic_core.from_json(text) if found is None else found.validate_json(text)
