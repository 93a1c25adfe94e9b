"""How a task's function is called: what it takes, and what its annotations say."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import MethodType
from typing import Any, TypeVar, get_type_hints
from weakref import WeakKeyDictionary

import anyio.to_thread

from orchestrator.errors import InvalidValue
from orchestrator.node import Node
from orchestrator.options import nearest
from orchestrator.task import Task

Check = Callable[[Any], Any]
"""Returns the value as the parameter wants it, or raises `ValueError`."""

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Signature:
    """The parameters and annotations of one function.

    Attributes:
        open: Whether it takes any keyword; also if its parameters can't be known, as of builtins.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._given = 0
        while isinstance(function, partial):
            self._given += len(function.args)
            function = function.func
        try:
            parameters = list(inspect.signature(function).parameters.values())
            self.open = any(p.kind is p.VAR_KEYWORD for p in parameters)
        except (TypeError, ValueError):
            parameters, self.open = [], True
        self._positions = [p.name for p in parameters if p.kind in _BY_POSITION]
        self._keywords = frozenset(p.name for p in parameters if p.kind in _BY_NAME)
        self._rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self._hints = _hints(function)
        self._checks: dict[str, Check | None] = {}

    def keywords(self, positional: int) -> frozenset[str]:
        """The parameters that can be given by name beside so many arguments by position."""
        return self._keywords.difference(self._positions[: self._given + positional])

    @property
    def returns(self) -> Any:
        """The return annotation; None without one."""
        return self._hints.get("return")

    def check(self, place: int | str, value: Any) -> Any:
        """The value of a data edge, checked against the parameter at this position or name.

        Raises:
            ValueError: it does not fit.
        """
        name = place if isinstance(place, str) else self._name(place)
        if name is None:
            return value
        try:
            check = self._checks[name]
        except KeyError:
            check = self._checks[name] = _check(self._hints.get(name))
        return value if check is None else check(value)

    def _name(self, position: int) -> str | None:
        position += self._given
        return self._positions[position] if position < len(self._positions) else self._rest


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    if not inspect.isroutine(function) and not inspect.isclass(function):
        function = getattr(type(function), "__call__", function)  # noqa: B004 (the method itself)
    try:
        return get_type_hints(function)
    except (TypeError, NameError):  # a builtin, or names for type checkers only
        return {}


_functions: WeakKeyDictionary[Callable[..., Any], Signature] = WeakKeyDictionary()
_methods: WeakKeyDictionary[Callable[..., Any], Signature] = WeakKeyDictionary()
"""By function, not by code: closures and decorated functions share code, not annotations.  Bound
methods are made anew at each access, so theirs are kept by the function below them."""


def signature(function: Callable[..., Any]) -> Signature:
    """The function's `Signature`, made once as long as the function lives."""
    kept, key = _functions, function
    if isinstance(function, MethodType):
        kept, key = _methods, function.__func__
    try:
        found = kept.get(key)
    except TypeError:  # it can't be hashed, or not be referred to weakly
        return Signature(function)
    if found is None:
        found = kept[key] = Signature(function)
    return found


def check_keywords(
    function: Callable[..., Any],
    positional: int,
    options: Mapping[str, Any],
    keywords: Mapping[str, Any],
) -> None:
    """Refuse keywords that the function does not take, and options that could be meant for it.

    Raises:
        InvalidValue: it names the keyword, and what to write instead.
    """
    found = signature(function)
    takes = found.keywords(positional)
    for option, value in options.items():
        if value is not None and option in takes:
            raise InvalidValue(
                f"{option!r} is an option of the task and a parameter of {name_of(function)}; "
                f"for the parameter, write kwargs={{{option!r}: ...}}"
            )
    for keyword in keywords:
        if keyword not in takes and not found.open:
            raise InvalidValue(
                f"{keyword!r} is no option of a task and no parameter of {name_of(function)}; "
                f"{nearest(keyword, takes | options.keys())}"
            )


def name_of(function: Callable[..., Any]) -> str:
    """What people call a function: its own name, or its class's."""
    return str(getattr(function, "__name__", type(function).__name__))


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine; anything else is called in a thread."""
    code = getattr(function, "__code__", None)
    if code is not None:
        return bool(code.co_flags & inspect.CO_COROUTINE) or inspect.iscoroutinefunction(function)
    if isinstance(function, partial):
        return is_async(function.func)
    call = getattr(type(function), "__call__", None)  # noqa: B004 (the method itself is wanted)
    return inspect.iscoroutinefunction(call)


def _check(hint: Any) -> Check | None:
    if hint is None or hint is Any or hint is object or isinstance(hint, TypeVar):
        return None
    from orchestrator.journal.codec import adapter  # pydantic, needed only where values flow

    found = adapter(hint)
    if found is None:
        return None
    validate = partial(found.validate_python, strict=True)
    if not isinstance(hint, type) or hint is type(None):
        return validate

    def quick(value: Any) -> Any:
        return value if type(value) is hint else validate(value)

    return quick


async def call(node: Node) -> Any:
    """Call the node's function with the values that its edges bring.

    Raises:
        InvalidValue: a value does not fit the parameter's annotation.
        Exception: whatever the function raises.
    """
    function, args, kwargs = node.function, node.args, node.kwargs
    if node.fed:
        args = tuple([_arrive(node, place, arg) for place, arg in enumerate(args)])
        if kwargs:
            kwargs = {name: _arrive(node, name, arg) for name, arg in kwargs.items()}
    executor = node.settings.executor
    if executor is not None:
        return await executor.call(node.task, function, args, kwargs)
    if is_async(function):
        return await function(*args, **kwargs)
    value = await _in_thread(node, partial(function, *args, **kwargs))
    return await value if inspect.isawaitable(value) else value


def _arrive(node: Node, place: int | str, arg: Any) -> Any:
    if isinstance(arg, Task):
        value = arg.value
    elif type(arg) in (list, tuple) and any(isinstance(item, Task) for item in arg):
        value = type(arg)(item.value if isinstance(item, Task) else item for item in arg)
    else:
        return arg
    if not getattr(node.function, "__annotations__", True):
        return value
    try:
        return signature(node.function).check(place, value)
    except ValueError as error:
        from orchestrator.journal.codec import why

        name = place if isinstance(place, str) else f"argument {place + 1}"
        raise InvalidValue(
            f"{node.label} got a value for {name} that does not fit its "
            f"annotation ({why(error)}); change the annotation or what feeds it"
        ) from error


async def _in_thread(node: Node, function: Callable[[], Any]) -> Any:
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
            run, abandon_on_cancel=True, limiter=node.scheduler.threads
        )
    except anyio.get_cancelled_exc_class():
        node.leaked = not returned
        raise
