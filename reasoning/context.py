"""What a thread of reasoning can see: segments of tokens, placed in its position space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Segment:
    """A run of tokens: text that was given, or text that one thread writes.

    Its keys and values are computed once, at ``home`` positions, and kept by a backend as long as
    anybody holds the segment.  Who sees it, and where it then stands, is said by a `Context`.

    Attributes:
        tokens: Its tokens so far; it is live while a thread writes to it, and frozen afterwards.
        home: The position of its first token.
        identity: The path that it belongs to, for models that learned path identities; 0 is none.
        steps: At which step of the backend each of its tokens was computed, as far as they were.
        views: What its tokens attend to beside the segment itself: from each token on, a context.
    """

    __slots__ = ("__weakref__", "home", "identity", "steps", "tokens", "views")

    def __init__(self, context: Context, tokens: Iterable[int] = (), *, identity: int = 0) -> None:
        self.tokens = list(tokens)
        self.home = context.position
        self.identity = identity
        self.steps: list[int] = []
        self.views: list[tuple[int, Context]] = [(0, context)]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def context(self) -> Context:
        """What its next token attends to."""
        return self.views[-1][1]


class Placed(NamedTuple):
    """A segment in a context.

    Attributes:
        shift: Where it stands there, relative to its home positions.
        upto: How many of its tokens are seen; None for all that there are, a live one's new
            ones included.
        lag: How many steps a live one's new tokens take to be seen; 0 sees those of this step.
    """

    segment: Segment
    shift: int = 0
    upto: int | None = None
    lag: int = 0

    def __len__(self) -> int:
        return len(self.segment) if self.upto is None else self.upto


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a thread may attend to, in order, and the position of its next token.

    Contexts are values: each method returns a new one over the same segments.
    """

    entries: tuple[Placed, ...] = ()
    position: int = 0

    @classmethod
    def given(cls, tokens: Sequence[int]) -> Context:
        """A context of given tokens alone."""
        return cls().then(tokens)

    def then(self, tokens: Sequence[int], *, identity: int = 0) -> Context:
        """This context followed by given tokens."""
        return self.after(Segment(self, tokens, identity=identity))

    def after(self, segment: Segment) -> Context:
        """This context followed by a segment that starts where it ends, as far as it is written."""
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
        added = tuple(entry for end in ends for entry in end.entries[len(self.entries) :])
        return Context(
            entries=self.entries + added,
            position=max([self.position, *(end.position for end in ends)]),
        )

    @property
    def tokens(self) -> list[int]:
        """What is seen now, in order, as one run of tokens."""
        return [token for entry in self.entries for token in entry.segment.tokens[: len(entry)]]

    def __len__(self) -> int:
        """The number of tokens that are seen now."""
        return sum(map(len, self.entries))
