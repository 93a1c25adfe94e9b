"""APR's searches in plain text: the states that a parent names, and the paths that are found.

The lines are those of the Llama checkpoints for Countdown (arXiv 2504.15466): a node is moved to
and its state shown, or it is generated from the one above it by an operation.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from reasoning.problems.answers import FoundAnswer, Source

CALL, CALL_END = "<Calling Sub Searches>", "<End Calling Sub Searches>"
ANSWER, ANSWER_END = "<Sub Searches>", "<End Sub Searches>"
GOAL = "Goal Reached"
_CALLED = re.compile(r"<Start Sub Search \d+ at level \d+> Moving to Node #([\d,]+)")
_STATE = r"(\d+):\[([\d, ]*)\]"
_MOVED = re.compile(
    rf"Moving to Node #([\d,]+)\nCurrent State: {_STATE}, Operations: \[([^\]\n]*)\]"
)
_GENERATED = re.compile(rf"Generated Node #([\d,]+): {_STATE} Operation: (\S+)")
_EXPLORED = re.compile(r"Exploring Operation: (\S+), Resulting Numbers")
_OPERATION = re.compile(r"'([^']*)'")


class NodeState(NamedTuple):
    """A node of a search: numbers that are left, and the operations that led there."""

    node: str
    target: str
    numbers: str
    operations: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """How a search that starts there is asked for."""
        numbers = ", ".join(re.findall(r"\d+", self.numbers))
        return (
            f"Moving to Node #{self.node}\nCurrent State: {self.target}:[{numbers}], "
            f"Operations: {list(self.operations)}"
        )


def asks_for_searches(trace: str) -> bool:
    """Whether a search that has ended waits for others."""
    return CALL_END in trace.rpartition("\n")[2]


def before_call(trace: str) -> str:
    """What stands before the searches that a trace asks for last."""
    return trace.rpartition(f"{CALL}\n")[0]


def called(trace: str) -> list[NodeState]:
    """The states that a trace asks to search last, in its order.

    Raises:
        ValueError: it asks for none, or for one that it has not come to.
    """
    block = trace.rpartition(f"{CALL}\n")[2]
    nodes = _CALLED.findall(block)
    if not nodes or f"{CALL}\n" not in trace:
        raise ValueError("its call names no node")
    known = _states(trace)
    if missing := [node for node in nodes if node not in known]:
        raise ValueError(f"node #{missing[0]} was never generated")
    return [known[node] for node in nodes]


def _states(trace: str) -> dict[str, NodeState]:
    known = {
        node: NodeState(node, target, numbers, tuple(_OPERATION.findall(operations)))
        for node, target, numbers, operations in _MOVED.findall(trace)
    }
    for node, target, numbers, operation in _GENERATED.findall(trace):
        above = known.get(node.rpartition(",")[0])
        if above is not None and node not in known:
            known[node] = NodeState(node, target, numbers, (*above.operations, operation))
    return known


def found_path(trace: str) -> str | None:
    """The path that a search that has ended tells last; None where it reached no goal."""
    ends = [match.end() for match in re.finditer(GOAL, trace)]
    return trace[ends[-2] :].strip() if len(ends) > 1 else None


def answered(states: list[NodeState], paths: list[str | None]) -> str:
    """What a parent is told in place of its call."""
    lines = [f"{ANSWER}\n"]
    for number, (state, path) in enumerate(zip(states, paths, strict=True)):
        where = f"in Sub Search {number} at level 1 at Node #{state.node}>\n"
        lines.append(f"<No Solution {where}" if path is None else f"<{GOAL} {where}{path}\n")
    return "".join([*lines, f"{ANSWER_END}\n"])


def path_answer(trace: str, *, finished: bool = True) -> FoundAnswer:
    """The operations of the path that a trace ends with, as Countdown's verifier reads them."""
    path = found_path(trace) or (trace if GOAL in trace else "")
    path = path.rpartition("Current State: ")[2]
    before = re.search(r"Operations: \[([^\]\n]*)\]", path)
    steps = [*(_OPERATION.findall(before[1]) if before else ()), *_EXPLORED.findall(path)]
    answer = ", ".join(steps) if path and steps else None
    source: Source = "none" if answer is None else "cue"
    return FoundAnswer(answer=answer, source=source, text=trace, complete=finished)
