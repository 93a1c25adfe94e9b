"""From segments and contexts to requests with notes: the client's side of the plugin.

It needs no vLLM: the engine may be in this process or behind HTTP.
"""

from __future__ import annotations

import itertools
import secrets
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any
from weakref import WeakKeyDictionary, finalize

from orchestrator.errors import InvalidValue
from reasoning.errors import CapabilityMissing
from reasoning.values.context import Context, Placed, Segment
from reasoning.vllm_plugin import Mode
from reasoning.vllm_plugin.note import AttentionView, KeptRun, Member, Note, SeenSegment


@dataclass(eq=False)
class StoredRun:
    """A run of a segment's tokens that one request computed, under a name of its own."""

    name: str
    first: int
    count: int | None = None
    """None while the request writes."""
    sent: bool = False
    view: AttentionView | None = None
    """What its request sees, as far as that was sent."""


@dataclass(eq=False)
class StoredRuns:
    """Which runs of a segment an engine holds."""

    runs: list[StoredRun] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """Whether a thread writes to it, or will soon."""
        return bool(self.runs) and self.runs[-1].count is None

    @property
    def count(self) -> int:
        """How many tokens are held for sure; the ones being written are not counted."""
        return sum(run.count or 0 for run in self.runs)


@dataclass(frozen=True)
class PlannedRequest:
    """A request to be sent.

    Attributes:
        segment: The segment whose tokens it computes or writes.
        fill: It only computes given tokens: one token is generated, and not used.
    """

    segment: Segment
    prompt: list[int]
    note: Note
    fill: bool = False


class SegmentClient:
    """Names the segments of one engine's requests and says what each request must ask for."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._stored: WeakKeyDictionary[Segment, StoredRuns] = WeakKeyDictionary()
        self._key, self._prefix = secrets.token_hex(16), uuid.uuid4().hex[:8]
        self._numbers, self._orders = itertools.count(), itertools.count(1)
        self._unheld: deque[StoredRuns] = deque()
        self._released: list[str] = []

    def stored(self, segment: Segment) -> StoredRuns:
        """What is held of a segment."""
        found = self._stored.get(segment)
        if found is None:
            found = self._stored[segment] = StoredRuns()
            finalize(segment, self._unheld.append, found).atexit = False
        return found

    def reserve(self, segment: Segment) -> None:
        """Name what a thread is about to write, so that others can say that they see it."""
        stored = self.stored(segment)
        if not stored.live:
            stored.runs.append(StoredRun(self.name(), stored.count))

    def plan_requests(
        self, segment: Segment, member: Member | None = None, others: Sequence[Segment] = ()
    ) -> list[PlannedRequest]:
        """The requests that let a thread write on in a segment; the thread's own is the last one.

        Those before it compute what its context lacks.  ``others`` are what the rest of its gang
        writes: where one attends to another context than before, its request is told.

        Raises:
            InvalidValue: there is no token to go on from.
            CapabilityMissing: the context needs live segments, and the plugin only joins.
        """
        if not segment.tokens and not is_plain(segment):
            raise InvalidValue("the thread has no token of its own; give it one to start from")
        helper = None if member is None else helping(member)
        asked = [] if is_plain(segment) else self._complete(segment.context, helper)
        for other in others:
            asked += self._complete(other.context, helper)
        own = self._request(segment, member)
        note = own.note.model_copy(update={"views": self._changed_views(others)})
        return [*asked, replace(own, note=note)]

    def farewell(
        self, member: Member | None = None, others: Sequence[Segment] = ()
    ) -> tuple[list[PlannedRequest], Note | None]:
        """What must be sent when a member leaves its gang, or when nothing else is sent.

        A note without a request of its own goes with any other one.
        """
        asked: list[PlannedRequest] = []
        left: tuple[tuple[str, int], ...] = ()
        if member is not None:  # it leaves when the others have been told what they then see
            left = ((member.gang, member.member),)
            for other in others:
                asked += self._complete(other.context, helping(member))
        note = self._note(views=self._changed_views(others), leave=left)
        return asked, note if note.release or note.leave or note.views else None

    def _complete(self, context: Context, member: Member | None) -> list[PlannedRequest]:
        """Requests for what is not held of a context's frozen segments."""
        asked = []
        for entry in context.entries:
            stored = self.stored(entry.segment)
            if stored.live or stored.count >= len(entry):
                continue
            segment, first = entry.segment, stored.count
            # First of all, since members that stopped in the same step see each other.
            stored.runs.append(StoredRun(self.name(), first, len(segment) - first))
            if not is_plain(segment):
                asked += self._complete(context_at(segment, first), member)
            asked.append(self._request(segment, member, fill=True))
        return asked

    def _request(
        self, segment: Segment, member: Member | None, fill: bool = False
    ) -> PlannedRequest:
        if not fill:
            self.reserve(segment)
        run = self.stored(segment).runs[-1]
        context = context_at(segment, run.first)
        named = all(self.stored(e.segment).count >= len(e) for e in context.entries)
        if is_plain(segment) and not (fill and run.first and named):
            asked = self._plain(segment, context, run, fill)
        elif self._is_copied(segment, context, member, fill):
            asked = self._copied(segment, context, run, fill)
        else:
            asked = self._attending(segment, context, run, member, fill)
        run.sent = True
        return asked

    def _plain(
        self, segment: Segment, context: Context, run: StoredRun, fill: bool
    ) -> PlannedRequest:
        """An ordinary causal request, which vLLM's prefix cache serves."""
        keeps, at = [], 0
        for entry in context.entries:
            stored = self.stored(entry.segment)
            if not stored.runs:
                stored.runs.append(StoredRun(self.name(), 0, len(entry), sent=True))
                keeps.append(KeptRun(name=stored.runs[0].name, first=at, count=len(entry)))
            at += len(entry)
        keeps.append(KeptRun(name=run.name, first=at + run.first))
        note = self._note(keeps=tuple(keeps))
        return PlannedRequest(segment, context.tokens + segment.tokens, note, fill)

    def _is_copied(
        self, segment: Segment, context: Context, member: Member | None, fill: bool
    ) -> bool:
        still = not context.flowing and not any(
            entry.shift or self.stored(entry.segment).live for entry in context.entries
        )
        if self._mode == "join" and not still:
            raise CapabilityMissing("the context is live or moved; start vLLM with the live half")
        return still and member is None and not (fill and self._mode == "live")

    def _copied(
        self, segment: Segment, context: Context, run: StoredRun, fill: bool
    ) -> PlannedRequest:
        copied = len(context) + run.first
        note = self._note(
            home=segment.home + run.first,
            keeps=(KeptRun(name=run.name, first=copied),),
            view=self.view(segment, context),
            copied=copied,
            path=segment.path,
        )
        return PlannedRequest(segment, context.tokens + segment.tokens, note, fill)

    def _attending(
        self, segment: Segment, context: Context, run: StoredRun, member: Member | None, fill: bool
    ) -> PlannedRequest:
        run.view = self.view(segment, context)
        note = self._note(
            home=segment.home + run.first,
            keeps=(KeptRun(name=run.name),),
            view=run.view,
            path=segment.path,
            member=member,
        )
        return PlannedRequest(segment, segment.tokens[run.first :], note, fill)

    def view(self, segment: Segment, context: Context) -> AttentionView:
        """What a request that writes on in a segment sees."""
        return AttentionView(
            segments=tuple(self._seen(context.entries) + self._own(segment)),
            position=context.position,
            base=segment.home,
            flowing=context.flowing,
        )

    def _changed_views(self, segments: Iterable[Segment]) -> dict[str, AttentionView]:
        """The views of the requests that write segments, where they have changed."""
        found = {}
        for segment in segments:
            stored = self.stored(segment)
            if stored.live and stored.runs[-1].view is not None:
                run, view = stored.runs[-1], self.view(segment, segment.context)
                if view != run.view:
                    run.view = found[run.name] = view
        return found

    def _seen(self, entries: Sequence[Placed]) -> list[SeenSegment]:
        seen = []
        for entry in entries:
            for run in self.stored(entry.segment).runs:
                left = None if entry.upto is None else max(0, entry.upto - run.first)
                upto = run.count if left is None else left
                if run.count is not None and left is not None:
                    upto = min(run.count, left)
                lag: Any = entry.lag if run.count is None else 0
                one = SeenSegment(name=run.name, shift=entry.shift, upto=upto, lag=lag)
                seen.append(one)
        return seen

    def _own(self, segment: Segment) -> list[SeenSegment]:
        runs = [p for p in self.stored(segment).runs if p.count is not None and p.sent]
        return [SeenSegment(name=run.name, upto=run.count, own=True) for run in runs]

    def ended(self, segment: Segment) -> None:
        """Say that the request that wrote a segment has ended, whatever the way.

        The last token that it wrote has no keys and values.
        """
        runs = self.stored(segment).runs
        if runs and not runs[-1].sent:
            runs.pop()
        elif runs and runs[-1].count is None:
            runs[-1].count = max(0, len(segment) - 1 - runs[-1].first)

    def lost(self, segment: Segment, note: Note) -> None:
        """Say that nothing was heard of a segment's request, as where it was stopped at once.

        It may never have come, so what it was to keep does not count as held.
        """
        names = {kept.name for kept in note.keeps}
        for one in (segment, *(entry.segment for entry in segment.context.entries)):
            runs = self.stored(one).runs
            held = list(takewhile(lambda run: run.name not in names, runs))
            self._released += [run.name for run in runs[len(held) :]]
            runs[:] = held

    def release(self, segments: Sequence[Segment]) -> None:
        """Let go of what is held for segments, with the next request that is sent."""
        for segment in segments:
            stored = self._stored.get(segment)
            if stored is not None and not stored.live:
                self._released += [run.name for run in stored.runs]
                stored.runs.clear()

    def _note(self, **fields: Any) -> Note:
        while self._unheld:
            self._released += [run.name for run in self._unheld.popleft().runs]
        released, self._released = self._released, []
        order = next(self._orders)
        return Note(key=self._key, order=order, release=tuple(released), **fields)

    def name(self) -> str:
        """A name that nobody else has."""
        return f"{self._prefix}-{next(self._numbers)}"


def helping(member: Member) -> Member:
    """The place of a request that computes tokens beside a gang's next step."""
    return member.model_copy(update={"once": True, "pauses": False})


def context_at(segment: Segment, index: int) -> Context:
    """What a segment's token of that index attends to."""
    return next(context for start, context in reversed(segment.views) if start <= index)


def is_plain(segment: Segment) -> bool:
    """Whether a segment ends an ordinary causal text: its tokens see all of it, at its place.

    What has the identity of a path is computed otherwise than the same text without it.
    """
    position, before = 0, segment.context
    if len(segment.views) > 1 or before.flowing or segment.path:
        return False
    for index, entry in enumerate(before.entries):
        inner = entry.segment
        if entry.shift or len(entry) != len(inner) or inner.home != position:
            return False
        if len(inner.views) > 1 or inner.context.entries != before.entries[:index]:
            return False
        if inner.context.flowing or entry.lag or inner.path:
            return False
        position += len(inner)
    return segment.home == position
