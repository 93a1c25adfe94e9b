"""What a thread of reasoning can see: segments of tokens, placed in its position space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple


class Segment:
    """A run of tokens: text that was given, or text that one thread writes.

    Its keys and values are computed once, at ``home`` positions, and kept by a backend as long as
    anybody holds the segment.  Who sees it, and where it then stands, is said by a `Context`.

    Attributes:
        tokens: Its tokens so far; it is live while a thread writes to it, and frozen afterwards.
        home: The position of its first token.
        path: The identity that a model with path vectors gives to its tokens; 0 is that of no path,
            such as a prompt or a summary (ParaThinker, arXiv 2509.04475).
        given: How many of its first tokens were given when it was begun.
        steps: For each token that is computed, the number of the backend's step that did it.
        views: Pairs (index, context): from that token on, its tokens attend to the context, beside
            the segment itself.
    """

    __slots__ = ("__weakref__", "given", "home", "path", "steps", "tokens", "views")

    def __init__(self, context: Context, tokens: Iterable[int] = (), *, path: int = 0) -> None:
        self.tokens = list(tokens)
        self.given = len(self.tokens)
        self.home = context.position
        self.path = path
        self.steps: list[int] = []
        self.views: list[tuple[int, Context]] = [(0, context)]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def context(self) -> Context:
        """What its next token attends to."""
        return self.views[-1][1]

    @property
    def position(self) -> int:
        """The position of its next token; in a flowing context, that is after all that is seen."""
        context = self.context
        return (len(context) if context.flowing else self.home) + len(self)

    def look(self, context: Context) -> None:
        """Let it attend to another context, from the next token to be computed on."""
        self.views.append((len(self.steps), context))


class Placed(NamedTuple):
    """A segment in a context.

    Attributes:
        shift: Where it stands there, relative to its home positions.
        upto: How many of its tokens are seen; None for all that there are, and those that are
            still to be written.
        lag: How many steps later a new token of a live segment is seen; 0 sees those of this
            step.
    """

    segment: Segment
    shift: int = 0
    upto: int | None = None
    lag: int = 0

    def __len__(self) -> int:
        return len(self.segment) if self.upto is None else self.upto


@dataclass(eq=False, kw_only=True)
class Gang:
    """Threads that advance together: when one stops, all pause until it goes on or is closed.

    Attributes:
        size: How many must be open before the first token; more may join later.
        opened: How many have been opened so far, which the backend counts.
        lockstep: Whether all take each step together: none goes on while another waits for a slot
            or for room, or has ended and is not closed yet.
    """

    size: int = 1
    opened: int = 0
    lockstep: bool = False


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a thread may attend to, in order, and the position of its next token.

    Contexts are values: each method returns a new one over the same segments.

    Attributes:
        flowing: Whether positions follow from the entries' lengths at each moment, one entry after
            the other and the viewer's own segment last (Hogwild!, arXiv 2504.06261); shifts are
            then ignored.
    """

    entries: tuple[Placed, ...] = ()
    position: int = 0
    flowing: bool = False

    @classmethod
    def flow(cls, segments: Sequence[Segment]) -> Context:
        """A flowing context over these segments, live ones as they grow."""
        entries = tuple(map(Placed, segments))
        return cls(entries=entries, position=sum(map(len, entries)), flowing=True)

    @classmethod
    def given(cls, tokens: Sequence[int]) -> Context:
        """A context of given tokens alone."""
        return cls().then(tokens)

    def then(self, tokens: Sequence[int]) -> Context:
        """This context followed by given tokens."""
        return self.after(Segment(self, tokens))

    def after(self, segment: Segment) -> Context:
        """This context followed by a segment that starts at its end; its position is as of now."""
        return Context(
            entries=(*self.entries, Placed(segment)), position=segment.home + len(segment)
        )

    def seeing(self, *others: Segment, lag: int = 0) -> Context:
        """This context and others' live segments, seen at their own positions as they grow."""
        return Context(
            entries=(*self.entries, *(Placed(other, lag=lag) for other in others)),
            position=self.position,
        )

    def join(self, ends: Sequence[Context]) -> Context:
        """This context followed by all that its branches added, at the positions they had.

        Branches overlap, so the position that follows is behind the longest; nothing is computed
        again (Multiverse, arXiv 2506.09991; ParaThinker, arXiv 2509.04475).

        Raises:
            ValueError: an end does not start with this context.
        """
        if any(end.entries[: len(self.entries)] != self.entries for end in ends):
            raise ValueError("a branch to be joined did not start from this context")
        added = [entry for end in ends for entry in end.entries[len(self.entries) :]]
        return Context(
            entries=self.entries + tuple(dict.fromkeys(added)),  # branches of branches share some
            position=max([self.position, *(end.position for end in ends)]),
        )

    def moved(self, by: int) -> Context:
        """This context, whose next token stands ``by`` positions further; keys stay where they are.

        Published models differ in where branches begin and where their join goes on: trained, those
        of Multiverse (arXiv 2506.09991) and NPR (arXiv 2512.07461) let a tag share the position of
        the line break before it, which is ``moved(-1)`` behind each; their engines do not.

        Raises:
            ValueError: it would stand before position 0, or the context flows.
        """
        if self.flowing or self.position + by < 0:
            raise ValueError(f"a context at position {self.position} can't be moved by {by}")
        return replace(self, position=self.position + by)

    def first(self, count: int) -> Context:
        """The first ``count`` tokens of what is seen now; what follows them stands behind them."""
        entries, left, position = list[Placed](), count, 0
        for entry in self.entries:
            if left:
                taken = min(len(entry), left)
                segment, shift, _, lag = entry
                cut = taken < len(entry)
                entries.append(Placed(segment, shift, taken, lag) if cut else entry)
                left -= taken
                position = entry.segment.home + entry.shift + taken
        return Context(entries=tuple(entries), position=position)

    @property
    def sequential(self) -> bool:
        """Whether its entries, unmoved, stand at positions 0, 1, 2, ... in order."""
        position = 0
        for entry in self.entries:
            if entry.shift or entry.segment.home != position:
                return False
            position += len(entry)
        return not self.flowing and position == self.position

    @property
    def tokens(self) -> list[int]:
        """What is seen now, in order, as one run of tokens."""
        return [token for entry in self.entries for token in entry.segment.tokens[: len(entry)]]

    def turns(self, limits: Sequence[int], home: int) -> list[int]:
        """For each entry, its distance to a viewer's token less that of their home positions.

        ``limits`` are the tokens seen of each entry, ``home`` is the first position of the
        viewer's segment.  A query is rotated by this many positions before it meets the keys.
        """
        shifts, position = [entry.shift for entry in self.entries], self.position
        if self.flowing:
            position = 0
            for index, (entry, limit) in enumerate(zip(self.entries, limits, strict=True)):
                shifts[index] = position - entry.segment.home
                position += limit
        return [position - home - shift for shift in shifts]

    def __len__(self) -> int:
        """The number of tokens that are seen now."""
        return sum(map(len, self.entries))
