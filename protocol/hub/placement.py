"""Which worker gets a task: who can, who has room, who has the data; pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.wire.messages import Kind, ModelOffer, Profile, TaskNeeds

FAR_BYTES = 8 << 20
"""Data of this size to be sent weighs as much as a worker that is full."""


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

    @classmethod
    def of(cls, kind: Kind, name: str, needs: TaskNeeds) -> Demand:
        """What a task demands."""
        return cls(
            kind=kind,
            name=name,
            worker=needs.worker,
            platform=needs.platform,
            tags=needs.tags,
            resources=tuple(sorted(needs.resources.items())),
            fingerprint=needs.fingerprint,
        )

    def __str__(self) -> str:
        wanted = [f"{self.kind} {self.name}"]
        wanted += [f"worker {self.worker}"] if self.worker else []
        wanted += [f"platform {self.platform}"] if self.platform else []
        wanted += [f"tag {tag}" for tag in sorted(self.tags)]
        wanted += [f"{amount} {name}" for name, amount in self.resources]
        wanted += [f"fingerprint {self.fingerprint}"] if self.fingerprint else []
        return ", ".join(wanted)


def able(demand: Demand, id: str, profile: Profile, scopes: frozenset[Kind]) -> bool:
    """Whether a worker could run such tasks when it has nothing else to do."""
    return (
        demand.kind in scopes
        and demand.worker in (None, id)
        and demand.platform in (None, profile.platform)
        and demand.tags <= profile.tags
        and all(profile.resources.get(name, 0) >= amount for name, amount in demand.resources)
        and _knows(demand, profile)
    )


def _knows(demand: Demand, profile: Profile) -> bool:
    match demand.kind:
        case "function":
            return any(offer.name == demand.name for offer in profile.functions)
        case "tool":
            return any(offer.name == demand.name for offer in profile.tools)
        case "thread":
            return model(demand, profile) is not None


def model(demand: Demand, profile: Profile) -> ModelOffer | None:
    """The worker's model that a thread asks for."""
    for offer in profile.models:
        if offer.name == demand.name and demand.fingerprint in ("", offer.fingerprint):
            return offer
    return None


class WorkerLoad:
    """What a worker is doing, against what it can."""

    __slots__ = ("_limits", "_used")

    def __init__(self, profile: Profile) -> None:
        models = {f"model {offer.name}": offer.slots for offer in profile.models}
        self._limits = {**profile.resources, **models, _TASKS: profile.slots}
        self._used = dict.fromkeys(self._limits, 0)

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

    def cost(self, demand: Demand, missing_bytes: int) -> float:
        """How bad a choice it is: its load, and what would have to be sent."""
        name, _ = _amounts(demand)[-1]
        return self._used[name] / self._limits[name] + missing_bytes / FAR_BYTES


_TASKS = "tasks at once"
"""Functions and tools share the worker's slots; each model has its own."""


def _amounts(demand: Demand) -> tuple[tuple[str, int], ...]:
    slot = f"model {demand.name}" if demand.kind == "thread" else _TASKS
    return (*demand.resources, (slot, 1))
