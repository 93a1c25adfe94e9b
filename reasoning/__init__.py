"""Parallel reasoning: threads of a language model, spawned and joined as a task graph.

The names below are imported when they are first used, so that ``import reasoning`` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.errors import ReasonError
    from reasoning.models.catalog import Model
    from reasoning.problems import Problem, recognise
    from reasoning.run.run import Run, Thread
    from reasoning.run.solution import Solution
    from reasoning.run.solver import Reasoner, solve, solve_sync
    from reasoning.strategies import Strategy
    from reasoning.values.context import Context, Placed, Segment

_HOMES = {
    "Context": "reasoning.values.context",
    "Model": "reasoning.models.catalog",
    "Placed": "reasoning.values.context",
    "Problem": "reasoning.problems",
    "ReasonError": "orchestrator.errors",
    "Reasoner": "reasoning.run.solver",
    "Run": "reasoning.run.run",
    "Segment": "reasoning.values.context",
    "Solution": "reasoning.run.solution",
    "Strategy": "reasoning.strategies",
    "Thread": "reasoning.run.run",
    "recognise": "reasoning.problems",
    "solve": "reasoning.run.solver",
    "solve_sync": "reasoning.run.solver",
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
