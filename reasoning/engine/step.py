"""One step of the engine as tables: which tokens are fed, where they go, and what each one sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from reasoning.values.context import Segment


class VisibleRange(NamedTuple):
    """One fed token looking at one segment.

    ``turn`` is how many positions further from the segment the token stands than their home
    positions say: queries are rotated by it, stored keys never (Hogwild!, arXiv 2504.06261).
    """

    query: int
    limit: int
    turn: int


@dataclass(kw_only=True)
class SegmentReads:
    """All tokens of a step that look at one segment, which is then read once for all of them."""

    start: int
    home: int
    ranges: list[VisibleRange] = field(default_factory=list)

    @property
    def longest(self) -> int:
        return max(one.limit for one in self.ranges)


class VisibleSegment(NamedTuple):
    """A segment as one row sees it: where it is stored, how much of it, and how it is turned."""

    segment: Segment
    start: int
    limit: int
    turn: int


class ForwardStep:
    """Rows of tokens to be fed together, ragged, with what they see.

    Attributes:
        tokens, positions, slots: Of each fed token, its id, home position and place in the pool.
        paths: Of each fed token, the identity of its path; 0 is that of no path.
        outputs: The last fed token of each row, whose logits are wanted.
        reads: By segment.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.slots: list[int] = []
        self.paths: list[int] = []
        self.outputs: list[int] = []
        self._reads: dict[int, SegmentReads] = {}

    @property
    def reads(self) -> list[SegmentReads]:
        return list(self._reads.values())

    def feed(
        self,
        segment: Segment,
        tokens: Sequence[int],
        *,
        start: int,
        used: int,
        seen: Sequence[VisibleSegment],
        scored: bool = False,
    ) -> None:
        """Append ``tokens`` to a segment stored at ``start`` that holds ``used`` tokens so far.

        They see ``seen``, their segment and each other up to themselves.  The logits of the last
        are wanted, or of all that are ``scored``.
        """
        first = len(self.tokens)
        count = len(tokens)
        self.tokens += tokens
        self.positions += range(segment.home + used, segment.home + used + count)
        self.slots += range(start + used, start + used + count)
        self.paths += [segment.path] * count
        queries = range(first, first + count)
        for other, other_start, limit, turn in seen:
            if limit:
                ranges = self._reads_of(other, other_start).ranges
                ranges += [VisibleRange(query, limit, turn) for query in queries]
        own = self._reads_of(segment, start).ranges
        own += [VisibleRange(query, used + index, 0) for index, query in enumerate(queries, 1)]
        self.outputs += queries if scored else [first + count - 1]

    def _reads_of(self, segment: Segment, start: int) -> SegmentReads:
        key = id(segment)
        if key not in self._reads:
            self._reads[key] = SegmentReads(start=start, home=segment.home)
        return self._reads[key]
