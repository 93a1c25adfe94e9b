"""Which demonstrations the models of our own markup see, and how much of each."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from reasoning.training import demonstrations as alone
from reasoning.training import lockstep, shared
from reasoning.training.demonstrations import Demonstration
from reasoning.training.encoding import TrainingSequence, encode, lay_out
from reasoning.training.shared import SharedDemonstration

Draw = Callable[[random.Random], Demonstration | SharedDemonstration]

MIXTURE: dict[Draw, float] = {
    alone.drawn_serial: 0.09,
    alone.drawn_serial_five: 0.02,
    alone.drawn_leaf: 0.14,
    alone.drawn_parent: 0.19,
    alone.drawn_parent_five: 0.08,
    alone.drawn_calc: 0.08,
    shared.drawn_each: 0.06,
    shared.drawn_multiverse: 0.07,
    shared.drawn_branch: 0.05,
    shared.drawn_think: 0.05,
    shared.drawn_summary: 0.03,
    lockstep.drawn_worklist: 0.08,
    lockstep.drawn_listing: 0.03,
    lockstep.drawn_graph: 0.03,
}
"""The share of training tokens of each kind of demonstration."""

BASICS: tuple[Draw, ...] = (alone.drawn_leaf, alone.drawn_calc)
"""The kinds with which a run begins."""


def stream(rng: random.Random, rows: Sequence[int], basics: int = 0) -> Iterator[TrainingSequence]:
    """An endless stream of encoded demonstrations, which follows from ``rng`` alone.

    A demonstration that is longer than its row is cut to a window.  Its row is mostly the
    shortest, which is cheap, and one time in four the longest, so that distant context is seen.

    Args:
        rows: The row lengths, in ascending order.
        basics: The first tokens are of the kinds in `BASICS` only, which have most arithmetic.
    """
    drawn = dict.fromkeys(MIXTURE, 1.0)
    early = True
    while True:
        if early and sum(drawn.values()) >= basics:
            early, drawn = False, dict.fromkeys(MIXTURE, 1.0)
        # The kind furthest behind its share of tokens comes next.
        kind = min(BASICS if early else MIXTURE, key=lambda k: drawn[k] / MIXTURE[k])
        demonstration = kind(rng)
        if isinstance(demonstration, SharedDemonstration):
            encoded = lay_out(demonstration)
        else:
            windowed = len(demonstration.body) > 1
            row = rows[0] if windowed and rng.random() < 0.75 else rows[-1]
            encoded = encode(demonstration, row, rng)
        drawn[kind] += len(encoded.tokens)
        yield encoded
