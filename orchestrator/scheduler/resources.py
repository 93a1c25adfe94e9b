"""Named resources that tasks share: an amount, a rate, and a breaker for what is broken."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from orchestrator.errors import InvalidValue
from orchestrator.options import check_kind


class Resource(Protocol):
    """What tasks take some of before they start.

    Attributes:
        capacity: The most that one task may take.
        once: Whether a task that goes on after it waited for others need not find some free.
    """

    capacity: float
    once: bool

    @property
    def free(self) -> float:
        """How much can be taken now."""

    def take(self, amount: float, *, fresh: bool) -> None:
        """Take some; not ``fresh`` for a task that goes on after it waited for others."""

    def give_back(self, amount: float) -> None:
        """A task that took so much has ended, or waits for others."""

    def free_in(self, amount: float) -> float:
        """In how many seconds so much may be free by itself; infinite if it never is."""

    def heard(self, *, failed: bool) -> None:
        """An attempt of a task that took of it has succeeded, or has failed."""


class Amount:
    """So much of something, which comes back when a task has ended."""

    once = False

    def __init__(self, capacity: float) -> None:
        self.capacity = self.free = capacity

    def take(self, amount: float, *, fresh: bool) -> None:
        """See `Resource`; it may fall below zero for what goes on anyway."""
        self.free -= amount

    def give_back(self, amount: float) -> None:
        """See `Resource`."""
        self.free += amount

    def free_in(self, amount: float) -> float:
        """See `Resource`."""
        return math.inf

    def heard(self, *, failed: bool) -> None:
        """See `Resource`."""


class Rate:
    """At most ``amount`` in any ``per`` seconds, such as requests or tokens a minute; a resource::

        api = Rate(60, per=60)
        graph = TaskGraph(resources={"requests": api, "tokens": Rate(90_000, per=60)})
        graph.add(ask, "why?", resources={"requests": 1, "tokens": 1_200})

    Each attempt takes what its task names when it starts.  Graphs that are given the same object
    share it, also across threads.
    """

    once = True

    def __init__(
        self, amount: float, per: float = 60.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        for field, value in (("amount", amount), ("per", per)):
            check_kind("rate", field, value, (int, float), "a number above 0")
            if not 0 < value < math.inf:
                raise InvalidValue(f"rate {field} is {value}; give a number above 0")
        self.capacity = amount
        self.per = per
        self._clock = clock
        self._taken: deque[tuple[float, float]] = deque()
        """When something was taken and how much, within the last ``per`` seconds."""
        self._used = 0.0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Rate({self.capacity:g}, per={self.per:g})"

    @property
    def free(self) -> float:
        """See `Resource`."""
        with self._lock:
            while self._taken and self._taken[0][0] <= self._clock() - self.per:
                self._used -= self._taken.popleft()[1]
            return self.capacity - (self._used if self._taken else 0.0)

    def take(self, amount: float, *, fresh: bool) -> None:
        """See `Resource`."""
        if fresh:
            with self._lock:
                self._used = (self._used if self._taken else 0.0) + amount
                self._taken.append((self._clock(), amount))

    def give_back(self, amount: float) -> None:
        """What was taken from a rate does not come back."""

    def free_in(self, amount: float) -> float:
        """See `Resource`."""
        lacking, wait = amount - self.free, 0.0
        with self._lock:
            for at, taken in self._taken:
                if lacking <= 0:
                    break
                lacking -= taken
                wait = at + self.per - self._clock()
        return max(0.0, wait)

    def heard(self, *, failed: bool) -> None:
        """See `Resource`."""


class Breaker:
    """Holds tasks back from something that is broken; a resource::

        graph = TaskGraph(resources={"search": Breaker(failures=5, rest=30)})
        graph.add(search, "graphs", resources={"search": 1}, retry=Retry(times=3))

    After so many failures of attempts in a row nobody starts for ``rest`` seconds.  Then one may
    try: if it succeeds all go on, else the rest begins anew.  Who would rather fail than wait
    says ``Timeout(queue=...)``.
    """

    capacity = math.inf
    once = True

    def __init__(
        self,
        failures: int = 5,
        rest: float = 30.0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_kind("breaker", "failures", failures, (int,), "1 or more")
        check_kind("breaker", "rest", rest, (int, float), "a number of seconds")
        if failures < 1 or not 0 < rest < math.inf:
            raise InvalidValue(
                f"breaker has failures={failures}, rest={rest}; give 1 or more, and seconds above 0"
            )
        self.failures = failures
        self.rest = rest
        self._clock = clock
        self._in_a_row = 0
        self._closed_until = -math.inf
        self._tries = 0

    def __repr__(self) -> str:
        return f"Breaker(failures={self.failures}, rest={self.rest:g})"

    @property
    def is_open(self) -> bool:
        """Whether it holds tasks back, all or all but one."""
        return self._in_a_row >= self.failures

    @property
    def free(self) -> float:
        """See `Resource`."""
        if not self.is_open:
            return math.inf
        resting = self._clock() < self._closed_until
        return 0.0 if resting or self._tries else math.inf

    def take(self, amount: float, *, fresh: bool) -> None:
        """See `Resource`."""
        self._tries += 1

    def give_back(self, amount: float) -> None:
        """See `Resource`."""
        self._tries -= 1

    def free_in(self, amount: float) -> float:
        """See `Resource`; while another graph tries, it is looked at again after a rest."""
        resting = max(0.0, self._closed_until - self._clock())
        return resting or self.rest * bool(self._tries)

    def heard(self, *, failed: bool) -> None:
        """See `Resource`."""
        self._in_a_row = self._in_a_row + 1 if failed else 0
        if self.is_open:
            self._closed_until = self._clock() + self.rest


def resources_of(given: Mapping[str, object]) -> dict[str, Resource]:
    """The resources of a graph, as they were given: numbers, or objects such as `Rate`.

    Raises:
        InvalidValue: one is neither; the message names it.
    """
    check_kind("graph", "resources", given, (Mapping,), 'names with numbers, such as {"gpu": 1}')
    found: dict[str, Resource] = {}
    for name, value in given.items():
        check_kind("graph", "resources", name, (str,), "names of resources")
        if isinstance(value, (Amount, Rate, Breaker)):
            found[name] = value
        else:
            wanted = "a number, Rate(...) or Breaker(...)"
            check_kind("graph", f"resources[{name!r}]", value, (int, float), wanted)
            assert isinstance(value, (int, float))
            found[name] = Amount(value)
    return found
