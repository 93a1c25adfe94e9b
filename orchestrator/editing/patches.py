"""Edits of a graph while it runs: versioned, atomic, as Python values and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from orchestrator.calls import name_of
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
from orchestrator.editing.structure import Call, check_source
from orchestrator.errors import InvalidValue, PatchRefused, UnknownName
from orchestrator.events import GraphPatched
from orchestrator.journal.codec import why
from orchestrator.node import Edge, Node
from orchestrator.settings import PLAIN, TaskSettings
from orchestrator.task import Task

if TYPE_CHECKING:
    from orchestrator.scheduler.run import GraphRun

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


def apply(run: GraphRun, patch: Patch) -> int:
    """Apply a patch to the graph of a run; see `TaskGraph.apply`."""
    edit = _Edit(run, patch.base)
    edit.attempt(0, "base", edit.check_base)
    for index, expected in enumerate(patch.expect):
        edit.attempt(index, "expect", partial(edit.expect, expected))
    edit.later = [op.id for op in patch.ops if isinstance(op, Add)]
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

    Attributes:
        later: Ids of tasks that are yet to be added, the one being added first.
    """

    def __init__(self, run: GraphRun, base: int | None) -> None:
        self.conflicts: list[Conflict] = []
        self.later: list[str] = []
        self._run = run
        self._structure = run.structure
        self._base = self._structure.version if base is None else base
        self._undo: list[Callable[[], None]] = []
        self._touched: dict[Node, None] = {}
        self._added: dict[Node, None] = {}
        self._removed: dict[Node, int] = {}
        self._index = 0

    def attempt(self, index: int, operation: str, do: Callable[[], None]) -> None:
        self._index = index
        try:
            do()
        except (_Refused, InvalidValue, UnknownName) as error:
            self.conflicts.append(Conflict(index=index, operation=operation, reason=str(error)))

    def undo(self) -> None:
        for step in reversed(self._undo):
            step()

    # ---- operations ----------------------------------------------------------------------------

    def check_base(self) -> None:
        if self._base > self._structure.version:
            raise _Refused(f"base is {self._base}, the graph is at {self._structure.version}")

    def expect(self, expected: Expect) -> None:
        node = self._node(expected.id)
        if node.state not in expected.states:
            raise _Refused(f"task {node.id} is {node.state}, not {' or '.join(expected.states)}")

    def operation(self, op: Add | Remove | Connect | Disconnect | Change) -> None:
        match op:
            case Add():
                try:
                    self._add(op)
                finally:
                    self.later.pop(0)
            case Remove():
                self._remove(op)
            case Connect():
                self._connect(op)
            case Disconnect():
                self._disconnect(op)
            case Change():
                self._change(op)

    def _add(self, op: Add) -> None:
        structure = self._structure
        if op.id in structure.nodes:
            raise _Refused(f"there is a task {op.id} already")
        function = self._run.functions.find(op.function)
        name = op.name or name_of(function)
        args = tuple(map(self._value, op.args))
        kwargs = {name: self._value(value) for name, value in op.kwargs.items()}
        after = {self._node(source).task: when for source, when in op.after.items()}
        settings = self._settings(op, name, PLAIN)
        node = structure.create(op.id, None, Call(name, function, args, kwargs, after, settings))
        self._added[node] = None
        self._undo.append(lambda: structure.discard(node))

    def _missing(self, id: str) -> _Refused:
        """Why there is no task of an id that something waits for."""
        if self.later[:1] == [id]:
            return _Refused(
                f"task {id} would wait for itself; let it wait for another, or for none"
            )
        if id in self.later:
            return _Refused(f"task {id} is added later in the same edit; add it before")
        return _Refused(f"there is no task {id}")

    def _remove(self, op: Remove) -> None:
        node = self._editable(op.id)
        self._removed[node] = self._index

    def _connect(self, op: Connect) -> None:
        source, target = self._node(op.source), self._editable(op.target)
        if any(edge.source is source for edge in target.inbound):
            raise _Refused(f"task {op.target} waits for {op.source} already")
        check_source(source, target)
        order_edge(source, target)
        edge = Edge(source, target, "control", op.when)
        edge.link()
        self._undo.append(edge.unlink)

    def _disconnect(self, op: Disconnect) -> None:
        source, target = self._node(op.source), self._editable(op.target)
        edge = next((edge for edge in target.inbound if edge.source is source), None)
        if edge is None:
            raise _Refused(f"task {op.target} does not wait for {op.source}")
        if edge.kind == "data":
            raise _Refused(f"task {op.target} takes the result of {op.source}; change its args")
        edge.unlink()
        self._undo.append(edge.link)

    def _change(self, op: Change) -> None:
        node = self._editable(op.id)
        function, args, kwargs = node.function, node.args, node.kwargs
        if op.function is not None:
            function = self._run.functions.find(op.function)
        if op.args is not None:
            args = tuple(map(self._value, op.args))
        if op.kwargs is not None:
            kwargs = {name: self._value(value) for name, value in op.kwargs.items()}
        settings = self._settings(op, node.id, node.settings)
        call = Call(op.name or node.name, function, args, kwargs, None, settings)
        self._undo.append(self._structure.change(node, call))

    def _settings(self, op: Add | Change, name: str, old: TaskSettings) -> TaskSettings:
        new = old.changed(
            retry=op.retry, timeout=op.timeout, priority=op.priority, resources=op.resources
        )
        self._run.scheduler.queue.check(new.resources, name)
        return new

    # ---- what operations name ------------------------------------------------------------------

    def _node(self, id: str) -> Node:
        node = self._structure.nodes.get(id)
        if node is None or node in self._removed:
            raise self._missing(id)
        return node

    def _editable(self, id: str) -> Node:
        node = self._node(id)
        if node in self._added:
            return node
        if node.attempts or node.state not in ("waiting", "ready"):
            raise _Refused(f"task {id} is {node.state}; only what has not started can be edited")
        if node.edited_in > self._base:
            raise _Refused(
                f"task {id} was edited in version {node.edited_in}, after version {self._base}"
            )
        if self._run.scheduler.journal is not None and node.parent is not None:
            raise _Refused(f"task {id} was spawned, and a journal keeps edits of roots only")
        self._touched[node] = None
        return node

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
        return self._node(id).task

    # ---- all or nothing ------------------------------------------------------------------------

    def check_removed(self) -> None:
        for node, index in self._removed.items():
            left = [edge.target.id for edge in node.outbound if edge.target not in self._removed]
            if left:
                reason = f"task {left[0]} waits for {node.id}; rewire or remove it too"
                self.conflicts.append(Conflict(index=index, operation="remove", reason=reason))

    def commit(self, patch: Patch) -> int:
        """Dispatch what was added and changed; return the new version."""
        structure, scheduler = self._structure, self._run.scheduler
        structure.version += 1
        for node in self._removed:
            structure.discard(node)
            if node not in self._added:
                scheduler.forget(node)
        if scheduler.journal is not None:
            scheduler.journal.patched(structure.version, patch)
        for node in [*self._added, *self._touched]:
            node.edited_in = structure.version
        for node in self._added:
            if node not in self._removed:
                self._run.admit(node)
        for node in self._touched:
            if node not in self._removed:
                scheduler.reconsider(node)
        if scheduler.events.heard:
            scheduler.tell_all(GraphPatched, "", version=structure.version, patch=patch)
        return structure.version
