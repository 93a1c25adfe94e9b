"""Samples that are observed while they are written, so that probing policies can be replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from orchestrator.errors import InvalidValue
from pruning import Allocation, Ballots, Decisions, VotingPolicy
from pruning.policy import Need
from reasoning.errors import CapabilityMissing
from reasoning.models.loaded import LoadedModel
from reasoning.policies import SteeredBy
from reasoning.run.driver import GRID, NEEDED
from reasoning.run.solution import TraceRecord


@dataclass(frozen=True, kw_only=True)
class ObservedSample(VotingPolicy[Ballots]):
    """One sample, asked after every ``every`` tokens what it would answer; 0 for never."""

    every: int
    n: int = 1

    def start(self, state: Ballots) -> Decisions:
        every = state.probe_interval(self.every) if self.every else 0
        return state.launch(self.n, "observed", probe_every=every)


@dataclass(frozen=True, kw_only=True)
class ConfidentlyObserved(ObservedSample):
    """The same, whose confidence is measured too."""

    needs: ClassVar[frozenset[Need]] = frozenset({"confidence"})


def observing(model: LoadedModel, every: int) -> ObservedSample:
    """What observes a sample of a model each ``every`` tokens, as far as its backend can.

    Raises:
        InvalidValue: ``every`` is no multiple of the grid on which policies observe.
        CapabilityMissing: the backend can neither be probed nor tell confidences.
    """
    if every % GRID:
        raise InvalidValue(f"observe: {every} is no multiple of {GRID}; give one")
    capabilities = model.backend.capabilities
    probes = NEEDED["probes"] <= capabilities
    confident = NEEDED["confidence"] <= capabilities
    if not probes and not confident:
        raise CapabilityMissing(
            f"observe: {model.name} can neither be probed nor tells confidences here; leave it out"
        )
    return (ConfidentlyObserved if confident else ObservedSample)(every=every if probes else 0)


def observed(trace: TraceRecord, every: int) -> tuple[list[float], list[str | None]]:
    """What was observed of a sample at each multiple of ``every`` tokens.

    Returns:
        The mean confidence of each such stretch that was written whole, and the answers to probes,
        up to the last that was made.
    """
    width = every // GRID
    whole = len(trace.confidences) // width
    stretches = [trace.confidences[at * width : (at + 1) * width] for at in range(whole)]
    asked = dict(trace.probes)
    last = max(asked, default=0)
    probes = [asked.get(tokens) for tokens in range(every, last + 1, every)]
    return [sum(stretch) / width for stretch in stretches], probes


def check_observed(arms: Mapping[str, SteeredBy | Allocation], every: int) -> None:
    """Refuse policies that need what samples are not observed for, before any is paid.

    Raises:
        InvalidValue: naming the policy.
    """
    for text, arm in arms.items():
        needs = frozenset() if isinstance(arm, Allocation) else arm.policy.needs
        if not every and needs & {"confidence", "probes"}:
            raise InvalidValue(
                f"policy: {text} needs {', '.join(sorted(needs))} of each sample; "
                "give --observe 64, or choose async"
            )
