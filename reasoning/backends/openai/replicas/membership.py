"""Who is a replica: those that join are opened, those that leave closed, those that are out asked.

Nothing is asked while nobody asks anything, unless a server is out; that one is asked for its
health, more and more seldom, until it is well.  One that is silent while requests wait there is
asked as well, and they are given up if it does not answer.  Some servers never do while they write:
so one of them must have been seen to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Any, Protocol

import anyio

from reasoning.backends.openai.replicas.addresses import Addresses
from reasoning.backends.openai.replicas.choice import MOST_S, Replica, Replicas

logger = logging.getLogger(__name__)

CHECK_S = 1.0
"""After so long a server that was lost is asked for its health; doubled each time, up to 30 s."""
ANSWER_S = 5.0
"""How long it may take to say that it is well."""
DOUBT_S = 10.0
"""After so long a silence a server is asked for its health."""


class Awaiting(Protocol):
    """Whoever waits for a server's next bytes."""

    @property
    def silent_s(self) -> float:
        """For how long nothing came."""
        ...

    def give_up(self) -> None:
        """Have them see it lost."""
        ...


class Membership:
    """Keeps `Replicas` what they are.

    Attributes:
        replicas: Who can be asked.
    """

    def __init__(
        self,
        addresses: Addresses,
        connect: Callable[[str], AbstractAsyncContextManager[Any]],
        spawn: Callable[..., object],
        *,
        most: int,
    ) -> None:
        """
        Args:
            connect: Opens a client of one server.
            spawn: Has a coroutine function run in the background.
            most: Requests that may be open at one server.
        """
        self.replicas = Replicas([], look=self._look)
        self._addresses = addresses
        self._connect = connect
        self._spawn = spawn
        self._most = most
        self._open: dict[Replica, AsyncExitStack] = {}
        self._becoming = anyio.Lock()
        self._waiting: dict[Replica, dict[Awaiting, None]] = {}  # in their order
        self._tells = False

    async def begin(self) -> None:
        """Open a client of each.

        Raises:
            InvalidValue, BackendLost: as `Addresses.now`, or a client can't be made.
        """
        self.replicas.members.clear()
        await self._become(await self._addresses.now())

    async def close(self) -> None:
        """Close all clients."""
        for stack in self._open.values():
            await stack.aclose()
        self._open.clear()

    def lose(self, one: Replica, wait_s: float | None) -> None:
        """A request was lost there: it is out until it says that it is well.

        A replica that is alone is asked all the same; then there is nothing to find out.
        """
        one.rest(wait_s)
        if len(self.replicas.members) > 1 and not one.out:
            one.out = True
            one.lost += 1
            self._spawn(self._bring_back, one)

    async def _bring_back(self, one: Replica) -> None:
        wait = CHECK_S * 2.0 ** min(one.lost - 1, 30)
        while one in self.replicas.members:
            await anyio.sleep(max(min(wait, MOST_S), one.closed_s))
            if await _is_well(one):
                break
            logger.info("%s is not well yet", one.url)
            wait = min(2 * wait, MOST_S)
        one.come_back()
        self.replicas.wake()

    @contextmanager
    def waiting(self, one: Replica, request: Awaiting) -> Iterator[None]:
        """A block that waits for a server's answer, and is given up if that stands still."""
        if len(self.replicas.members) == 1:
            yield
            return
        if one not in self._waiting:
            self._waiting[one] = {}
            self._spawn(self._watch, one)
        there = self._waiting[one]
        there[request] = None
        try:
            yield
        finally:
            there.pop(request)

    async def _watch(self, one: Replica) -> None:
        there = self._waiting[one]
        await anyio.sleep(CHECK_S)
        if there and not self._tells and await _is_well(one):
            self._tells = True
        while there:
            await anyio.sleep(DOUBT_S - max(request.silent_s for request in there) % DOUBT_S)
            if any(request.silent_s >= DOUBT_S for request in there) and await self._stands(one):
                logger.info("%s stands still", one.url)
                for request in [one for one in there if one.silent_s >= DOUBT_S]:
                    request.give_up()
        del self._waiting[one]

    async def _stands(self, one: Replica) -> bool:
        """Whether a server does not say that it is well, asked twice, though such servers do."""
        well = await _is_well(one)
        self._tells |= well
        return self._tells and not well and not await _is_well(one)

    def _look(self) -> None:
        if self._addresses.due():
            self._spawn(self._look_again)

    async def _look_again(self) -> None:
        async with self._becoming:
            await self._become(await self._addresses.now())
        self.replicas.wake()

    async def _become(self, urls: tuple[str, ...]) -> None:
        """Have these addresses, and no others, be members; who leaves ends what it has begun."""
        members = self.replicas.members
        for one in [one for one in members if one.url not in urls]:
            members.remove(one)
            logger.info("%s has left", one.url)
        for url in urls:
            if all(one.url != url for one in members):
                stack = AsyncExitStack()
                client = await stack.enter_async_context(self._connect(url))
                members.append(one := Replica(url, client, most=self._most))
                self._open[one] = stack
        for one in [one for one in self._open if one not in members and not one.busy]:
            await self._open.pop(one).aclose()


async def _is_well(one: Replica) -> bool:
    """Whether a server says so: by ``/health``, or by its list of models where it has none."""
    said = await _status(one, one.url.rsplit("/v1", 1)[0] + "/health")
    if said is not None and 400 <= said < 500:
        said = await _status(one, "/models")
        return said is not None and said < 500 and said != 429
    return said is not None and said < 300


async def _status(one: Replica, path: str) -> int | None:
    """The status of a page; None where no answer comes in time."""
    from openai import APIStatusError, OpenAIError

    with anyio.move_on_after(ANSWER_S):
        try:
            await one.client.get(path, cast_to=object)
        except APIStatusError as error:
            return error.status_code
        except (OpenAIError, ValueError):
            return None
        return 200
    return None
