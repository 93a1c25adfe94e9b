"""What a task is, as text: its function, its arguments and its edges; equal if it is the same.

A function is known by its module, its name and the digest of its code (or by ``version=``), with
the plain values that it reads of functions around it, and the texts and functions of its module.
An argument counts by its value; a task among the arguments by its own key in the journal.
"""

from __future__ import annotations

import dataclasses
import enum
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import blake2b
from operator import itemgetter
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

from orchestrator.editing.arguments import ATOMS
from orchestrator.errors import told
from orchestrator.journal.identity import IDENTITY, is_own, module_of
from orchestrator.journal.reads import names_read, read_from
from orchestrator.memo import remembering_last
from orchestrator.node import Node
from orchestrator.task import Task

DEEPEST = 100
"""Levels of collections, one in the other, that are looked into."""

_digests: WeakKeyDictionary[CodeType, str] = WeakKeyDictionary()


def short(text: str) -> str:
    """The text itself if it is short, else its digest."""
    if len(text) <= 64:
        return text
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@remembering_last
def function_name(function: Callable[..., Any]) -> str:
    """The name of a function, with its module."""
    identity = getattr(function, IDENTITY, None)
    if identity is not None:
        return f"{identity[0]} {function_name(identity[1])}"
    if isinstance(function, partial):
        return function_name(function.func)
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{module_of(named)}:{named.__qualname__}"


def fingerprint(node: Node, key_of: Callable[[str], str]) -> str:
    """What the task is; ``key_of`` gives the key of the task with an id.

    What comes before a bar is the task's own; after it are the keys of those that it waits for.
    """
    parts: list[str] = []
    tasks: list[str] = []
    _call(node.function, node.settings.version, node.args, node.kwargs, parts, tasks)
    for edge in node.inbound:
        if edge.kind == "control":
            parts.append(f"after {edge.when}")
            tasks.append(edge.source.id)
    own = short(_text(parts))
    return f"{own}|{short(','.join(map(key_of, tasks)))}" if tasks else own


def own_part(mark: str) -> str:
    """The part of a fingerprint that says nothing of other tasks."""
    own, bar, _ = mark.rpartition("|")
    return own if bar else mark


def call_print(
    function: Callable[..., Any],
    version: str | None,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> str:
    """What a call is, whatever task makes it."""
    parts: list[str] = []
    _call(function, version, args, kwargs, parts, [])
    return short(_text(parts))


def _call(
    function: Callable[..., Any],
    version: str | None,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    parts: list[str],
    tasks: list[str],
) -> None:
    if version is not None:
        parts.append(f"{function_name(function)}@{version}")
    elif (known := _known(function)) is not None:
        parts.append(known)
    else:
        _Walk(parts, tasks).function(function)
    for arg in args:
        if type(arg) is Task:
            parts.append("task")
            tasks.append(arg.id)
        elif type(arg) in ATOMS:
            parts.append(repr(arg))
        else:
            _Walk(parts, tasks).value(arg)
    if kwargs:
        _Walk(parts, tasks).value(kwargs)


@remembering_last
def _known(function: Any) -> str | None:
    """The text of a plain function, which stays the same, made once; None of any other."""
    if type(function) is not FunctionType or function.__closure__ or function.__dict__:
        return None
    if function.__defaults__ or function.__kwdefaults__ or names_read(function.__code__):
        return None
    text = _texts.get(function)
    if text is None:
        parts: list[str] = []
        _Walk(parts, []).function(function)
        text = _texts[function] = _text(parts)
    return text


_texts: WeakKeyDictionary[FunctionType, str] = WeakKeyDictionary()


def _text(parts: list[str]) -> str:
    return ";".join(parts)


class _Walk:
    """Adds the text of functions and values to a list, and the ids of tasks to another."""

    def __init__(self, parts: list[str], tasks: list[str]) -> None:
        self._inside: list[int] = []
        self._owners = self._objects = 0
        self._tasks = tasks
        self.add = parts.append

    # ---- functions -----------------------------------------------------------------------------

    def function(self, function: Any) -> None:
        identity = getattr(function, IDENTITY, None)
        if identity is not None:
            self.value(identity)
        elif isinstance(function, FunctionType):
            self._python(function)
        elif isinstance(function, partial):
            self.function(function.func)
            self.value((function.args, function.keywords))
        elif isinstance(function, MethodType):
            self.function(function.__func__)
            self._owner(function.__self__)
        elif isinstance(function, (type, BuiltinFunctionType)):
            self.add(function_name(function))
            start = getattr(function, "__init__", None)
            if isinstance(start, FunctionType):
                self._python(start)
        else:
            self._callable(function)

    def _callable(self, function: Any) -> None:
        wrapped = getattr(function, "__wrapped__", None)  # of functools.cache, for one
        if wrapped is not None:
            self.function(wrapped)
            return
        call = getattr(type(function), "__call__", None)  # noqa: B004 (the method itself)
        if isinstance(call, FunctionType):
            self._python(call)
        self._owner(function)

    def _owner(self, value: Any) -> None:
        """What a function belongs to: often more than data, so objects in it count by class."""
        self._owners += 1
        self.value(value)
        self._owners -= 1

    def _python(self, function: FunctionType) -> None:
        code = function.__code__
        digest = _digests.get(code)
        if digest is None:
            digest = _digests[code] = _digest(code)
        self.add(f"{module_of(function)}:{function.__qualname__}@{digest}")
        if function.__defaults__ or function.__kwdefaults__:
            self.value((function.__defaults__, function.__kwdefaults__))
        if id(function) not in self._inside:
            self._inside.append(id(function))
            for name, value, around in read_from(function):
                if _is_around(value) if around else _is_of_module(value, function):
                    self.add(name)
                    self.value(value)
            self._inside.pop()

    # ---- values --------------------------------------------------------------------------------

    def value(self, value: Any) -> None:
        kind = type(value)
        if kind in ATOMS:
            self.add(repr(value))
        elif kind is Task:
            self.add("task")
            self._tasks.append(value.id)
        elif isinstance(value, (FunctionType, MethodType, BuiltinFunctionType, partial, type)):
            self.function(value)
        elif id(value) in self._inside or len(self._inside) > DEEPEST:
            self.add("...")
        else:
            self._inside.append(id(value))
            self._compound(value, kind)
            self._inside.pop()

    def _compound(self, value: Any, kind: type) -> None:
        self.add(f"{kind.__name__}(" if kind.__module__ == "builtins" else f"{kind.__qualname__}(")
        if isinstance(value, enum.Enum):
            self.add(value.name or repr(value.value))
        elif isinstance(value, (list, tuple)):
            for item in value:
                self.value(item)
        elif isinstance(value, (set, frozenset)):
            self.add(",".join(sorted(self._apart(item) for item in value)))
        elif isinstance(value, Mapping):
            for key, item in value.items():
                self.value(key)
                self.value(item)
        elif dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                self.value(getattr(value, field.name, None))
        elif hasattr(kind, "__pydantic_fields_set__"):
            self.value(value.__dict__)
        else:
            self._object(value)
        self.add(")")

    def _apart(self, value: Any) -> str:
        parts: list[str] = []
        _Walk(parts, self._tasks).value(value)
        return _text(parts)

    def _object(self, value: Any) -> None:
        """By its attributes if its class is the program's own, else as it pickles."""
        for kind in ("ag", "gi", "cr"):  # a generator is what its function was called with
            frame = getattr(value, f"{kind}_frame", None)
            if frame is not None:
                self.add(_digest(frame.f_code))
                self.value(dict(frame.f_locals))
                return
        if self._owners and self._objects:
            return
        own: Any = type(value)
        if is_own(own):
            self._objects += 1
            for name, found in sorted(_state(value), key=itemgetter(0)):
                self.add(name)
                self.value(found)
            self._objects -= 1
        elif not type(value).__module__.startswith("orchestrator"):
            try:
                self.add(blake2b(pickle.dumps(value), digest_size=16).hexdigest())
            except Exception:  # a lock, a connection
                self.add(type(value).__qualname__)


def _is_around(value: Any) -> bool:
    """Whether it counts when a function around holds it; collections there keep count of things."""
    return isinstance(value, _ATOMS) or callable(value)


def _is_of_module(value: Any, function: FunctionType) -> bool:
    """Whether it counts when the module holds it: texts, such as prompts, and functions.

    Other values there are often switches, paths and counters, which differ from run to run.
    """
    if isinstance(value, str):
        return any(map(str.isspace, value))
    return isinstance(value, FunctionType) and value.__module__ == function.__module__


def _state(value: Any) -> list[tuple[str, Any]]:
    """The attributes of an object by name, with those in slots."""
    names = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name) and name not in ("__dict__", "__weakref__"):
                names[name] = getattr(value, name)
    return [(name, names[name]) for name in names]


_ATOMS = (*ATOMS, tuple, frozenset, enum.Enum)


def _digest(code: CodeType) -> str:
    """Of what the code does, not of where it stands."""
    parts = [code.co_code.hex(), *code.co_names, *map(_constant, code.co_consts)]
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _digest(value)
    if isinstance(value, frozenset):
        return ",".join(sorted(map(_constant, value)))
    if isinstance(value, tuple):
        return ",".join(map(_constant, value))
    return told(value)
