"""What threads see, where it is stored, and what must be computed before they can go on."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from weakref import WeakKeyDictionary, finalize

import torch
from torch import Tensor

from reasoning.engine.pool import Pool
from reasoning.engine.step import ForwardStep, VisibleSegment
from reasoning.engine.threads import (
    EngineThread,
    ScoringThread,
    StepRow,
    StoredSegment,
    ThreadFailure,
)
from reasoning.errors import PoolFull
from reasoning.values.context import Context, Placed, Segment


class SegmentStore:
    """The segments whose keys and values are in a pool, as long as somebody holds them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._stored: WeakKeyDictionary[Segment, StoredSegment] = WeakKeyDictionary()
        self._unheld: deque[StoredSegment] = deque()
        self._clock = 0

    def stored(self, segment: Segment) -> StoredSegment:
        """A segment as it is stored; one that is met for the first time, with its given tokens."""
        found = self._stored.get(segment)
        if found is None:
            found = self._stored[segment] = StoredSegment(list(segment.tokens))
            # Called wherever the last reference goes, in another thread perhaps; `sweep` frees.
            finalize(segment, self._unheld.append, found).atexit = False
        return found

    def sweep(self) -> None:
        """Free the extents of segments that nobody holds any more."""
        while self._unheld:
            stored = self._unheld.popleft()
            if stored.size:
                self._pool.free(stored.start)

    def release(self, segments: Sequence[Segment]) -> None:
        """Free what segments store that no thread writes to; they are computed again if needed.

        That is exact for what did not see others grow: each token would see all of them.
        """
        for segment in segments:
            stored = self._stored.get(segment)
            if stored is not None and stored.size and not stored.live:
                self._pool.free(stored.start)
                stored.size = stored.used = 0
                stored.logits = None

    def plan(
        self, threads: Sequence[EngineThread], budget: int
    ) -> tuple[list[StepRow], list[ThreadFailure]]:
        """What to feed so that as many threads as possible advance, within a budget of tokens.

        The budget bounds the given tokens of a step.  Threads for which the pool has no room are
        left out; where nothing else could be done, the latest of them fails.  A gang in lock-step
        advances as a whole or not at all.
        """
        plan, full = self._try_plan(threads, budget)
        if threads and not plan and full is None:  # what must be fed together exceeds the budget
            plan, full = self._try_plan(threads, sys.maxsize)
        if full is not None and not plan:
            return [], [ThreadFailure(full[0].id, full[1])]
        return list(plan.values()), []

    def _try_plan(
        self, threads: Sequence[EngineThread], budget: int
    ) -> tuple[dict[Segment, StepRow], tuple[EngineThread, PoolFull] | None]:
        plan: dict[Segment, StepRow] = {}
        full: tuple[EngineThread, PoolFull] | None = None
        for thread in threads:
            try:
                budget = self._advance(thread, plan, budget)
            except PoolFull as error:
                # Without its traceback, whose frames would keep the thread's segments stored.
                full = thread, error.with_traceback(None)
        self._hold_back(threads, plan)
        return plan, full

    @staticmethod
    def _hold_back(threads: Sequence[EngineThread], plan: dict[Segment, StepRow]) -> None:
        """Let those who could advance wait for the others of a gang in lock-step who could not."""
        ready = {row.thread for row in plan.values()}
        late = {t.gang for t in threads if t not in ready and t.gang and t.gang.lockstep}
        for row in [row for row in plan.values() if row.thread and row.thread.gang in late]:
            row.thread, row.source = None, None
            row.tokens = row.tokens[:-1]
            if not row.tokens:
                del plan[row.segment]

    def _advance(self, thread: EngineThread, plan: dict[Segment, StepRow], budget: int) -> int:
        """Plan a thread's next tokens, after all that they must see; returns the budget left."""
        segment, own = thread.segment, thread.stored
        source = segment
        if not own.tokens or (isinstance(thread, ScoringThread) and thread.before is None):
            source = segment.context.entries[-1].segment
            if source not in plan:
                self.stored(source).want_logits()
        budget = self._complete(segment.context, plan, budget)
        if budget <= 0:
            return budget
        missing = own.tokens[own.used :]
        if not missing:
            plan[segment] = StepRow(segment=segment, tokens=[], thread=thread, source=source)
            return budget
        tokens = missing[:budget]
        self._make_room(segment, len(tokens))
        whole = len(tokens) == len(missing) or isinstance(thread, ScoringThread)
        plan[segment] = StepRow(segment=segment, tokens=tokens, thread=thread if whole else None)
        return budget - len(tokens) if len(tokens) > 1 else budget

    def _complete(self, context: Context, plan: dict[Segment, StepRow], budget: int) -> int:
        """Plan what is not computed of a context's frozen segments; budget 0 if it is too much."""
        for entry in context.entries:
            segment, stored = entry.segment, self.stored(entry.segment)
            missing = stored.tokens[stored.used : self._visible(entry)]
            if stored.live or not missing or budget <= 0:
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
        self, segment: Segment, missing: list[int], plan: dict[Segment, StepRow], budget: int
    ) -> int:
        """Plan a frozen segment's missing tokens, with all that they must see, or none of it."""
        before = set(plan)
        row = plan[segment] = StepRow(segment=segment, tokens=[])
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
        stored = self.stored(segment)
        needed = stored.used + count
        if needed <= stored.size:
            return
        start, size = self._pool.take(needed)
        if stored.size:
            self._pool.move(stored.start, start, stored.used)
            self._pool.free(stored.start)
        stored.start, stored.size = start, size

    def _visible(self, entry: Placed) -> int:
        """How many tokens of a segment an entry shows, computed or not."""
        return len(self.stored(entry.segment).tokens) if entry.upto is None else entry.upto

    def position(self, segment: Segment, stored: StoredSegment) -> int:
        """Where a segment's next token will stand; in a flowing context, behind all the rest."""
        context, own = segment.context, len(stored.tokens)
        if context.flowing:
            return sum(map(self._visible, context.entries)) + own
        return segment.home + own

    def cut(self, segment: Segment, read: int) -> None:
        """Forget what was generated behind a segment's first ``read`` tokens, for nobody read it.

        What is computed of these stays as it is.
        """
        self.stored(segment).cut(read)
        del segment.steps[read:]

    def logits(self, row: StepRow) -> Tensor:
        """What a row's thread samples from."""
        stored = self.stored(row.source or row.segment)
        found = stored.logits
        assert found is not None
        if row.source is None:
            stored.logits = None  # a view of those of the whole step
        return found

    @staticmethod
    def depend(rows: Sequence[StepRow]) -> bool:
        """Whether a row sees what another one of the same step writes."""
        written = {row.segment for row in rows}
        return any(e.segment in written for row in rows for e in row.segment.context.entries)

    def tables(self, rows: Sequence[StepRow]) -> ForwardStep:
        """The tables for feeding some rows together."""
        step = ForwardStep()
        fed = {row.segment: len(row.tokens) for row in rows}
        for row in rows:
            stored = self.stored(row.segment)
            step.feed(
                row.segment,
                row.tokens,
                start=stored.start,
                used=stored.used,
                seen=self._seen(row.segment, fed),
                scored=row.scored,
            )
        return step

    def _seen(self, segment: Segment, fed: dict[Segment, int]) -> list[VisibleSegment]:
        """What the next tokens of a segment see beside it, given how many each segment is fed."""
        context = segment.context
        limits = [self._limit(entry, fed.get(entry.segment, 0)) for entry in context.entries]
        turns = context.turns(limits, segment.home)
        return [
            VisibleSegment(entry.segment, self.stored(entry.segment).start, limit, turn)
            for entry, limit, turn in zip(context.entries, limits, turns, strict=True)
        ]

    def _limit(self, entry: Placed, new: int) -> int:
        limit = self.stored(entry.segment).used + new
        if entry.lag:  # what this step feeds for the first time is not among the steps yet
            limit = min(limit, bisect_right(entry.segment.steps, self._clock + 1 - entry.lag))
        return limit if entry.upto is None else min(limit, entry.upto)

    def record(self, rows: Sequence[StepRow], logits: Tensor) -> None:
        """Count what a step has fed, and keep the logits of each row's last token."""
        self._clock += 1
        each = torch.split(logits, [len(row.tokens) if row.scored else 1 for row in rows])
        for row, found in zip(rows, each, strict=True):
            stored = self.stored(row.segment)
            stored.used += len(row.tokens)
            stored.logits = (
                found[-1] if row.thread is not None and not row.scored else found[-1].clone()
            )
            row.scores = found if row.scored else None
            steps = row.segment.steps
            steps += [self._clock] * (stored.used - len(steps))  # none where it is computed again
