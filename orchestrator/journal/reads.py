"""What a function reads besides its arguments: names of its module, and of functions around it."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

_LOADS = {"LOAD_GLOBAL", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}
_ASSIGNS = {"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF", "DELETE_DEREF"}
_names: WeakKeyDictionary[CodeType, tuple[str, ...]] = WeakKeyDictionary()


def names_read(code: CodeType) -> tuple[str, ...]:
    """The names that code reads from outside and assigns nothing to, functions in it included."""
    found = _names.get(code)
    if found is None:
        outside = {*code.co_freevars, *code.co_names}
        read, assigned = set(), set()
        for step in _steps(code):
            if step.opname in _LOADS:
                read.add(step.argval)
            elif step.opname in _ASSIGNS:
                assigned.add(step.argval)
        inner = {name for one in _inner(code) for name in one.co_names}
        found = _names[code] = tuple(sorted((read - assigned) & (outside | inner)))
    return found


def read_from(function: FunctionType) -> Iterator[tuple[str, Any, bool]]:
    """What a function reads: each name, its value now, and whether it is of a function around."""
    code = function.__code__
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    for name in names_read(code):
        if name in cells:
            try:
                yield name, cells[name].cell_contents, True
            except ValueError:  # not assigned yet
                continue
        elif name in function.__globals__:
            yield name, function.__globals__[name], False


def _inner(code: CodeType) -> Iterator[CodeType]:
    for found in code.co_consts:
        if isinstance(found, CodeType):
            yield found
            yield from _inner(found)


def _steps(code: CodeType) -> Iterator[dis.Instruction]:
    for one in (code, *_inner(code)):
        yield from dis.get_instructions(one)
