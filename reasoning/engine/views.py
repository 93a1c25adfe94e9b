"""What threads see, where it is stored, and what must be computed before they can go on."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary, finalize

import torch
from torch import Tensor

from reasoning.engine.pool import Pool
from reasoning.engine.step import Seen, Step
from reasoning.engine.threads import Failure, Reader, Row, Thread
from reasoning.errors import PoolFull
from reasoning.values.context import Context, Placed, Segment


@dataclass(eq=False)
class Home:
    """Where a segment's keys and values are stored.

    Attributes:
        start, size: Its extent; no size yet before its first token.
        used: How many of its tokens are computed.
        live: Whether a thread writes to it.
        logits: Of its last computed token, where a thread may start from it.
    """

    start: int = 0
    size: int = 0
    used: int = 0
    live: bool = False
    logits: Tensor | None = None


class Views:
    """The segments whose keys and values are in a pool, as long as somebody holds them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._homes: WeakKeyDictionary[Segment, Home] = WeakKeyDictionary()
        self._unheld: deque[Home] = deque()
        self._clock = 0

    def home(self, segment: Segment) -> Home:
        """Where a segment is stored, or will be."""
        found = self._homes.get(segment)
        if found is None:
            found = self._homes[segment] = Home()
            # Called wherever the last reference goes, in another thread perhaps; `sweep` frees.
            finalize(segment, self._unheld.append, found).atexit = False
        return found

    def sweep(self) -> None:
        """Free the extents of segments that nobody holds any more."""
        while self._unheld:
            home = self._unheld.popleft()
            if home.size:
                self._pool.free(home.start)

    def release(self, segments: Sequence[Segment]) -> None:
        """Free what segments store that no thread writes to; they are computed again if needed.

        That is exact for what did not see others grow: each token would see all of them.
        """
        for segment in segments:
            home = self._homes.get(segment)
            if home is not None and home.size and not home.live:
                self._pool.free(home.start)
                home.size = home.used = 0
                home.logits = None

    def rows(self, threads: Sequence[Thread], budget: int) -> tuple[list[Row], list[Failure]]:
        """What to feed so that as many threads as possible advance, within a budget of tokens.

        The budget bounds the given tokens of a step.  Threads for which the pool has no room are
        left out; where nothing else could be done, the latest of them fails.  A gang in lock-step
        advances as a whole or not at all.
        """
        plan, full = self._plan(threads, budget)
        if threads and not plan and full is None:  # what must be fed together exceeds the budget
            plan, full = self._plan(threads, sys.maxsize)
        if full is not None and not plan:
            return [], [Failure(full[0].id, full[1])]
        return list(plan.values()), []

    def _plan(
        self, threads: Sequence[Thread], budget: int
    ) -> tuple[dict[Segment, Row], tuple[Thread, PoolFull] | None]:
        plan: dict[Segment, Row] = {}
        full: tuple[Thread, PoolFull] | None = None
        for thread in threads:
            try:
                budget = self._advance(thread, plan, budget)
            except PoolFull as error:
                # Without its traceback, whose frames would keep the thread's segments stored.
                full = thread, error.with_traceback(None)
        self._hold_back(threads, plan)
        return plan, full

    @staticmethod
    def _hold_back(threads: Sequence[Thread], plan: dict[Segment, Row]) -> None:
        """Let those who could advance wait for the others of a gang in lock-step who could not."""
        ready = {row.thread for row in plan.values()}
        late = {t.gang for t in threads if t not in ready and t.gang and t.gang.lockstep}
        for row in [row for row in plan.values() if row.thread and row.thread.gang in late]:
            row.thread, row.source = None, None
            row.tokens = row.tokens[:-1]
            if not row.tokens:
                del plan[row.segment]

    def _advance(self, thread: Thread, plan: dict[Segment, Row], budget: int) -> int:
        """Plan a thread's next tokens, after all that they must see; returns the budget left."""
        segment = thread.segment
        budget = self._complete(segment.context, plan, budget)
        if budget <= 0:
            return budget
        missing = segment.tokens[self.home(segment).used :]
        if not missing:
            source = segment if segment.tokens else segment.context.entries[-1].segment
            plan[segment] = Row(segment=segment, tokens=[], thread=thread, source=source)
            return budget
        tokens = missing[:budget]
        self._make_room(segment, len(tokens))
        whole = len(tokens) == len(missing) or isinstance(thread, Reader)
        plan[segment] = Row(segment=segment, tokens=tokens, thread=thread if whole else None)
        return budget - len(tokens) if len(tokens) > 1 else budget

    def _complete(self, context: Context, plan: dict[Segment, Row], budget: int) -> int:
        """Plan what is not computed of a context's frozen segments; budget 0 if it is too much."""
        for entry in context.entries:
            segment, home = entry.segment, self.home(entry.segment)
            missing = segment.tokens[home.used : len(entry)]
            if home.live or not missing or budget <= 0:
                continue
            row = plan.get(segment)
            if row is None:
                budget = self._compute(segment, missing, plan, budget)
                row = plan.get(segment)
            elif not row.tokens:  # it sees this one as well, and both are fed together
                continue
            if row is None or len(row.tokens) < len(missing):
                return 0
        return budget

    def _compute(
        self, segment: Segment, missing: list[int], plan: dict[Segment, Row], budget: int
    ) -> int:
        """Plan a frozen segment's missing tokens, with all that they must see, or none of it."""
        before = set(plan)
        row = plan[segment] = Row(segment=segment, tokens=[])
        try:
            budget = self._complete(segment.context, plan, budget)
            if budget > 0:
                self._make_room(segment, len(missing[:budget]))
                row.tokens = missing[:budget]
        finally:
            if not row.tokens:
                for planned in set(plan) - before:
                    del plan[planned]
        return budget - len(row.tokens)

    def _make_room(self, segment: Segment, count: int) -> None:
        home = self.home(segment)
        needed = home.used + count
        if needed <= home.size:
            return
        start, size = self._pool.take(needed)
        if home.size:
            self._pool.move(home.start, start, home.used)
            self._pool.free(home.start)
        home.start, home.size = start, size

    def open(self, segment: Segment) -> None:
        """Say that a thread writes to a segment."""
        self.home(segment).live = True

    def freeze(self, segment: Segment) -> None:
        """Say that no thread writes to a segment at present."""
        self.home(segment).live = False

    def logits(self, row: Row) -> Tensor:
        """What a row's thread samples from."""
        home = self.home(row.source or row.segment)
        found = home.logits
        assert found is not None
        if row.source is None:
            home.logits = None  # a view of those of the whole step
        return found

    @staticmethod
    def tied(rows: Sequence[Row]) -> bool:
        """Whether a row sees what another one of the same step writes."""
        written = {row.segment for row in rows}
        return any(e.segment in written for row in rows for e in row.segment.context.entries)

    def step(self, rows: Sequence[Row]) -> Step:
        """The tables for feeding some rows together."""
        step = Step()
        fed = {row.segment: len(row.tokens) for row in rows}
        for row in rows:
            home = self.home(row.segment)
            step.feed(
                row.segment,
                row.tokens,
                start=home.start,
                used=home.used,
                seen=self._seen(row.segment, fed),
                every=row.read,
            )
        return step

    def _seen(self, segment: Segment, fed: dict[Segment, int]) -> list[Seen]:
        """What the next tokens of a segment see beside it, given how many each segment is fed."""
        context = segment.context
        limits = [self._limit(entry, fed.get(entry.segment, 0)) for entry in context.entries]
        turns = context.turns(limits, segment.home)
        return [
            Seen(entry.segment, self.home(entry.segment).start, limit, turn)
            for entry, limit, turn in zip(context.entries, limits, turns, strict=True)
        ]

    def _limit(self, entry: Placed, new: int) -> int:
        limit = self.home(entry.segment).used + new
        if entry.lag:  # what this step feeds for the first time is not among the steps yet
            limit = min(limit, bisect_right(entry.segment.steps, self._clock + 1 - entry.lag))
        return limit if entry.upto is None else min(limit, entry.upto)

    def fed(self, rows: Sequence[Row], logits: Tensor) -> None:
        """Count what a step has fed, and keep the logits of each row's last token."""
        self._clock += 1
        each = torch.split(logits, [len(row.tokens) if row.read else 1 for row in rows])
        for row, found in zip(rows, each, strict=True):
            home = self.home(row.segment)
            home.used += len(row.tokens)
            home.logits = (
                found[-1] if row.thread is not None and not row.read else found[-1].clone()
            )
            row.every = found if row.read else None
            steps = row.segment.steps
            steps += [self._clock] * (home.used - len(steps))  # none where it is computed again
