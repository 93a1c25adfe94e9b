"""From segments and contexts to requests with notes: the client's side of the plugin.

It needs no vLLM: the engine may be in this process or behind HTTP.
"""

from __future__ import annotations

import itertools
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary, finalize

from orchestrator.errors import InvalidValue
from reasoning.errors import CapabilityMissing
from reasoning.values.context import Context, Placed, Segment
from reasoning.vllm_plugin import Mode
from reasoning.vllm_plugin.wire import Hold, Member, Note, Sight, View


@dataclass(eq=False)
class Piece:
    """A run of a segment's tokens that one request computed, under a name of its own."""

    name: str
    first: int
    count: int | None = None
    """None while the request writes."""
    sent: bool = False
    view: View | None = None
    """What its request sees, as far as that was sent."""


@dataclass(eq=False)
class Stored:
    """Which pieces of a segment an engine holds."""

    pieces: list[Piece] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """Whether a thread writes to it, or will soon."""
        return bool(self.pieces) and self.pieces[-1].count is None

    @property
    def count(self) -> int:
        """How many tokens are held for sure; the ones being written are not counted."""
        return sum(piece.count or 0 for piece in self.pieces)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request to be sent.

    Attributes:
        segment: The segment whose tokens it computes or writes.
        fill: It only computes given tokens: one token is generated, and not used.
    """

    segment: Segment
    prompt: list[int]
    note: Note
    fill: bool = False


class Client:
    """Names the segments of one engine's requests and says what each request must ask for."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._stored: WeakKeyDictionary[Segment, Stored] = WeakKeyDictionary()
        self._prefix = uuid.uuid4().hex[:8]
        self._numbers = itertools.count()
        self._unheld: deque[Stored] = deque()
        self._released: list[str] = []

    def stored(self, segment: Segment) -> Stored:
        """What is held of a segment."""
        found = self._stored.get(segment)
        if found is None:
            found = self._stored[segment] = Stored()
            finalize(segment, self._unheld.append, found).atexit = False
        return found

    def reserve(self, segment: Segment) -> None:
        """Name what a thread is about to write, so that others can say that they see it."""
        stored = self.stored(segment)
        if not stored.live:
            stored.pieces.append(Piece(self.name(), stored.count))

    def ask(
        self, segment: Segment, member: Member | None = None, others: Sequence[Segment] = ()
    ) -> list[Asked]:
        """The requests that let a thread write on in a segment; the thread's own is the last one.

        Those before it compute what its context lacks.  ``others`` are what the rest of its gang
        writes: where one looks at another context than before, its request is told.

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
        note = own.note.model_copy(update={"looks": self._looks(others)})
        return [*asked, replace(own, note=note)]

    def farewell(
        self, member: Member | None = None, others: Sequence[Segment] = ()
    ) -> tuple[list[Asked], Note | None]:
        """What must be sent when a member leaves its gang, or when nothing else is sent.

        A note without a request of its own goes with any other one.
        """
        asked: list[Asked] = []
        left: tuple[tuple[str, int], ...] = ()
        if member is not None:  # it leaves when the others have been told what they then see
            left = ((member.gang, member.member),)
            for other in others:
                asked += self._complete(other.context, helping(member))
        note = self._note(looks=self._looks(others), leave=left)
        return asked, note if note.release or note.leave or note.looks else None

    def _complete(self, context: Context, member: Member | None) -> list[Asked]:
        """Requests for what is not held of a context's frozen segments."""
        asked = []
        for entry in context.entries:
            stored = self.stored(entry.segment)
            if stored.live or stored.count >= len(entry):
                continue
            segment, first = entry.segment, stored.count
            # First of all, since members that stopped in the same step see each other.
            stored.pieces.append(Piece(self.name(), first, len(segment) - first))
            if not is_plain(segment):
                asked += self._complete(context_at(segment, first), member)
            asked.append(self._request(segment, member, fill=True))
        return asked

    def _request(self, segment: Segment, member: Member | None, fill: bool = False) -> Asked:
        if not fill:
            self.reserve(segment)
        piece = self.stored(segment).pieces[-1]
        first = piece.first
        context = context_at(segment, first)
        if is_plain(segment) and not (fill and first and self._named(context)):
            asked = self._plain(segment, context, piece, fill)
        elif self._is_copied(segment, context, member, fill):
            asked = self._copied(segment, context, piece, fill)
        else:
            asked = self._looking(segment, context, piece, member, fill)
        piece.sent = True
        return asked

    def _named(self, context: Context) -> bool:
        return all(self.stored(e.segment).count >= len(e) for e in context.entries)

    def _plain(self, segment: Segment, context: Context, piece: Piece, fill: bool) -> Asked:
        """An ordinary causal request, which vLLM's prefix cache serves."""
        holds, at = [], 0
        for entry in context.entries:
            stored = self.stored(entry.segment)
            if not stored.pieces:
                stored.pieces.append(Piece(self.name(), 0, len(entry), sent=True))
                holds.append(Hold(name=stored.pieces[0].name, first=at, count=len(entry)))
            at += len(entry)
        holds.append(Hold(name=piece.name, first=at + piece.first))
        note = self._note(holds=tuple(holds))
        return Asked(segment=segment, prompt=context.tokens + segment.tokens, note=note, fill=fill)

    def _is_copied(
        self, segment: Segment, context: Context, member: Member | None, fill: bool
    ) -> bool:
        still = not context.flowing and not any(
            entry.shift or self.stored(entry.segment).live for entry in context.entries
        )
        if self._mode == "join" and not still:
            raise CapabilityMissing(
                "the context has live or moved segments; start vLLM with the plugin's live half"
            )
        return still and member is None and not (fill and self._mode == "live")

    def _copied(self, segment: Segment, context: Context, piece: Piece, fill: bool) -> Asked:
        sights = self._sights(context.entries) + self._own(segment)
        view = View(sights=tuple(sights), position=context.position, base=segment.home)
        note = self._note(
            home=segment.home + piece.first,
            holds=(Hold(name=piece.name, first=len(context) + piece.first),),
            view=view,
            copied=len(context) + piece.first,
            path=segment.path,
        )
        return Asked(segment=segment, prompt=context.tokens + segment.tokens, note=note, fill=fill)

    def _looking(
        self,
        segment: Segment,
        context: Context,
        piece: Piece,
        member: Member | None,
        fill: bool,
    ) -> Asked:
        piece.view = self.view(segment, context)
        note = self._note(
            home=segment.home + piece.first,
            holds=(Hold(name=piece.name),),
            view=piece.view,
            path=segment.path,
            member=member,
        )
        return Asked(segment=segment, prompt=segment.tokens[piece.first :], note=note, fill=fill)

    def view(self, segment: Segment, context: Context) -> View:
        """What a request that writes on in a segment sees."""
        return View(
            sights=tuple(self._sights(context.entries) + self._own(segment)),
            position=context.position,
            base=segment.home,
            flowing=context.flowing,
        )

    def _looks(self, segments: Iterable[Segment]) -> dict[str, View]:
        """The views of the requests that write segments, where they have changed."""
        found = {}
        for segment in segments:
            stored = self.stored(segment)
            if stored.live and stored.pieces[-1].view is not None:
                piece, view = stored.pieces[-1], self.view(segment, segment.context)
                if view != piece.view:
                    piece.view = found[piece.name] = view
        return found

    def _sights(self, entries: Sequence[Placed]) -> list[Sight]:
        sights = []
        for entry in entries:
            for piece in self.stored(entry.segment).pieces:
                left = None if entry.upto is None else max(0, entry.upto - piece.first)
                upto = piece.count if left is None else left
                if piece.count is not None and left is not None:
                    upto = min(piece.count, left)
                lag = entry.lag if piece.count is None else 0
                assert lag in (0, 1)
                sights.append(
                    Sight(name=piece.name, shift=entry.shift, upto=upto, lag=1 if lag else 0)
                )
        return sights

    def _own(self, segment: Segment) -> list[Sight]:
        pieces = [p for p in self.stored(segment).pieces if p.count is not None and p.sent]
        return [Sight(name=piece.name, upto=piece.count, own=True) for piece in pieces]

    def ended(self, segment: Segment) -> None:
        """Say that the request that wrote a segment has ended, whatever the way.

        The last token that it wrote has no keys and values.
        """
        pieces = self.stored(segment).pieces
        if pieces and not pieces[-1].sent:
            pieces.pop()
        elif pieces and pieces[-1].count is None:
            pieces[-1].count = max(0, len(segment) - 1 - pieces[-1].first)

    def release(self, segments: Sequence[Segment]) -> None:
        """Let go of what is held for segments, with the next request that is sent."""
        for segment in segments:
            stored = self._stored.get(segment)
            if stored is not None and not stored.live:
                self._released += [piece.name for piece in stored.pieces]
                stored.pieces.clear()

    def _note(self, **fields: object) -> Note:
        while self._unheld:
            self._released += [piece.name for piece in self._unheld.popleft().pieces]
        released, self._released = self._released, []
        return Note.model_validate({**fields, "release": tuple(released)})

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
