"""Tasks among arguments: where they are found, and how their values take their places."""

from __future__ import annotations

import copy
import dataclasses
from collections import UserList, deque
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    ValuesView,
)
from functools import partial
from types import SimpleNamespace
from typing import Any

from orchestrator.errors import InvalidValue
from orchestrator.task import Task

ATOMS = frozenset({type(None), bool, int, float, str, bytes, complex})
"""Types whose values hold no tasks; looked up before anything else, for speed."""


def tasks_in(value: Any) -> Iterator[Task[Any]]:
    """The tasks in a value: itself, or in lists, tuples, dictionaries and dataclasses, nested.

    Raises:
        InvalidValue: a task is where no value could take its place, as in a set.
    """
    stack, seen = [value], set()
    while stack:
        found = stack.pop()
        if isinstance(found, Task):
            yield found
            continue
        if type(found) in ATOMS:
            continue
        inside = _inside(found)
        if inside and id(found) not in seen:
            seen.add(id(found))
            stack += reversed(inside)


def _inside(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, dict):
        _refuse_tasks(value, "the keys of a dictionary")
        return list(value.values())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    _refuse_tasks(_hidden(value), kind_of(value))
    return []


def _hidden(value: Any) -> Iterable[Any]:
    """What an object holds by its kind, where no value could take a task's place."""
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, (set, frozenset, deque, UserList, KeysView, ValuesView, ItemsView)):
        return value
    if isinstance(value, partial):
        return *value.args, *value.keywords.values()
    if hasattr(value, "__pydantic_fields_set__") or hasattr(type(value), "__attrs_attrs__"):
        return getattr(value, "__dict__", {}).values()
    return vars(value).values() if isinstance(value, SimpleNamespace) else ()


def kind_of(value: Any) -> str:
    """The name of a value's class, for messages."""
    return f"a {type(value).__name__}"


def _refuse_tasks(values: Any, where: str) -> None:
    for found in values:
        task = None if type(found) in ATOMS else next(tasks_in(found), None)
        if task is not None:
            raise InvalidValue(
                f"task {task.id} ({task.name}) is in {where}, where its value can't arrive; "
                "pass it as an argument, or in a list, a dictionary or a dataclass"
            )


def filled(value: Any, value_of: Callable[[Task[Any]], Any]) -> Any:
    """The same value with each task replaced; what holds no task is not copied."""
    if type(value) in ATOMS:
        return value
    if isinstance(value, Task):
        return value_of(value)
    if next(tasks_in(value), None) is None:
        return value
    if isinstance(value, (list, tuple)):
        items = [value_of(item) if type(item) is Task else filled(item, value_of) for item in value]
        if type(value) in (list, tuple):
            return type(value)(items)
        if hasattr(value, "_fields"):  # a named tuple
            return type(value)(*items)
        new: Any = copy.copy(value)
        new[:] = items
        return new
    new = copy.copy(value)
    if isinstance(value, dict):
        for key, item in value.items():
            new[key] = filled(item, value_of)
    else:
        for field in dataclasses.fields(value):
            item = filled(getattr(value, field.name, None), value_of)
            object.__setattr__(new, field.name, item)
    return new
