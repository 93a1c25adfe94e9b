"""Which demonstrations a training run sees, and how much of each."""

from __future__ import annotations

import random
from collections.abc import Callable

from reasoning.training import demonstrations as alone
from reasoning.training import lockstep, shared
from reasoning.training.demonstrations import Demonstration
from reasoning.training.shared import SharedDemonstration

Draw = Callable[[random.Random], Demonstration | SharedDemonstration]

MIXTURE: dict[Draw, float] = {
    alone.drawn_serial: 0.11,
    alone.drawn_serial_five: 0.02,
    alone.drawn_leaf: 0.06,
    alone.drawn_parent: 0.18,
    alone.drawn_parent_five: 0.05,
    alone.drawn_calc: 0.10,
    shared.drawn_each: 0.07,
    shared.drawn_multiverse: 0.08,
    shared.drawn_branch: 0.05,
    shared.drawn_think: 0.07,
    shared.drawn_summary: 0.04,
    lockstep.drawn_worklist: 0.11,
    lockstep.drawn_listing: 0.03,
    lockstep.drawn_graph: 0.03,
}
"""The share of training tokens of each kind of demonstration."""

BASICS: tuple[Draw, ...] = (alone.drawn_leaf, alone.drawn_calc)
"""The kinds with which a run begins."""
