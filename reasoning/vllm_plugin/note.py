"""What a request asks of the plugin: a note in its ``extra_args`` (over HTTP: ``vllm_xargs``).

A *segment* here is a run of tokens of one request, under a name that the client gives it.  Others
may see it while it is written and after its request has ended, until it is released.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from orchestrator.errors import InvalidValue
from orchestrator.journal.codec import why

KEY = "reason"
"""The name of the note among a request's extra arguments; its value is JSON in a string."""

FAILURE = "reason-failure"
"""Under this name the trace headers of a request that was refused say why, to its front end."""

HALF = "the plugin runs its half"
"""Behind these words a refused note is told whether the engine joins only, or is live."""

Name = str


class _NoteModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class KeptRun(_NoteModel):
    """A run of this request's own tokens that is kept under a name, until it is released.

    Attributes:
        first: Index of its first token in the request.
        count: How many tokens it has; None for all up to the request's end.
    """

    name: Name
    first: int = Field(default=0, ge=0)
    count: int | None = Field(default=None, ge=0)


class SeenSegment(_NoteModel):
    """A segment that is seen.

    Attributes:
        shift: Where it stands for the viewer, relative to where it was written.
        upto: How many of its tokens are seen; None for all that there are at each step.
        lag: 1 hides what a live one is fed in the same step.
        own: It is the viewer's own text, written by a request before this one: it stands where it
            was written, whatever the view.
    """

    name: Name
    shift: int = 0
    upto: int | None = Field(default=None, ge=0)
    lag: Literal[0, 1] = 0
    own: bool = False


class AttentionView(_NoteModel):
    """What a request's own tokens see beside themselves, in order.

    Attributes:
        position: Where the viewer's text stands behind them, if ``flowing`` is not set.
        base: Position at which the viewer's text was begun, by this request or one before it.
        flowing: The segments stand one after the other, as long as they are at each step, and the
            request's own tokens behind them; shifts are not used.
    """

    segments: tuple[SeenSegment, ...] = ()
    position: int = Field(default=0, ge=0)
    base: int = Field(default=0, ge=0)
    flowing: bool = False

    def turns(self, limits: Sequence[int], homes: Sequence[int]) -> list[int]:
        """How much further each segment is from the viewer than the positions of its keys say.

        ``limits`` are the tokens seen of each, ``homes`` the positions of their first tokens.
        """
        shifts, position = [seen.shift for seen in self.segments], self.position
        if self.flowing:
            position = 0
            for index, (seen, limit, home) in enumerate(
                zip(self.segments, limits, homes, strict=True)
            ):
                shifts[index] = position - home
                position += 0 if seen.own else limit
        away, seen_at = position - self.base, zip(self.segments, shifts, strict=True)
        return [0 if seen.own else away - shift for seen, shift in seen_at]


class Member(_NoteModel):
    """A place in a gang, whose requests advance together, a token each.

    Attributes:
        size: How many members the gang starts with; it waits for all of them.
        member: A request with the same number takes the place of one that stopped.
        pauses: Whether the gang waits, when this request ends by itself, for a successor or for
            word that there is none; it does not wait after one that was aborted.
        once: Of a request that only computes its tokens beside the members' next step.
    """

    gang: Name
    size: int = Field(ge=1, le=256)
    member: int = Field(ge=0)
    pauses: bool = True
    once: bool = False


class Note(_NoteModel):
    """All that a request asks of the plugin.

    Attributes:
        key: A secret of the client's: names of segments and gangs are its own.  Without one they
            are common to all clients that give none.
        order: Number of this note among its client's, from 1 on, where requests may overtake each
            other: a view of an earlier note does not replace that of a later one.
        home: Position of the request's first own token.
        copied: How many leading tokens of the prompt are those of ``view``'s segments, whose keys
            and values are copied instead of computed (a join); 0 where they are read in place.
        path: The identity that a model with path vectors gives to all that the request computes; 0
            is that of no path (ParaThinker).  A model without them ignores it.
        views: New views of other requests, by the name of the segment that each one writes.
        release: Segments that nobody needs any more.
        leave: Gangs and members that will not go on.
    """

    v: Literal[1] = 1
    key: str = ""
    order: int = Field(default=0, ge=0)
    home: int | None = Field(default=None, ge=0)
    keeps: tuple[KeptRun, ...] = ()
    view: AttentionView | None = None
    copied: int = Field(default=0, ge=0)
    path: int = Field(default=0, ge=0)
    member: Member | None = None
    views: dict[Name, AttentionView] = {}
    release: tuple[Name, ...] = ()
    leave: tuple[tuple[Name, int], ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.copied and self.view is None:
            raise ValueError("copied: there is no view to copy from; give one")
        seen = self.view.segments if self.view is not None else ()
        if self.copied and any(one.upto is None for one in seen):
            raise ValueError("copied: only a known number of tokens can be copied; give each upto")
        if self.copied and self.member is not None:
            raise ValueError("copied: a member of a gang attends to what it sees; leave copied out")
        if self.path and self.view is None:
            raise ValueError("path: a path sees what it starts from; give a view")
        if self.view is not None and self.home is None:
            raise ValueError("home: a request with a view needs the position of its first token")
        return self

    @property
    def offset(self) -> int:
        """What is added to the positions that vLLM counts."""
        return 0 if self.home is None else self.home - self.copied

    @property
    def attends(self) -> bool:
        """Whether its tokens attend to segments of other requests where they are stored."""
        return self.view is not None and not self.copied

    def arguments(self) -> dict[str, str]:
        """The extra arguments of a request with this note."""
        return {KEY: self.model_dump_json(exclude_defaults=True)}


def owned(note: Note) -> Note:
    """A note whose names can't be those of another key's."""
    if not note.key:
        return note
    apart = partial(_apart, blake2b(note.key.encode(), digest_size=16).hexdigest())

    def seen(view: AttentionView | None) -> AttentionView | None:
        if view is None:
            return None
        segments = tuple(one.model_copy(update={"name": apart(one.name)}) for one in view.segments)
        return view.model_copy(update={"segments": segments})

    member = note.member
    return note.model_copy(
        update={
            "keeps": tuple(k.model_copy(update={"name": apart(k.name)}) for k in note.keeps),
            "view": seen(note.view),
            "member": member and member.model_copy(update={"gang": apart(member.gang)}),
            "views": {apart(name): seen(view) for name, view in note.views.items()},
            "release": tuple(apart(name) for name in note.release),
            "leave": tuple((apart(gang), number) for gang, number in note.leave),
        }
    )


def _apart(digest: str, name: str) -> str:
    return f"{name}@{digest}"


def shown(text: str) -> str:
    """A text about segments without what tells whose they are."""
    return re.sub("@[0-9a-f]{32}", "", text)


def read_note(arguments: Mapping[str, Any] | None) -> Note | None:
    """The note among a request's extra arguments; None where there is none.

    Raises:
        InvalidValue: it is malformed.
    """
    text = (arguments or {}).get(KEY)
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidValue(f"{KEY}: the note is not a string; give JSON in a string")
    try:
        return owned(Note.model_validate_json(text))
    except ValidationError as error:
        raise InvalidValue(f"{KEY}: {why(error)}; see docs/vllm-plugin.md") from error
