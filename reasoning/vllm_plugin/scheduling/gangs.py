"""Who belongs to which gang, and whether a gang can advance: bookkeeping without vLLM."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.errors import InvalidValue
from reasoning.vllm_plugin.scheduling.segments import ActiveRequest


@dataclass(eq=False, kw_only=True)
class RequestGang:
    """Requests that advance together.

    Attributes:
        members: By number; None where one stopped and may have a successor.
        helpers: Requests that only compute tokens beside the members' next step.
        gone: Numbers that will not come (again).
        since: When it last had to wait for something; None while it advances.
    """

    name: str
    size: int
    members: dict[int, ActiveRequest | None] = field(default_factory=dict)
    helpers: list[ActiveRequest] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    started: bool = False
    since: float | None = None

    @property
    def requests(self) -> list[ActiveRequest]:
        """All of its requests that have not finished."""
        return [*self.helpers, *(one for one in self.members.values() if one is not None)]

    @property
    def complete(self) -> bool:
        """Whether every member is there that may still come."""
        arrived = self.started or len(self.members.keys() | self.gone) >= self.size
        return arrived and all(one is not None for one in self.members.values())


class RequestGangs:
    """The gangs of one engine, by name."""

    def __init__(self) -> None:
        self._gangs: dict[str, RequestGang] = {}

    def __iter__(self) -> Iterator[RequestGang]:
        return iter(list(self._gangs.values()))

    def __len__(self) -> int:
        return len(self._gangs)

    def arrive(self, one: ActiveRequest) -> None:
        """Take in a request; its gang is made when the first one comes.

        Raises:
            InvalidValue: its place is taken, or the size differs from what others said.
        """
        place = one.note.member
        assert place is not None
        gang = self._gangs.get(place.gang) or RequestGang(name=place.gang, size=place.size)
        if gang.size != place.size:
            raise InvalidValue(
                f"member: gang {gang.name!r} has size {gang.size}, not {place.size}; give one size"
            )
        if place.once:
            gang.helpers.append(one)
        elif gang.members.get(place.member) is not None:
            raise InvalidValue(
                f"member: {place.member} of gang {gang.name!r} is there already; wait for its end"
            )
        else:
            gang.members[place.member] = one
            gang.gone.discard(place.member)
        self._gangs[gang.name] = gang

    def finish(self, one: ActiveRequest, *, pauses: bool) -> None:
        """Take out a finished request; its gang waits for a successor if it ``pauses``."""
        place = one.note.member
        gang = self._gangs.get(place.gang) if place else None
        if place is None or gang is None or one not in gang.requests:
            return
        if place.once:
            gang.helpers.remove(one)
        elif pauses:
            gang.members[place.member] = None
        else:
            self._lose(gang, place.member)

    def leave(self, name: str, member: int) -> None:
        """Say that a member will not come, or not come again."""
        gang = self._gangs.get(name)
        if gang is not None and gang.members.get(member) is None:
            self._lose(gang, member)

    def _lose(self, gang: RequestGang, member: int) -> None:
        gang.members.pop(member, None)
        gang.gone.add(member)
        if not gang.members and not gang.helpers and (gang.started or len(gang.gone) >= gang.size):
            del self._gangs[gang.name]

    def forget(self, gang: RequestGang) -> None:
        """Drop a gang that has waited too long; what it has left is no gang any more."""
        self._gangs.pop(gang.name, None)

    def waited(self, gang: RequestGang) -> float:
        """How many seconds a gang has been waiting, from now on if it was not."""
        if gang.since is None:
            gang.since = time.monotonic()
        return time.monotonic() - gang.since
