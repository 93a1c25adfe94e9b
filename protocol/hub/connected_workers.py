"""A worker as the hub sees it, whatever the transport: what it can do, and what it is doing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from protocol.wire.messages import Down, Kind, ModelOffer, Payload, Profile, TaskNeeds

FAR_BYTES = 8 << 20
"""Data of this size to be sent weighs as much as a worker that is full."""

WINDOW_S = 0.25
"""Tokens are counted over about so many seconds."""

READ_BYTES = 8 << 10
"""A thread's arguments of this size take as long to read as a thread takes to write.

A token is read in a third of the time that one takes to write among 32 (reason-5m, embedded).
"""

GAIN = 1.1
"""What brings so many times the tokens is worth it."""

GUESS = 1.4
"""So many times the tokens come from twice the threads of a batch, where that is not yet known."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What tasks that any of the same workers can run have in common."""

    kind: Kind
    name: str
    worker: str | None
    platform: str | None
    tags: frozenset[str]
    resources: tuple[tuple[str, int], ...]
    fingerprint: str
    capabilities: frozenset[str] = frozenset()

    @classmethod
    def of(cls, kind: Kind, name: str, needs: TaskNeeds) -> Demand:
        """What a task demands."""
        return cls(
            kind=kind,
            name=name,
            worker=needs.worker,
            platform=needs.platform,
            tags=needs.tags,
            resources=tuple(sorted((n, amount) for n, amount in needs.resources.items() if amount)),
            fingerprint=needs.fingerprint,
            capabilities=needs.capabilities,
        )

    def __str__(self) -> str:
        wanted = [f"{self.kind} {self.name}"]
        wanted += [f"worker {self.worker}"] if self.worker else []
        wanted += [f"platform {self.platform}"] if self.platform else []
        wanted += [f"tag {tag}" for tag in sorted(self.tags)]
        wanted += [f"{amount} {name}" for name, amount in self.resources]
        wanted += [f"fingerprint {self.fingerprint}"] if self.fingerprint else []
        wanted += [f"a model with {name}" for name in sorted(self.capabilities)]
        return ", ".join(wanted)


class WorkerLoad:
    """What a worker is doing, against what it can."""

    __slots__ = ("_limits", "_slots", "_used")

    def __init__(self, profile: Profile) -> None:
        models = {f"model {offer.name}": offer.slots for offer in profile.models}
        self._limits = {**profile.resources, **models, _TASKS: profile.slots}
        self._used = dict.fromkeys(self._limits, 0)
        self._slots = (_TASKS, *models)

    @property
    def full(self) -> bool:
        """Whether it has no room for any task."""
        return all(self._used[name] >= self._limits[name] for name in self._slots)

    def fits(self, demand: Demand) -> bool:
        """Whether there is room for one more, for a worker that is able."""
        return all(
            self._used[name] + amount <= self._limits[name] for name, amount in _amounts(demand)
        )

    def take(self, demand: Demand) -> None:
        """Account for a task that is assigned."""
        for name, amount in _amounts(demand):
            self._used[name] += amount

    def give_back(self, demand: Demand) -> None:
        """Account for a task that has ended."""
        for name, amount in _amounts(demand):
            self._used[name] -= amount

    def pause(self, demand: Demand, paused: bool) -> None:
        """Account for a thread that stands still, and so takes no slot, or goes on again."""
        name, amount = _amounts(demand)[-1]
        self._used[name] += -amount if paused else amount

    def lanes(self, demand: Demand) -> int:
        """How many threads of a model write now, or how many functions and tools run."""
        return self._used[_amounts(demand)[-1][0]]

    def cost(self, demand: Demand, missing_bytes: int, unread_bytes: int) -> float:
        """How bad a choice it is: its load, a thread included, and what has to be sent and read."""
        name, amount = _amounts(demand)[-1]
        more = amount + unread_bytes / READ_BYTES if demand.kind == "thread" else 0
        return (self._used[name] + more) / self._limits[name] + missing_bytes / FAR_BYTES


class BatchCurve:
    """Tokens a second that came from one worker, for 1, 2 to 3, 4 to 7, 8 to 15 … threads at once.

    The hub counts what arrives, so that nobody has to be believed and slow networks count as well.

    Attributes:
        rates: Those that are known, by the bits of the number of threads.
    """

    __slots__ = ("_since", "_size", "_tokens", "rates")

    def __init__(self) -> None:
        self.rates: dict[int, float] = {}
        self._size = 0
        self._since = 0.0
        self._tokens = 0

    def note(self, lanes: int, tokens: int, now: float) -> None:
        """So many tokens came while so many threads were writing."""
        size, seconds = lanes.bit_length(), now - self._since
        if size != self._size:
            self._size, self._since, self._tokens = size, now, 0
            return
        self._tokens += tokens
        if self._tokens and seconds >= WINDOW_S:
            rate = self._tokens / seconds
            self.rates[size] = (self.rates.get(size, rate) + rate) / 2
            self._since, self._tokens = now, 0

    def behind(self, other: BatchCurve) -> float:
        """How many times as fast the other was, with as many threads; 1 where that is not known."""
        mine, its = self.rates, other.rates
        both = mine.keys() & its.keys()
        return sum(its[size] for size in both) / sum(mine[size] for size in both) if both else 1.0

    def growth(self, lanes: int) -> float:
        """How many times the tokens came from twice the threads, where that was least so far.

        Only what is known up to ``lanes`` threads counts.
        """
        known = sorted(size for size in self.rates if size <= lanes.bit_length())
        steps = pairwise(known)
        return min(
            ((self.rates[b] / self.rates[a]) ** (1 / (b - a)) for a, b in steps), default=GUESS
        )


_TASKS = "tasks at once"
"""Functions and tools share the worker's slots; each model has its own."""


def _amounts(demand: Demand) -> tuple[tuple[str, int], ...]:
    slot = f"model {demand.name}" if demand.kind == "thread" else _TASKS
    return (*demand.resources, (slot, 1))


class WorkerTransport(Protocol):
    """Brings messages to one worker, in order; it must not block, nor call back at once."""

    inline: bool
    """Whether tasks bring long arguments as text, for transports that know no payloads."""

    def send(self, message: Down) -> None:
        """Send a message."""
        ...

    def provide(self, payload: Payload, data: bytes) -> None:
        """Send a payload, before the task that refers to it."""
        ...


class ConnectedWorker:
    """One worker at the hub.

    Attributes:
        id: Who it is.
        profile: What it can do.
        scopes: The kinds of tasks that its token allows.
        transport: How it is reached.
        away: Whether its connection is broken; its tasks stay until its lease ends.
        draining: Whether it wants no more tasks.
        load: What it is doing, against what it can.
        assigned: Its tasks: the fence of each assignment, by id.
        data: Digests of the payloads that it was given.
        problems: How many of its tasks belong to each problem.
        curves: How fast it writes with each model.
    """

    __slots__ = (
        "assigned",
        "away",
        "curves",
        "data",
        "draining",
        "id",
        "load",
        "problems",
        "profile",
        "scopes",
        "transport",
    )

    def __init__(
        self, id: str, profile: Profile, scopes: frozenset[Kind], transport: WorkerTransport
    ) -> None:
        self.id = id
        self.profile = profile
        self.scopes = scopes
        self.transport = transport
        self.away = False
        self.draining = False
        self.load = WorkerLoad(profile)
        self.assigned: dict[str, int] = {}
        self.data: set[str] = set()
        self.problems: Counter[str] = Counter()
        self.curves: dict[str, BatchCurve] = {}

    def curve(self, model: str) -> BatchCurve:
        """What is known of a model's speed here."""
        return self.curves.setdefault(model, BatchCurve())

    def keeps(self, demand: Demand, other: ConnectedWorker) -> bool:
        """Whether a thread in the batch here brings more tokens than one at the other worker would.

        Twice the threads on the same cores must bring `GAIN` times the tokens.  On other cores they
        would bring twice as many, so those here must come near to that.
        """
        needed = GAIN if self.shares_cores(other) else 2 / GAIN
        return self.curve(demand.name).growth(self.load.lanes(demand) + 1) >= needed

    def shares_cores(self, other: ConnectedWorker) -> bool:
        """Whether both compute on the same cores, as far as is known."""
        mine, its = self.profile, other.profile
        if not (mine.machine and its.machine):
            return True
        apart = mine.cores and its.cores and mine.cores.isdisjoint(its.cores)
        return mine.machine == its.machine and not apart

    def leave_problem(self, problem: str) -> None:
        """A task of the problem is no longer here."""
        self.problems[problem] -= 1
        if not self.problems[problem]:
            del self.problems[problem]

    @property
    def open(self) -> bool:
        """Whether it can be given tasks now."""
        return not (self.away or self.draining)

    def able(self, demand: Demand) -> bool:
        """Whether it could run such tasks when it has nothing else to do."""
        profile = self.profile
        return (
            demand.kind in self.scopes
            and demand.worker in (None, self.id)
            and demand.platform in (None, profile.platform)
            and demand.tags <= profile.tags
            and all(profile.resources.get(name, 0) >= amount for name, amount in demand.resources)
            and self._offers(demand)
        )

    def lacks(self, demand: Demand) -> list[str]:
        """Why it is not able to run such tasks, though it offers what is asked for by name."""
        profile, why = self.profile, []
        if demand.kind not in self.scopes:
            why.append(f"its token is not for the kind {demand.kind}")
        if demand.worker not in (None, self.id):
            why.append(f"the task is for {demand.worker} alone")
        if demand.platform not in (None, profile.platform):
            why.append(f"its platform is {profile.platform or 'not told'}")
        why += [f"it lacks the tag {tag}" for tag in sorted(demand.tags - profile.tags)]
        for name, amount in demand.resources:
            if (has := profile.resources.get(name, 0)) < amount:
                why.append(f"it has {has} {name}")
        offer = self.model(demand.name) if demand.kind == "thread" else None
        if offer is not None and demand.fingerprint not in ("", offer.fingerprint):
            why.append("its model has another fingerprint")
        if offer is not None:
            lacking = sorted(demand.capabilities - offer.capabilities)
            why += [f"its model lacks {name}" for name in lacking]
        return why

    def model(self, name: str) -> ModelOffer | None:
        """What it says of a model, if it offers one of that name."""
        return next((offer for offer in self.profile.models if offer.name == name), None)

    def holds(self, demand: Demand) -> bool:
        """Whether such threads can stand still at a token."""
        offer = self.model(demand.name) if demand.kind == "thread" else None
        return offer is not None and "holding" in offer.capabilities

    @property
    def offers(self) -> set[tuple[Kind, str]]:
        """The kind and name of all that it can be asked for."""
        found: set[tuple[Kind, str]] = {("function", one.name) for one in self.profile.functions}
        found |= {("tool", one.name) for one in self.profile.tools}
        return found | {("thread", one.name) for one in self.profile.models}

    def _offers(self, demand: Demand) -> bool:
        if demand.kind == "thread":
            return any(
                offer.name == demand.name
                and demand.fingerprint in ("", offer.fingerprint)
                and demand.capabilities <= offer.capabilities
                for offer in self.profile.models
            )
        offers = self.profile.functions if demand.kind == "function" else self.profile.tools
        return any(offer.name == demand.name for offer in offers)
