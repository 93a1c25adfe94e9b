"""Edits of a graph while it runs: versioned, atomic, as Python values and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from orchestrator.calls import why
from orchestrator.editing.cycles import order_edge
from orchestrator.editing.operations import (
    Add,
    Change,
    Connect,
    Disconnect,
    Expect,
    Model,
    Operation,
    Remove,
    is_result,
    mentions_result,
)
from orchestrator.errors import InvalidValue, PatchRefused
from orchestrator.events import GraphPatched
from orchestrator.task import Edge, Task

if TYPE_CHECKING:
    from orchestrator.building import Building

__all__ = [
    "Add",
    "Change",
    "Conflict",
    "Connect",
    "Disconnect",
    "Expect",
    "Patch",
    "Remove",
    "apply",
]


class Patch(Model):
    """Operations that are applied together, in order, or not at all.

    Attributes:
        base: The version of the graph that the editor saw; None for whatever it is.  What was
            edited since then can't be edited by this patch; the rest can.
        expect: What must hold, or nothing is applied.
    """

    base: Annotated[int, Field(ge=0)] | None = None
    ops: tuple[Operation, ...] = Field(min_length=1)
    expect: tuple[Expect, ...] = ()

    @classmethod
    def parse(cls, text: str | bytes) -> Patch:
        """A patch from JSON.

        Raises:
            InvalidValue: it is not one; the message names the field.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InvalidValue(f"the patch can't be used: {why(error)}; mend that field") from error


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Why one operation, or precondition, of a patch was refused.

    Attributes:
        index: Its place in ``ops``, or in ``expect`` if ``operation`` is ``"expect"``; 0 if it is
            ``"base"``.
    """

    index: int
    operation: str
    reason: str


class _Refused(Exception):
    """An operation that can't be applied."""


def apply(graph: Building, patch: Patch) -> int:
    """See `Building.apply`."""
    edit = _Edit(graph, patch.base)
    edit.attempt(0, "base", edit.check_base)
    for index, expected in enumerate(patch.expect):
        edit.attempt(index, "expect", partial(edit.expect, expected))
    for index, op in enumerate(patch.ops):
        edit.attempt(index, op.op, partial(edit.operation, op))
    edit.check_removed()
    if edit.conflicts:
        edit.undo()
        first = edit.conflicts[0]
        raise PatchRefused(
            f"the patch was refused: {first.operation} {first.index}: {first.reason}; "
            "read the graph's version and states again and mend the patch",
            conflicts=tuple(edit.conflicts),
        )
    return edit.commit(patch)


class _Edit:
    """Changes the structure step by step, keeping how to undo each; dispatches nothing.

    It runs between two awaits, so no task can start or end meanwhile.
    """

    def __init__(self, graph: Building, base: int | None) -> None:
        self.conflicts: list[Conflict] = []
        self._graph = graph
        self._base = graph.version if base is None else base
        self._undo: list[Callable[[], None]] = []
        self._touched: dict[Task[Any], None] = {}
        self._added: dict[Task[Any], None] = {}
        self._removed: dict[Task[Any], int] = {}
        self._index = 0

    def attempt(self, index: int, operation: str, do: Callable[[], None]) -> None:
        self._index = index
        try:
            do()
        except (_Refused, InvalidValue) as error:
            self.conflicts.append(Conflict(index=index, operation=operation, reason=str(error)))

    def undo(self) -> None:
        for step in reversed(self._undo):
            step()

    # ---- operations ----------------------------------------------------------------------------

    def check_base(self) -> None:
        if self._base > self._graph.version:
            raise _Refused(f"base is {self._base}, the graph is at {self._graph.version}")

    def expect(self, expected: Expect) -> None:
        task = self._task(expected.id)
        if task.state not in expected.states:
            raise _Refused(f"task {task.id} is {task.state}, not {' or '.join(expected.states)}")

    def operation(self, op: Add | Remove | Connect | Disconnect | Change) -> None:
        match op:
            case Add():
                self._add(op)
            case Remove():
                self._remove(op)
            case Connect():
                self._connect(op)
            case Disconnect():
                self._disconnect(op)
            case Change():
                self._change(op)

    def _add(self, op: Add) -> None:
        graph = self._graph
        if op.id in graph:
            raise _Refused(f"there is a task {op.id} already")
        after = {self._task(source): when for source, when in op.after.items()}
        kwargs = {name: self._value(value) for name, value in op.kwargs.items()}
        task = graph.create(
            op.id,
            None,
            self._function(op.function),
            tuple(map(self._value, op.args)),
            {**op.options(), "after": after, "kwargs": kwargs},
        )
        self._added[task] = None
        self._undo.append(lambda: graph.discard(task))

    def _remove(self, op: Remove) -> None:
        task = self._editable(op.id)
        self._removed[task] = self._index

    def _connect(self, op: Connect) -> None:
        source, target = self._task(op.source), self._editable(op.target)
        if any(edge.source is source for edge in target._inbound):
            raise _Refused(f"task {op.target} waits for {op.source} already")
        self._graph.check_source(source, target)
        order_edge(source, target)
        edge = Edge(source, target, "control", op.when)
        edge.link()
        self._undo.append(edge.unlink)

    def _disconnect(self, op: Disconnect) -> None:
        source, target = self._task(op.source), self._editable(op.target)
        edge = next((edge for edge in target._inbound if edge.source is source), None)
        if edge is None:
            raise _Refused(f"task {op.target} does not wait for {op.source}")
        if edge.kind == "data":
            raise _Refused(f"task {op.target} takes the result of {op.source}; change its args")
        edge.unlink()
        self._undo.append(edge.link)

    def _change(self, op: Change) -> None:
        task = self._editable(op.id)
        before = (task.name, task._function, task._args, task._kwargs, task._settings, task._fed)
        edges = [edge for edge in task._inbound if edge.kind == "data"]
        args = task._args if op.args is None else tuple(map(self._value, op.args))
        kwargs: Mapping[str, Any] = task._kwargs
        if op.kwargs is not None:
            kwargs = {name: self._value(value) for name, value in op.kwargs.items()}
        function = task._function if op.function is None else self._function(op.function)
        fresh = self._graph.rewire(task, function, args, kwargs, op.options())

        def restore() -> None:
            for edge in fresh:
                edge.unlink()
            for edge in edges:
                edge.link()
            (task.name, task._function, task._args, task._kwargs, task._settings, task._fed) = (
                before
            )

        self._undo.append(restore)

    # ---- what operations name ------------------------------------------------------------------

    def _task(self, id: str) -> Task[Any]:
        if id not in self._graph or self._graph[id] in self._removed:
            raise _Refused(f"there is no task {id}")
        return self._graph[id]

    def _editable(self, id: str) -> Task[Any]:
        task = self._task(id)
        if task in self._added:
            return task
        if task._attempts or task.state not in ("waiting", "ready"):
            raise _Refused(f"task {id} is {task.state}; only what has not started can be edited")
        if task._changed > self._base:
            raise _Refused(
                f"task {id} was edited in version {task._changed}, after version {self._base}"
            )
        if self._graph.scheduler.journal is not None and task.parent is not None:
            raise _Refused(f"task {id} was spawned, and a journal keeps edits of roots only")
        self._touched[task] = None
        return task

    def _function(self, name: str) -> Callable[..., Any]:
        try:
            return self._graph.functions[name]
        except KeyError:
            known = ", ".join(sorted(self._graph.functions)) or "none"
            raise _Refused(f"no function {name!r} is registered (registered: {known})") from None

    def _value(self, value: Any) -> Any:
        if is_result(value):
            return self._result_of(value)
        if isinstance(value, list):
            value = [self._result_of(v) if is_result(v) else v for v in value]
        if mentions_result(value):
            raise _Refused('{"$task": ID} can stand for an argument, or in a list of arguments')
        return value

    def _result_of(self, value: dict[str, Any]) -> Task[Any]:
        id = value["$task"]
        if not isinstance(id, str):
            raise _Refused(f"$task is {id!r}; give the id of a task, a text")
        return self._task(id)

    # ---- all or nothing ------------------------------------------------------------------------

    def check_removed(self) -> None:
        for task, index in self._removed.items():
            left = [edge.target.id for edge in task._outbound if edge.target not in self._removed]
            if left:
                reason = f"task {left[0]} waits for {task.id}; rewire or remove it too"
                self.conflicts.append(Conflict(index=index, operation="remove", reason=reason))

    def commit(self, patch: Patch) -> int:
        graph = self._graph
        graph.version += 1
        for task in self._removed:
            graph.discard(task)
            if task not in self._added:
                graph.scheduler.forget(task)
        if graph.scheduler.journal is not None:
            graph.scheduler.journal.patched(graph.version, patch)
        for task in self._added:
            task._changed = graph.version
            if task not in self._removed:
                graph.admit(task)
        for task in self._touched:
            task._changed = graph.version
            if task not in self._removed:
                graph.scheduler.reconsider(task)
        if graph.events.heard:
            graph.events.emit(GraphPatched(task="", version=graph.version, patch=patch))
        return graph.version
