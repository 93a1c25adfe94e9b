"""Which demonstrations a training run sees, and how much of each."""

from __future__ import annotations

import random
from collections.abc import Callable

from reasoning.training import demonstrations as alone
from reasoning.training import lockstep, shared
from reasoning.training.demonstrations import Demonstration
from reasoning.training.shared import Laid

Kind = Callable[[random.Random], Demonstration | Laid]

MIXTURE: dict[Kind, float] = {
    alone.drawn_serial: 0.07,
    alone.drawn_serial_five: 0.02,
    alone.drawn_leaf: 0.06,
    alone.drawn_parent: 0.14,
    alone.drawn_parent_five: 0.04,
    alone.drawn_calc: 0.08,
    shared.drawn_each: 0.08,
    shared.drawn_multiverse: 0.08,
    shared.drawn_branch: 0.06,
    shared.drawn_think: 0.08,
    shared.drawn_summary: 0.06,
    lockstep.drawn_worklist: 0.12,
    lockstep.drawn_listing: 0.06,
    lockstep.drawn_graph: 0.05,
}
"""Share of the training tokens of each kind of demonstration."""

BASICS: tuple[Kind, ...] = (alone.drawn_leaf, alone.drawn_calc)
