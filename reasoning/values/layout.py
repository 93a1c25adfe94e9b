"""Segments as one flat sequence, with its attention mask, positions and shifts.

Training uses this layout, and tests compare the engine with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from reasoning.values.context import Context, Placed, Segment


class Flat(NamedTuple):
    """Segments one after the other, ``T`` tokens in all.

    Attributes:
        tokens, positions: ``[T]``; positions are the home ones.
        mask: ``[T, T]``; whether a row's token attends to a column's.
        turns: ``[T, T]``; by how much the distance from a row to a column exceeds that of their
            home positions.
    """

    tokens: Tensor
    positions: Tensor
    mask: Tensor
    turns: Tensor


def flatten(segments: Sequence[Segment]) -> Flat:
    """The computed tokens of segments, with what each of them saw when it was computed.

    A segment that no other one sees may be left out; all that a given one sees must be given.
    """
    starts: dict[Segment, int] = {}
    tokens: list[int] = []
    positions: list[int] = []
    for segment in segments:
        starts[segment] = len(tokens)
        tokens += segment.tokens[: len(segment.steps)]
        positions += range(segment.home, segment.home + len(segment.steps))
    mask = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
    turns = torch.zeros(len(tokens), len(tokens), dtype=torch.long)
    for segment in segments:
        for index, step in enumerate(segment.steps):
            row = starts[segment] + index
            mask[row, starts[segment] : row + 1] = True
            context = _view(segment, index)
            limits = [_limit(entry, step) for entry in context.entries]
            found = zip(context.entries, limits, context.turns(limits, segment.home), strict=True)
            for entry, limit, turn in found:
                first = starts[entry.segment]
                mask[row, first : first + limit] = True
                turns[row, first : first + limit] = turn
    return Flat(torch.tensor(tokens), torch.tensor(positions), mask, turns)


def _view(segment: Segment, index: int) -> Context:
    return next(context for start, context in reversed(segment.views) if start <= index)


def _limit(entry: Placed, step: int) -> int:
    """How much of an entry a token that was computed in this step saw."""
    seen = bisect_right(entry.segment.steps, step - entry.lag)
    return seen if entry.upto is None else min(seen, entry.upto)
