"""Parallel reasoning: threads of a language model, spawned and joined as a task graph.

The names below are imported when they are first used, so that ``import reasoning`` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.errors import ReasonError as ReasonError
    from reasoning.backends.text import TextBackend as TextBackend
    from reasoning.models.loaded import LoadedModel as LoadedModel
    from reasoning.models.loading import BACKENDS as BACKENDS
    from reasoning.models.loading import load_model as load_model
    from reasoning.options import SolveOptions as SolveOptions
    from reasoning.policies import POLICIES as POLICIES
    from reasoning.policies import parse_policy as parse_policy
    from reasoning.problems import DOMAINS as DOMAINS
    from reasoning.problems import Problem as Problem
    from reasoning.problems import Verdict as Verdict
    from reasoning.problems import recognise as recognise
    from reasoning.run.run import Run as Run
    from reasoning.run.solution import Solution as Solution
    from reasoning.run.thread import Thread as Thread
    from reasoning.run.thread import ThreadOptions as ThreadOptions
    from reasoning.solver import Reasoner as Reasoner
    from reasoning.solver import solve as solve
    from reasoning.solver import solve_sync as solve_sync
    from reasoning.strategies import STRATEGIES as STRATEGIES
    from reasoning.strategies import Strategy as Strategy
    from reasoning.values.context import Context as Context
    from reasoning.values.context import Placed as Placed
    from reasoning.values.context import Segment as Segment

    __version__: str

_HOMES = {
    "orchestrator.errors": ("ReasonError",),
    "reasoning.backends.text": ("TextBackend",),
    "reasoning.models.loaded": ("LoadedModel",),
    "reasoning.models.loading": ("BACKENDS", "load_model"),
    "reasoning.options": ("SolveOptions",),
    "reasoning.policies": ("POLICIES", "parse_policy"),
    "reasoning.problems": ("DOMAINS", "Problem", "Verdict", "recognise"),
    "reasoning.run.run": ("Run",),
    "reasoning.run.solution": ("Solution",),
    "reasoning.run.thread": ("Thread", "ThreadOptions"),
    "reasoning.solver": ("Reasoner", "solve", "solve_sync"),
    "reasoning.strategies": ("STRATEGIES", "Strategy"),
    "reasoning.values.context": ("Context", "Placed", "Segment"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("parallel-reason")
    if name not in _HOME:
        raise AttributeError(f"module 'reasoning' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME[name]), name)
    except ImportError as error:
        from reasoning.foreign import in_our_place

        if message := in_our_place(error):
            raise ImportError(message, name=error.name) from error
        raise


def __dir__() -> list[str]:
    return sorted([*_HOME, "__version__"])
