"""How a task's function is called: what it takes, what it returns, and what crosses JSON."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, get_type_hints

import anyio.to_thread
import pydantic_core
from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from pydantic import ValidationError as Invalid

from orchestrator.errors import InvalidValue
from orchestrator.task import Task

Check = Callable[[Any], Any]
"""Returns the value as the parameter wants it, or raises `pydantic.ValidationError`."""

_RETURN = "return"


class Signature:
    """The annotations of one function, looked at only when a value has to be checked."""

    def __init__(self, function: Callable[..., Any]) -> None:
        target = _unwrapped(function)
        try:
            parameters = list(inspect.signature(target).parameters.values())
            self._hints = get_type_hints(target)
        except (TypeError, ValueError, NameError):  # a builtin, or names for type checkers only
            parameters, self._hints = [], {}
        self._positions = [p.name for p in parameters if p.kind in _POSITIONAL]
        self._rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self._skip = _given(function)
        self._checks: dict[str, Check | None] = {}

    def check(self, place: int | str, value: Any) -> Any:
        """The value of a data edge, checked against the parameter at this position or name."""
        name = place if isinstance(place, str) else self._name(place)
        if name is None:
            return value
        try:
            check = self._checks[name]
        except KeyError:
            check = self._checks[name] = _check(self._hints.get(name))
        return value if check is None else check(value)

    def restore(self, text: str) -> Any:
        """A result from its JSON, as the return annotation wants it."""
        hint = self._hints.get(_RETURN)
        adapter = None if hint is None else _adapter(hint)
        return pydantic_core.from_json(text) if adapter is None else adapter.validate_json(text)

    def _name(self, position: int) -> str | None:
        position += self._skip
        return self._positions[position] if position < len(self._positions) else self._rest


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_signatures: dict[Any, Signature] = {}
"""By code, of which a program has a fixed amount however many closures it makes."""


def signature(function: Callable[..., Any]) -> Signature:
    """The function's `Signature`, made once for all closures over the same code."""
    code = getattr(function, "__code__", None)
    found = _signatures.get(code)
    if found is None:
        found = Signature(function)
        if code is not None:
            _signatures[code] = found
    return found


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine; anything else is called in a thread."""
    code = getattr(function, "__code__", None)
    if code is not None:
        return bool(code.co_flags & inspect.CO_COROUTINE) or inspect.iscoroutinefunction(function)
    if isinstance(function, partial):
        return is_async(function.func)
    call = getattr(type(function), "__call__", None)  # noqa: B004 (the method itself is wanted)
    return inspect.iscoroutinefunction(call)


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


def why(error: Invalid) -> str:
    """The first of pydantic's complaints, in one line."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def _unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, partial):
        function = function.func
    return function


def _given(function: Callable[..., Any]) -> int:
    given = 0
    while isinstance(function, partial):
        given += len(function.args)
        function = function.func
    return given


def _check(hint: Any) -> Check | None:
    if hint is None or hint is Any or hint is object or isinstance(hint, TypeVar):
        return None
    adapter = _adapter(hint)
    if adapter is None:
        return None
    validate = partial(adapter.validate_python, strict=True)
    if not isinstance(hint, type) or hint is type(None):
        return validate

    def quick(value: Any) -> Any:
        return value if type(value) is hint else validate(value)

    return quick


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # a type with a configuration of its own
        pass
    except PydanticSchemaGenerationError:
        return None
    try:
        return TypeAdapter(hint)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return None


async def call(task: Task[Any]) -> Any:
    """Call the task's function with the values that its edges bring.

    Raises:
        InvalidValue: a value does not fit the parameter's annotation.
        Exception: whatever the function raises.
    """
    function, args, kwargs = task._function, task._args, task._kwargs
    if task._fed:
        args = tuple([_arrive(task, place, arg) for place, arg in enumerate(args)])
        if kwargs:
            kwargs = {name: _arrive(task, name, arg) for name, arg in kwargs.items()}
    executor = task._settings.executor
    if executor is not None:
        return await executor.call(task, function, args, kwargs)
    if is_async(function):
        return await function(*args, **kwargs)
    value = await _in_thread(task, partial(function, *args, **kwargs))
    return await value if inspect.isawaitable(value) else value


def _arrive(task: Task[Any], place: int | str, arg: Any) -> Any:
    if isinstance(arg, Task):
        value = arg._value
    elif type(arg) in (list, tuple) and any(isinstance(item, Task) for item in arg):
        value = type(arg)(item._value if isinstance(item, Task) else item for item in arg)
    else:
        return arg
    if not getattr(task._function, "__annotations__", True):
        return value
    try:
        return signature(task._function).check(place, value)
    except Invalid as error:
        name = place if isinstance(place, str) else f"argument {place + 1}"
        raise InvalidValue(
            f"task {task.id} ({task.name}) got a value for {name} that does not fit its "
            f"annotation ({why(error)}); change the annotation or what feeds it"
        ) from error


async def _in_thread(task: Task[Any], function: Callable[[], Any]) -> Any:
    """Call a function that blocks; a cancelled task leaves it behind, and that is recorded."""
    returned = False

    def run() -> Any:
        nonlocal returned
        try:
            return function()
        finally:
            returned = True

    try:
        return await anyio.to_thread.run_sync(
            run, abandon_on_cancel=True, limiter=task._graph.threads
        )
    except anyio.get_cancelled_exc_class():
        task.leaked = not returned
        raise
