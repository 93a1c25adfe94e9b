"""What voting policies share: the state (who runs, who answered what) and the dispatch."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, TypeVar

from pruning.decisions import NOTHING, Decisions, Finish, Launch
from pruning.observations import Began, Ended, Observation
from pruning.policies.votes import Tally, majority
from pruning.policy import Policy, PolicyError


@dataclass(kw_only=True, slots=True)
class Ballots:
    """How many traces were launched and run, and the votes of the ended ones.

    Attributes:
        max_traces: How many traces may be launched in all.
        probe_every: The driver can probe at multiples of this many tokens; 0 where it can't.
        answers: By trace, of those that ended by themselves.
        cut: By trace, of those that ended at their limit; they vote only where nobody finished.
        votes: How often each answer was given by a trace that ended by itself.
    """

    max_traces: int
    launched: int = 0
    running: int = 0
    answers: dict[int, str | None] = field(default_factory=dict)
    cut: dict[int, str | None] = field(default_factory=dict)
    votes: Counter[str] = field(default_factory=Counter)
    probe_every: int = 0

    @property
    def ended(self) -> int:
        """How many traces have ended."""
        return self.launched - self.running

    def begin(self, began: Began) -> None:
        """Take over what the driver can do."""
        if began.max_traces is not None:
            self.max_traces = min(self.max_traces, began.max_traces)
        self.probe_every = began.probe_every

    def probe_interval(self, wanted: int) -> int:
        """The least interval, of ``wanted`` tokens or more, that the driver can probe at; or 0."""
        return -(-wanted // self.probe_every) * self.probe_every if self.probe_every else 0

    def launch(
        self,
        count: int,
        reason: str,
        *,
        probe_every: int = 0,
        limit: int | None = None,
        mark: int = 0,
    ) -> Decisions:
        """Launch ``count`` more traces, or as many as are left; `NOTHING` where none is."""
        count = min(count, self.max_traces - self.launched)
        if count <= 0:
            return NOTHING
        self.launched += count
        self.running += count
        return (
            Launch(count=count, reason=reason, probe_every=probe_every, limit=limit, mark=mark),
        )

    def end(self, ended: Ended) -> None:
        """Count the vote of a trace that ended; one that was stopped has none."""
        self.running -= 1
        if ended.how == "length":
            self.cut[ended.trace] = ended.answer
        elif ended.how == "finished":
            self.answers[ended.trace] = ended.answer
            if ended.answer is not None:
                self.votes[ended.answer] += 1

    def tally(self, others: Mapping[int, str | None] | None = None) -> Tally:
        """Count the votes in the order of launch, so that the order of ends decides nothing.

        Args:
            others: Answers of traces that have none of their own yet.
        """
        ballots = {**(others or {}), **self.answers}
        return majority(ballots[trace] for trace in sorted(ballots))

    def elect(self, others: Mapping[int, str | None] | None = None) -> Decisions:
        """Finish with the majority of the traces that ended, or else of those that were cut."""
        tally = self.tally(others)
        if tally.winner is None:
            tally = self.tally(self.cut)
        if tally.winner is None:
            return (Finish(answer=None, reason=f"none of {self.launched} gave an answer"),)
        votes, cast = tally.votes[tally.winner], sum(tally.votes.values()) + tally.abstained
        lead = "majority" if 2 * votes > cast else "most votes, no majority"
        lead = "tied, the first" if tally.tied else lead
        return (Finish(answer=tally.winner, reason=f"{lead}: {votes} of {cast} votes"),)


B = TypeVar("B", bound=Ballots)


class VotingPolicy(Policy[B]):
    """A policy that launches traces at the beginning and decides whenever one has ended.

    A subclass that also uses other observations handles them in `observe` and leaves the rest to
    this one.

    Attributes:
        ballots: The kind of its state.
        n: The most traces.
    """

    ballots: ClassVar[type[Ballots]] = Ballots
    n: int

    @property
    def most(self) -> int:
        """The most traces that it launches.

        Raises:
            PolicyError: it has no ``n``.
        """
        if (most := getattr(self, "n", None)) is None:
            raise PolicyError(f"policy {self.name!r} has no n; give it that field, its most traces")
        return int(most)

    def begin(self, rng: Random) -> B:
        return self.ballots(max_traces=self.n)  # type: ignore[return-value]

    def observe(self, state: B, observation: Observation) -> Decisions:
        if isinstance(observation, Ended):
            state.end(observation)
            return self.on_end(state, observation)
        if isinstance(observation, Began):
            state.begin(observation)
            return self.start(state)
        return NOTHING

    @abstractmethod
    def start(self, state: B) -> Decisions:
        """Launch the first traces."""

    def on_end(self, state: B, ended: Ended) -> Decisions:
        """Decide after a trace has ended; by default, take the majority once all have."""
        return NOTHING if state.running else state.elect()
