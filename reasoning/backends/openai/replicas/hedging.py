"""Late answers, asked for once more elsewhere (Dean and Barroso, The Tail at Scale, CACM 2013).

An answer is late if it comes much more slowly than others write, or has taken much longer than
theirs took.  How fast a whole answer comes can't be seen, so a server of unknown pace streams one.
Both requests have the thread's seed.  The second one's answer counts only if it is whole first and
begins as the first one's does so far; what was written twice is counted as thrown away.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

import anyio

from reasoning.backends.base import Token
from reasoning.backends.openai.replicas.choice import LEAST_TOKENS, SLOW, Replica, Replicas
from reasoning.backends.text_tokens import size_of, text_of, text_token
from reasoning.errors import BackendLost

logger = logging.getLogger(__name__)

LOOK_S = 0.25
"""How often open requests are looked at."""
LEAST_S = 2.0
"""After so long a few tokens tell how fast they come."""
LATE = 2.0
"""So many times as long as nine of ten answers took is late."""
KNOWN, REMEMBERED = 4, 64
"""Answers of a server from which that is known at the least, and at the most."""


class Askable(Protocol):
    """A request that can be sent once more, and be given up."""

    @property
    def replica(self) -> Replica: ...

    @property
    def whole(self) -> bool:
        """Whether its answer comes at once."""
        ...

    def give_up(self) -> None:
        """Have whoever reads its answer see it lost."""
        ...


Asked = TypeVar("Asked", bound=Askable)


@dataclass(eq=False)
class Watched(Generic[Asked]):
    """One open request.

    Attributes:
        said: The tokens of its answer so far.
        size: How many of the model's tokens these are, about, but for the first.
        second: Those of the other request's, where there is one.
        won: Whether that one was whole first.
    """

    request: Asked
    began: float = field(default_factory=lambda: time.monotonic())
    first_at: float = 0.0
    said: list[int] = field(default_factory=list)
    size: float = 0.0
    hedged: bool = False
    second: list[Token] = field(default_factory=list)
    won: bool = False
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def take(self, token: int, size: float) -> None:
        """A token came."""
        if self.said:
            self.size += size
        else:
            self.first_at = time.monotonic()
        self.said.append(token)

    @property
    def pace(self) -> float | None:
        """Tokens a second so far; None where none can be told from them."""
        seconds = time.monotonic() - self.first_at
        known = self.size >= LEAST_TOKENS or (self.size > 0 and seconds >= LEAST_S)
        return self.size / seconds if known and seconds > 0 else None


class Hedging(Generic[Asked]):
    """Watches open requests, and asks once more for those that are late."""

    def __init__(
        self,
        replicas: Replicas,
        ask: Callable[[Asked], AsyncGenerator[Token, None]],
        again: Callable[[Asked, Replica], Asked],
        spawn: Callable[..., object],
        *,
        exact: bool,
    ) -> None:
        """
        Args:
            ask: Sends a request, and yields its answer.
            again: The same request for another replica.
            spawn: Has a coroutine function run in the background.
            exact: Whether tokens are the model's own, and not runs of text.
        """
        self._replicas = replicas
        self._ask = ask
        self._again = again
        self._spawn = spawn
        self._exact = exact
        self._open: list[Watched[Asked]] = []
        self._watching = False
        self._took: WeakKeyDictionary[Replica, deque[float]] = WeakKeyDictionary()

    async def answer(
        self, request: Asked, discard: Callable[[int], None]
    ) -> AsyncGenerator[Token, None]:
        """The tokens of an answer, whoever is first; ``discard`` is told how many others cost.

        Raises:
            BackendLost: as without.
        """
        one = Watched(request)
        self._open.append(one)
        if not self._watching:
            self._watching = True
            self._spawn(self._watch)
        rest: list[Token] = []
        try:
            async with aclosing(self._ask(request)) as stream:
                async for token in stream:
                    one.take(token.token, 1.0 if self._exact else size_of(token.token))
                    if token.reason is not None:  # who reads it stops here
                        self._note(one)
                    yield token
        except BackendLost:
            found = self._rest(one) if one.won else None
            if found is None:
                raise
            rest = found
        finally:
            self._open.remove(one)
            one.scope.cancel()
            discard(len(one.said) if rest else len(one.second))
        for token in rest:
            yield token

    def measures(self, replica: Replica) -> bool:
        """Whether an answer there is to be streamed, so that its pace is seen."""
        if len(self._replicas.members) < 2 or replica.recent_rate is not None:
            return False
        return all(one.request.whole for one in self._at(replica))

    def _at(self, replica: Replica) -> Iterator[Watched[Asked]]:
        return (one for one in self._open if one.request.replica is replica)

    def _note(self, one: Watched[Asked]) -> None:
        """Note how long an answer took that is there."""
        took = self._took.setdefault(one.request.replica, deque(maxlen=REMEMBERED))
        took.append(time.monotonic() - one.began)

    async def _watch(self) -> None:
        while self._open:
            await anyio.sleep(LOOK_S)
            for one in self._open:
                if not one.hedged and (other := self._quicker(one)) is not None:
                    one.hedged = True
                    self._spawn(self._hedge, one, other)
        self._watching = False

    def _quicker(self, one: Watched[Asked]) -> Replica | None:
        """Who is to be asked besides; None where the request is not late, or nobody has room."""
        others = [
            other
            for other in self._replicas.members
            if other is not one.request.replica and not other.resting and other.busy < other.most
        ]
        if not others:
            return None
        best = max(other.rate or 0.0 for other in others)
        pace = one.pace or self._pace_at(one.request.replica)
        slow = pace is not None and SLOW * pace < best
        if not slow and time.monotonic() - one.began <= self.late_s:
            return None
        quick = [other for other in others if not other.slower_than(best)]
        return min(quick, key=lambda other: other.busy)

    def _pace_at(self, replica: Replica) -> float | None:
        """That of the quickest stream there, or else what is known from before."""
        paces = [pace for one in self._at(replica) if (pace := one.pace) is not None]
        return max(paces, default=replica.recent_rate)

    @property
    def late_s(self) -> float:
        """Seconds after which an answer is late, by those that have ended.

        It is told by the server in the middle, since a slow one's own answers would allow for it.
        """
        known = [sorted(took) for took in self._took.values() if len(took) >= KNOWN]
        most = sorted(took[int(0.9 * len(took))] for took in known)
        return LATE * most[(len(most) - 1) // 2] if most else float("inf")

    async def _hedge(self, one: Watched[Asked], other: Replica) -> None:
        logger.info("%s is late; %s is asked as well", one.request.replica.url, other.url)
        other.busy += 1
        try:
            with one.scope:
                async with aclosing(self._ask(self._again(one.request, other))) as stream:
                    async for token in stream:
                        one.second.append(token)
                if self._rest(one) is not None:
                    one.won = True
                    at_most = max(one.size, LEAST_TOKENS)
                    one.request.replica.wrote(at_most, time.monotonic() - one.began)
                    one.request.give_up()
        except BackendLost as error:
            logger.info("%s, which was asked as well, is lost: %s", other.url, error)
        finally:
            other.busy -= 1
            self._replicas.wake()

    def _rest(self, one: Watched[Asked]) -> list[Token] | None:
        """The second answer behind what the first one has said; None where it is another."""
        if self._exact:
            count = len(one.said)
            same = [token.token for token in one.second[:count]] == one.said
            return one.second[count:] if same and len(one.second) > count else None
        left = text_of(one.said)
        if not text_of([token.token for token in one.second]).startswith(left):
            return None
        return list(_behind(one.second, len(left)))


def _behind(tokens: Sequence[Token], skip: int) -> Iterator[Token]:
    """Tokens of text without their first ``skip`` characters; the last one is always there."""
    for token in tokens:
        text = text_of([token.token])
        cut, skip = text[skip:], max(0, skip - len(text))
        if cut or token.reason is not None or (not text and not skip):
            yield token if cut == text else token._replace(token=text_token(cut))
