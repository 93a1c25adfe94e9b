"""How a task's function is called: what it takes, and what its annotations say."""

from __future__ import annotations

import collections.abc
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
)
from contextlib import aclosing
from functools import partial
from operator import attrgetter
from types import AsyncGeneratorType, MethodType
from typing import (
    Any,
    ParamSpec,
    ParamSpecArgs,
    ParamSpecKwargs,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)
from weakref import WeakKeyDictionary

import anyio.to_thread

from orchestrator.editing.arguments import ATOMS, filled, kind_of
from orchestrator.errors import InvalidValue
from orchestrator.memo import remembering_last
from orchestrator.node import Node
from orchestrator.options import nearest
from orchestrator.scheduler.hedging import hedged
from orchestrator.task import Task

Check = Callable[[Any], Any]
"""Raises `ValueError` for a value that does not fit; what it returns is not used."""

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
        self._none = frozenset(p.name for p in parameters if p.default is None)
        self._rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self._hints = _hints(function)
        self._checks: dict[str, Check | None] = {}

    def keywords(self, positional: int) -> frozenset[str]:
        """The parameters that can be given by name beside so many arguments by position."""
        return self._keywords.difference(self._positions[: self._given + positional])

    @property
    def returns(self) -> Any:
        """The annotation of the result; None without one."""
        hint = self._hints.get("return")
        if get_origin(hint) in (AsyncIterator, AsyncGenerator, AsyncIterable):
            return list[get_args(hint)[0]]  # type: ignore[misc]
        return hint

    def check(self, place: int | str, value: Any) -> Any:
        """The value of a data edge, checked against the parameter at this position or name.

        Raises:
            ValueError: it does not fit.
        """
        name = place if isinstance(place, str) else self._name(place)
        if name is None or (value is None and name in self._none):
            return value
        try:
            check = self._checks[name]
        except KeyError:
            check = self._checks[name] = _check(self._hints.get(name))
        if check is not None:
            check(value)
        return value

    def _name(self, position: int) -> str | None:
        position += self._given
        return self._positions[position] if position < len(self._positions) else self._rest


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    if not inspect.isroutine(function) and not inspect.isclass(function):
        function = getattr(type(function), "__call__", function)  # noqa: B004 (the method itself)
    try:
        return get_type_hints(function)
    except Exception:  # a builtin, names for type checkers only, or no annotation at all
        return {}


_functions: WeakKeyDictionary[Callable[..., Any], Signature] = WeakKeyDictionary()
_methods: WeakKeyDictionary[Callable[..., Any], Signature] = WeakKeyDictionary()
"""By function, not by code: closures and decorated functions share code, not annotations.  Bound
methods are made anew at each access, so theirs are kept by the function below them."""


@remembering_last
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
    """Whether calling it gives a coroutine or an asynchronous generator; else a thread calls it."""
    code = getattr(function, "__code__", None)
    if code is not None:
        return bool(code.co_flags & _ASYNC) or inspect.iscoroutinefunction(function)
    if isinstance(function, partial):
        return is_async(function.func)
    call = getattr(type(function), "__call__", None)  # noqa: B004 (the method itself is wanted)
    return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)


_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def _check(hint: Any) -> Check | None:
    if hint is None or hint is Any or hint is object or _is_open(hint):
        return None
    from orchestrator.journal.codec import adapter  # pydantic, needed only where values flow

    found = adapter(hint)
    if found is None:
        return None
    kind = hint if isinstance(hint, type) and get_origin(hint) is None else None

    def check(value: Any) -> None:
        if kind is not None and type(value) is kind:
            return
        try:
            if kind is None or not isinstance(value, kind):
                found.validate_python(value, strict=True)
        except (ValueError, AssertionError):
            raise
        except Exception:
            pass

    return check


def _is_open(hint: Any) -> bool:
    """Whether an annotation can't be checked without using the value up, or at all.

    These are protocols, abstract collections, type variables, and all that contains one.
    """
    origin = get_origin(hint) or hint
    if isinstance(origin, (TypeVar, ParamSpec, ParamSpecArgs, ParamSpecKwargs)):
        return True
    if getattr(origin, "_is_protocol", False) or (isinstance(origin, type) and origin in _ABSTRACT):
        return True
    return any(map(_is_open, get_args(hint)))


_ABSTRACT = frozenset(
    found for found in vars(collections.abc).values() if isinstance(found, type)
) - {collections.abc.Callable}


def call(node: Node) -> Awaitable[Any]:
    """Call the node's function with the values that its edges bring; awaited, it gives the result.

    Raises:
        InvalidValue: a value does not fit the parameter's annotation.
        Exception: whatever the function raises.
    """
    args, kwargs = node.args, node.kwargs
    if node.fed:
        args = tuple([_arrive(node, place, arg) for place, arg in enumerate(args)])
        if kwargs:
            kwargs = {name: _arrive(node, name, arg) for name, arg in kwargs.items()}
    cache, hedge = node.settings.cache, node.settings.hedge
    if cache is None and hedge is None:
        return _once(node, args, kwargs)
    once = partial(_once, node, args, kwargs)
    maybe_twice = once if hedge is None else partial(hedged, hedge, once)
    return maybe_twice() if cache is None else cache.value(node, args, kwargs, maybe_twice)


async def _once(node: Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    function, executor = node.function, node.settings.executor
    if executor is not None:
        return await executor.call(node.task, function, args, kwargs)
    if is_async(function):
        value = function(*args, **kwargs)
        if type(value) is not AsyncGeneratorType:
            value = await value
    else:
        value = await _in_thread(node, partial(function, *args, **kwargs))
    return value if type(value) in ATOMS else await _returned(node, value)


async def _returned(node: Node, value: Any) -> Any:
    """What a function gave in the end: of a task or an awaitable, its own value.

    Raises:
        InvalidValue: a generator, or tasks within a collection, which can't be passed on.
    """
    while True:
        if isinstance(value, Task):
            if value is node.task:
                raise InvalidValue(f"{node.label} returned itself; return its id instead")
            value = await value.result()
        elif inspect.isawaitable(value):
            value = await value
        elif inspect.isasyncgen(value):
            value = await _items(node, cast("AsyncGenerator[Any, None]", value))
        else:
            break
    inside = value.values() if isinstance(value, dict) else value
    collection = isinstance(value, (dict, list, tuple, set, frozenset))
    if collection and any(issubclass(kind, Task) for kind in set(map(type, inside))):
        raise InvalidValue(
            f"{node.label} returned tasks in {kind_of(value)}; return their results instead"
        )
    if inspect.isgenerator(value):
        raise InvalidValue(
            f"{node.label} returned {kind_of(value)}, which can be read only once; "
            "return a list of what it gives"
        )
    return value


async def _items(node: Node, generator: AsyncGenerator[Any, None]) -> list[Any]:
    """What an asynchronous generator gives, each item published as a partial result."""
    items = []
    async with aclosing(generator):
        async for item in generator:
            items.append(item)
            node.scheduler.published(node, item)
    return items


_value_of = attrgetter("value")


def _arrive(node: Node, place: int | str, arg: Any) -> Any:
    value = arg.value if type(arg) is Task else filled(arg, _value_of)
    if value is arg:
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

    scheduler = node.scheduler
    scheduler.queued_elsewhere(node)
    async with scheduler.threads:
        scheduler.in_thread.add(node)
        scheduler.starts_elsewhere(node)
        try:
            return await anyio.to_thread.run_sync(
                run, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
            )
        except anyio.get_cancelled_exc_class():
            node.leaked = not returned
            raise
        finally:
            scheduler.in_thread.discard(node)
