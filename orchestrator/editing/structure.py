"""The tasks and edges of a graph, apart from running them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.editing.arguments import ATOMS, tasks_in
from orchestrator.editing.cycles import order_edge
from orchestrator.errors import InvalidValue
from orchestrator.node import Edge, Node
from orchestrator.scheduler.conditions import SUCCESS, Condition
from orchestrator.settings import PLAIN, TaskSettings
from orchestrator.task import Task

if TYPE_CHECKING:
    from orchestrator.graph import TaskGraph
    from orchestrator.scheduler.scheduler import Scheduler

After = Task[Any] | Iterable[Task[Any]] | Mapping[Task[Any], str | Condition]
"""Tasks to wait for without taking their results; a mapping says under which conditions."""

NO_KEYWORDS: Mapping[str, Any] = {}


@dataclass(slots=True)  # not frozen: one is made for each task, and that would double its cost
class Call:
    """What a new task calls, with what, when and how."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    after: After | None = None
    settings: TaskSettings = PLAIN

    def unwrapped(self) -> Call:
        """The call itself, or with a partial's arguments as its own, if tasks are among them."""
        function = self.function
        if type(function) is not partial:
            return self
        given = (*function.args, *function.keywords.values())
        if all(next(tasks_in(value), None) is None for value in given):
            return self
        args, kwargs = (*function.args, *self.args), {**function.keywords, **self.kwargs}
        return Call(self.name, function.func, args, kwargs, self.after, self.settings)

    def on(self, args: tuple[Any, ...], name: str) -> Call:
        """The same call with other arguments, and named so."""
        return Call(name, self.function, args, self.kwargs, None, self.settings)


class Structure:
    """The nodes of one graph by id, with their edges; it starts and ends nothing.

    Attributes:
        nodes: By id, in the order in which they were added.
        version: Grows with each edit.
        closed: Whether the run has ended, so that nothing can be added.
    """

    def __init__(self, graph: TaskGraph, nodes: dict[str, Node], scheduler: Scheduler) -> None:
        self.nodes = nodes
        self.version = 0
        self.closed = False
        self._graph = graph
        self._scheduler = scheduler
        self._ranks = 0

    def create(self, id: str, parent: Node | None, call: Call) -> Node:
        """Put a new node into the graph, with its edges; it is not dispatched yet.

        Raises:
            InvalidValue: the run has ended, or a source can't be waited for.
        """
        if self.closed:
            raise InvalidValue("this graph's run has ended; build a new graph for more tasks")
        self._ranks += 1
        node = Node(self._graph, self._scheduler, id, parent, self._ranks)
        node.task = Task(node)
        node.name, node.settings = call.name, call.settings
        node.function, node.args, node.kwargs = call.function, call.args, call.kwargs
        edges = self._data_edges(node, call.args, call.kwargs)
        node.fed = bool(edges)
        if call.after is not None:
            edges += [
                Edge(source, node, "control", when)
                for source, when in self._conditions(call.after)
                if when is not SUCCESS or all(edge.source is not source for edge in edges)
            ]
        if parent is not None:
            for edge in edges:
                check_source(edge.source, node)
        for edge in edges:
            edge.link()
        self.nodes[id] = node
        if parent is not None:
            parent.adopt(node)
        return node

    def change(self, node: Node, call: Call) -> Callable[[], None]:
        """Change what a node that has not started will do; return what undoes it.

        Raises:
            InvalidValue: a new edge would close a cycle, or its source can't be waited for.
        """
        fresh = self._data_edges(node, call.args, call.kwargs)
        for edge in fresh:
            check_source(edge.source, node)
            order_edge(edge.source, node)
        old = [edge for edge in node.inbound if edge.kind == "data"]
        before = (node.name, node.function, node.args, node.kwargs, node.settings, node.fed)
        for edge in old:
            edge.unlink()
        for edge in fresh:
            edge.link()
        node.name, node.settings, node.fed = call.name, call.settings, bool(fresh)
        node.function, node.args, node.kwargs = call.function, call.args, call.kwargs

        def undo() -> None:
            for edge in fresh:
                edge.unlink()
            for edge in old:
                edge.link()
            node.name, node.function, node.args, node.kwargs, node.settings, node.fed = before

        return undo

    def discard(self, node: Node) -> None:
        """Take a node that has not started out of the graph, with its edges."""
        for edge in [*node.inbound, *node.outbound]:
            edge.unlink()
        self.nodes.pop(node.id, None)
        if node.parent is not None:
            node.parent.disown(node)

    def node_of(self, task: Task[Any]) -> Node:
        """The node of a handle.

        Raises:
            InvalidValue: the task is of another graph, or was removed from this one.
        """
        node = self.nodes.get(task.id)
        if node is None or node.task is not task:
            where = "was removed" if task.graph is self._graph else "belongs to another graph"
            raise InvalidValue(f"task {task.id} ({task.name}) {where}; pass its value instead")
        return node

    def _data_edges(
        self, node: Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> list[Edge]:
        sources: dict[Node, None] = {}  # a source once, however often it is among the arguments
        for arg in (*args, *kwargs.values()) if kwargs else args:
            if type(arg) is Task:
                sources[self.node_of(arg)] = None
            elif type(arg) not in ATOMS:
                for task in tasks_in(arg):
                    sources[self.node_of(task)] = None
        return [Edge(source, node, "data") for source in sources]

    def _conditions(self, after: After) -> Iterator[tuple[Node, Condition]]:
        if isinstance(after, Task):
            after = (after,)
        whens = after if isinstance(after, Mapping) else dict.fromkeys(after, SUCCESS)
        for task, when in whens.items():
            if not isinstance(task, Task):
                raise InvalidValue(f"option after has {task!r}; give tasks of this graph")
            yield self.node_of(task), Condition.parse(when) if isinstance(when, str) else when


def check_source(source: Node, node: Node) -> None:
    """Refuse an edge from a task to its own child, for which it waits.

    Raises:
        InvalidValue: the source is an ancestor of the node.
    """
    ancestor = node.parent
    while ancestor is not None:
        if ancestor is source:
            raise InvalidValue(
                f"task {source.id} can't feed its own child, for which it waits; "
                "pass a value instead"
            )
        ancestor = ancestor.parent
