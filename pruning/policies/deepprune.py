"""DeepPrune: cluster prefixes by a judge, and finish the largest cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, Literal

from pruning.decisions import NOTHING, AskJudge, Decision, Decisions, Pause, Resume, Stop
from pruning.observations import Began, Ended, Judged, Observation, Reached
from pruning.policies.ballots import Ballots
from pruning.policy import Need, Policy, require


@dataclass(kw_only=True, slots=True)
class Clusters(Ballots):
    """Ballots, and the clusters of prefixes.

    Attributes:
        queue: Traces whose prefix waits for its turn; greedy clustering takes one at a time.
        asked: The trace being judged, and against whom; by other, whose cluster it is.
        verdicts: By cluster, what the judge said of the trace being judged.
        paused: Traces at their prefix.
        chosen: Whether it is decided who goes on.
    """

    rng: Random
    clusters: list[list[int]] = field(default_factory=list)
    queue: list[int] = field(default_factory=list)
    current: int | None = None
    asked: dict[int, int] = field(default_factory=dict)
    verdicts: dict[int, list[float]] = field(default_factory=dict)
    paused: set[int] = field(default_factory=set)
    chosen: bool = False

    def forget(self, trace: int) -> None:
        """Drop a trace that somebody else stopped at its prefix; its cluster keeps it."""
        self.paused.discard(trace)
        if trace in self.queue:
            self.queue.remove(trace)
        if trace == self.current:
            self.current = None
            self.asked.clear()
            self.verdicts.clear()


@dataclass(frozen=True, kw_only=True)
class DeepPrune(Policy[Clusters]):
    """Greedy online clustering of prefixes by a judge (arXiv 2510.08483).

    Each trace pauses at its prefix.  In the order of arrival it is judged against up to ``k1``
    random members of each cluster; where the best mean vote is above ``tau`` it joins that
    cluster, else it opens one, up to ``k`` clusters.  When all are placed, up to ``k2`` traces of
    the largest cluster go on and vote; where all clusters are singletons, ``k3`` random ones.

    The paper leaves two things open.  A prefix that matches none of ``k`` clusters is dropped
    here; ``k3`` is 20 as ``k2`` is.  A trace that ends before its prefix votes with the rest.

    Attributes:
        prefix: Tokens before the judge is asked.
        tau: The mean vote above which two prefixes are one; the paper's 0.5.
        vote: What the judge gives for a pair: "hard" is 0 or 1, as in the paper, "soft" its
            probability.
        shut: Why the judge may not be used, as a calibration found; then nothing is judged or
            pruned, and all vote.
    """

    name: ClassVar[str] = "deepprune"
    n: int = 64
    prefix: int = 500
    tau: float = 0.5
    k: int = 32
    k1: int = 10
    k2: int = 20
    k3: int = 20
    vote: Literal["hard", "soft"] = "hard"
    shut: str = ""

    def __post_init__(self) -> None:
        require(self.vote in ("hard", "soft"), f"vote: {self.vote!r} is neither; give hard or soft")
        for name in ("n", "prefix", "k", "k1", "k2", "k3"):
            require(getattr(self, name) >= 1, f"{name}: {getattr(self, name)} is below 1; give 1+")
        require(0 <= self.tau <= 1, f"tau: {self.tau} is out of range; give 0 to 1")

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        return frozenset() if self.shut else frozenset({"judge"})

    def begin(self, rng: Random) -> Clusters:
        return Clusters(most=self.n, rng=rng)

    def observe(self, state: Clusters, observation: Observation) -> Decisions:
        if isinstance(observation, Reached | Ended) and observation.trace >= state.launched:
            return NOTHING  # launched by whom it rides with, after the beginning
        if isinstance(observation, Judged):
            return self._verdict(state, observation)
        if isinstance(observation, Reached):
            trace = observation.trace
            if state.chosen or self.shut:
                return NOTHING
            state.queue.append(trace)
            state.paused.add(trace)
            return (Pause(trace=trace, reason="its prefix is ready"), *self._next(state))
        if isinstance(observation, Ended):
            state.end(observation)
            state.forget(observation.trace)
            return state.elect() if state.running == 0 else self._next(state)
        if isinstance(observation, Began):
            state.heed(observation)
            if self.shut:
                return state.launch(self.n, f"nothing is pruned: {self.shut}")
            return state.launch(self.n, "to their prefixes", mark=self.prefix)
        return NOTHING

    def _next(self, state: Clusters) -> Decisions:
        """Take the next prefix, where none is being judged; choose when all are placed."""
        if state.current is not None or state.chosen or self.shut:
            return NOTHING
        if not state.queue:
            return self._choose(state) if len(state.paused) == state.running else NOTHING
        state.current = state.queue.pop(0)
        for index, cluster in enumerate(state.clusters):
            members = state.rng.sample(cluster, min(self.k1, len(cluster)))
            state.asked.update(dict.fromkeys(members, index))
        if not state.asked:
            return self._place(state)
        others = tuple(state.asked)
        return (AskJudge(trace=state.current, others=others, reason="does it join a cluster?"),)

    def _verdict(self, state: Clusters, judged: Judged) -> Decisions:
        if judged.trace != state.current or judged.other not in state.asked:
            return NOTHING
        cluster = state.asked.pop(judged.other)
        said = judged.same if self.vote == "soft" else float(judged.same >= 0.5)
        state.verdicts.setdefault(cluster, []).append(said)
        return NOTHING if state.asked else self._place(state)

    def _place(self, state: Clusters) -> Decisions:
        trace, state.current = state.current, None
        assert trace is not None
        means = {index: sum(votes) / len(votes) for index, votes in state.verdicts.items()}
        state.verdicts.clear()
        best = max(means, key=means.__getitem__, default=None)
        if best is not None and means[best] > self.tau:
            state.clusters[best].append(trace)
        elif len(state.clusters) < self.k:
            state.clusters.append([trace])
        return self._next(state)

    def _choose(self, state: Clusters) -> Decisions:
        state.chosen = True
        largest = max(state.clusters, key=len, default=[])
        if len(largest) > 1:
            kept = set(state.rng.sample(largest, min(self.k2, len(largest))))
            why = f"in the largest cluster, of {len(largest)}"
        else:
            alone = [cluster[0] for cluster in state.clusters]
            kept = set(state.rng.sample(alone, min(self.k3, len(alone))))
            why = "all prefixes differ"
        return tuple(self._fate(trace, trace in kept, why) for trace in sorted(state.paused))

    def _fate(self, trace: int, kept: bool, why: str) -> Decision:
        if kept:
            return Resume(trace=trace, reason=why)
        return Stop(trace=trace, reason="redundant: outside the traces that finish")
