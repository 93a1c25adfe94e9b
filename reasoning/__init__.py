"""Parallel reasoning: threads of a language model, spawned and joined as a task graph.

The names below are imported when they are first used, so that ``import reasoning`` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.errors import ReasonError
    from reasoning.context import Context, Placed, Segment
    from reasoning.domains import Problem, recognise
    from reasoning.model import Model
    from reasoning.reasoner import Reasoner, solve, solve_sync
    from reasoning.run import Run, Thread
    from reasoning.solution import Solution
    from reasoning.strategies import Strategy

_HOMES = {
    "Context": "reasoning.context",
    "Model": "reasoning.model",
    "Placed": "reasoning.context",
    "Problem": "reasoning.domains",
    "ReasonError": "orchestrator.errors",
    "Reasoner": "reasoning.reasoner",
    "Run": "reasoning.run",
    "Segment": "reasoning.context",
    "Solution": "reasoning.solution",
    "Strategy": "reasoning.strategies",
    "Thread": "reasoning.run",
    "recognise": "reasoning.domains",
    "solve": "reasoning.reasoner",
    "solve_sync": "reasoning.reasoner",
}

__all__ = [
    "Context",
    "Model",
    "Placed",
    "Problem",
    "ReasonError",
    "Reasoner",
    "Run",
    "Segment",
    "Solution",
    "Strategy",
    "Thread",
    "recognise",
    "solve",
    "solve_sync",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'reasoning' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
