"""Which named segments there are, where their keys and values are, and how long they stay.

Used by the scheduler's process only.  Blocks are kept by vLLM's own reference counts.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.errors import InvalidValue
from reasoning.vllm_plugin.note import FAILURE, AttentionView, Note, shown

logger = logging.getLogger("vllm.reason")

Readiness = Literal["ready", "wait"]

LEASE_S = 900.0
"""A segment that nobody asked for in this time is released, should its client have died."""
MOST_EARLY = 4096
"""So many views are kept of requests that have not arrived."""
PATIENCE_S = 30.0
"""How long a request waits for segments or members that have not arrived."""


@dataclass(eq=False, kw_only=True)
class ActiveRequest:
    """A request with a note that has not finished."""

    request: Any
    note: Note
    view: AttentionView | None
    since: float
    failure: str | None = None

    @property
    def id(self) -> str:
        return str(self.request.request_id)

    def fail(self, why: str) -> None:
        """Have it end with an error, whose reason its client is told."""
        self.failure = why = shown(why)
        self.request.trace_headers = {**(self.request.trace_headers or {}), FAILURE: why}
        logger.error("request %s: %s", self.id, why)


@dataclass(eq=False, kw_only=True)
class SegmentExtent:
    """Where a segment is stored: a run of a request's tokens.

    Attributes:
        first: Index of its first token in ``blocks``, or in the request that writes it.
        home: Position of its first token.
        end: Index behind its last token there, where it does not go on to the request's end.
        writer: The request that writes it; None once that has finished.
        order: Number of the note that said last what its writer sees.
        blocks: Kept blocks, once it has finished.
        count: How many tokens are in them.
    """

    name: str
    first: int
    home: int
    end: int | None
    writer: ActiveRequest | None
    used_at: float
    order: int = 0
    blocks: list[Any] = field(default_factory=list)
    count: int = 0

    @property
    def computed(self) -> int:
        """How many of its tokens were computed in the steps so far."""
        return self.after(0)

    def after(self, fed: int) -> int:
        """How many are computed when its writer has been fed so many more."""
        if self.writer is None:
            return self.count
        return self.upto(int(self.writer.request.num_computed_tokens) + fed)

    def upto(self, index: int) -> int:
        return max(0, (index if self.end is None else min(index, self.end)) - self.first)


class SegmentTable:
    """The segments of one engine.

    ``manager`` is vLLM's KV cache manager, with one group of blocks of ``block_size`` tokens.
    """

    def __init__(
        self,
        manager: Any,
        block_size: int,
        *,
        lease_s: float = LEASE_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._manager = manager
        self._pool = manager.block_pool
        self._block_size = block_size
        self._lease_s = lease_s
        self.patience_s = patience_s
        self.extents: dict[str, SegmentExtent] = {}
        self.active: dict[str, ActiveRequest] = {}
        self._pins: Counter[str] = Counter()
        self._unwanted: set[str] = set()
        self._early: dict[str, tuple[int, AttentionView]] = {}
        self._checked = time.monotonic()

    def arrive(self, request: Any, note: Note) -> ActiveRequest:
        """Take note of a new request.

        Raises:
            InvalidValue: it can't be served as it is.
        """
        self._check(request, note)
        one = ActiveRequest(request=request, note=note, view=note.view, since=time.monotonic())
        self.active[one.id] = one
        for kept in note.keeps:
            self.extents[kept.name] = SegmentExtent(
                name=kept.name,
                first=kept.first,
                home=kept.first + note.offset,
                end=None if kept.count is None else kept.first + kept.count,
                writer=one,
                used_at=one.since,
                order=note.order,
            )
            order, view = self._early.pop(kept.name, (0, None))
            if order > note.order:
                one.view, self.extents[kept.name].order = view, order
        self._pin(one.view, 1)
        for name, view in note.views.items():
            self._change_view(name, view, note.order)
        return one

    def _check(self, request: Any, note: Note) -> None:
        for kept in note.keeps:
            if kept.first < note.copied:
                raise InvalidValue(f"keeps: {kept.name!r} is copied; name what stands behind that")
            if kept.name in self.extents:
                raise InvalidValue(f"keeps: {kept.name!r} exists already; choose another name")
        if note.copied:
            assert note.view is not None
            seen = sum(one.upto or 0 for one in note.view.segments)
            if seen != note.copied or note.copied >= request.num_prompt_tokens:
                raise InvalidValue(
                    f"copied: {note.copied} of {request.num_prompt_tokens} prompt tokens, and the "
                    f"view has {seen}; give all that is seen, and at least one token behind it"
                )

    def _change_view(self, name: str, view: AttentionView, order: int) -> None:
        extent = self.extents.get(name)
        if extent is None and order > self._early.get(name, (0,))[0]:  # it has overtaken its writer
            self._early[name] = order, view
            while len(self._early) > MOST_EARLY:
                del self._early[next(iter(self._early))]
        if extent is None or extent.writer is None or order < extent.order:
            return  # it ended meanwhile, and nobody is left to see; or it knows better
        extent.order = order
        self._pin(view, 1)
        self._pin(extent.writer.view, -1)
        extent.writer.view = view

    def finish(self, id: str) -> None:
        """Keep the blocks of a finished request's segments."""
        one = self.active.pop(id, None)
        if one is None:
            return
        blocks = self._manager.get_blocks(id).blocks[0]
        computed = min(one.request.num_computed_tokens, one.request.num_tokens)
        for kept in one.note.keeps:
            extent = self.extents.get(kept.name)
            if extent is not None and extent.writer is one:
                self._keep(extent, list(blocks), computed)
        self._pin(one.view, -1)

    def _keep(self, extent: SegmentExtent, blocks: list[Any], computed: int) -> None:
        size = self._block_size
        count = extent.upto(computed)
        start = extent.first // size
        kept = blocks[start : -(-(extent.first + count) // size)] if count else []
        extent.writer, extent.count, extent.blocks = None, count, kept
        extent.first -= start * size
        extent.used_at = time.monotonic()
        self._pool.touch(kept)
        if extent.name in self._unwanted and not self._pins[extent.name]:
            self._drop(extent)

    def release(self, names: Iterable[str]) -> None:
        """Let go of segments, as soon as no request writes or needs them."""
        for name in names:
            extent = self.extents.get(name)
            if extent is None:
                continue
            self._unwanted.add(name)
            if not self._pins[name] and extent.writer is None:
                self._drop(extent)

    def _drop(self, extent: SegmentExtent) -> None:
        self.extents.pop(extent.name, None)
        self._unwanted.discard(extent.name)
        self._pool.free_blocks(reversed(extent.blocks))

    def _pin(self, view: AttentionView | None, by: int) -> None:
        for seen in view.segments if view else ():
            self._pins[seen.name] += by
            if self._pins[seen.name] <= 0:
                del self._pins[seen.name]
                if by < 0 and seen.name in self._unwanted:
                    self.release([seen.name])

    def readiness(self, one: ActiveRequest, feeding: Collection[str] = ()) -> Readiness:
        """Whether all that a request sees is there, or will be in a step that feeds ``feeding``.

        Raises:
            InvalidValue: it never will be.
        """
        for seen in one.view.segments if one.view else ():
            extent = self.extents.get(seen.name)
            if extent is None:
                return self._wait(one, f"segment {seen.name!r} is not there")
            extent.used_at = time.monotonic()
            computed = extent.computed
            if extent.writer is not None and extent.writer.id in feeding:
                request = extent.writer.request
                computed = extent.after(request.num_tokens - request.num_computed_tokens)
            if computed >= (seen.upto or 0):
                continue
            if extent.writer is None:
                raise InvalidValue(f"segment {seen.name!r} has {computed} of {seen.upto}; see less")
            return self._wait(one, f"segment {seen.name!r} is not written yet")
        return "ready"

    def _wait(self, one: ActiveRequest, why: str) -> Readiness:
        if time.monotonic() - one.since > self.patience_s:
            raise InvalidValue(f"{why} after {self.patience_s:g} s; it was released or never sent")
        return "wait"

    def expire(self) -> None:
        """Release what nobody has asked for within the lease."""
        now = time.monotonic()
        if now < self._checked + self._lease_s / 100:
            return
        self._checked = now
        before = now - self._lease_s
        idle = [e for e in self.extents.values() if e.writer is None and e.used_at < before]
        for extent in idle:
            if not self._pins[extent.name]:
                self._drop(extent)

    def make_room(self) -> bool:
        """Give up the segment that has been idle the longest; False where each one is needed."""
        idle = [e for e in self.extents.values() if e.writer is None and not self._pins[e.name]]
        if not idle:
            return False
        self._drop(min(idle, key=lambda extent: extent.used_at))
        return True

    def request_table(self, id: str) -> list[int]:
        """The ids of a request's blocks."""
        return list(self._manager.get_block_ids(id)[0])

    def table(self, extent: SegmentExtent) -> list[int]:
        """The ids of the blocks in which a segment's ``first`` counts."""
        if extent.writer is not None:
            return self.request_table(extent.writer.id)
        return [block.block_id for block in extent.blocks]
