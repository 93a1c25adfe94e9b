"""DeepPrune: cluster prefixes by a judge, and finish the largest cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, Literal

from pruning.decisions import NOTHING, AskJudge, Decisions, Pause, Resume, Stop
from pruning.observations import Ended, Judged, Observation, Reached
from pruning.policies.ballots import Ballots, VotingPolicy
from pruning.policy import Need, check_range, require


@dataclass(kw_only=True, slots=True)
class ClusterState(Ballots):
    """Ballots, and the clusters of prefixes.

    Attributes:
        clusters: The traces of each cluster, in the order in which they joined.
        queue: Traces whose prefix waits to be judged; greedy clustering takes one at a time.
        current: The trace that is being judged.
        asked: By trace that ``current`` is judged against, the index of its cluster.
        verdicts: By cluster, the judge's votes on ``current``.
        paused: Traces that stand at their prefix.
        chosen: Whether it is decided which traces go on.
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
        """Drop a trace that ended or was stopped elsewhere; its cluster keeps it."""
        self.paused.discard(trace)
        if trace in self.queue:
            self.queue.remove(trace)
        if trace == self.current:
            self.current = None
            self.asked.clear()
            self.verdicts.clear()


@dataclass(frozen=True, kw_only=True)
class DeepPrune(VotingPolicy[ClusterState]):
    """Greedy online clustering of prefixes by a judge (arXiv 2510.08483).

    Each trace pauses at its prefix.  In the order of arrival it is judged against up to ``k1``
    random members of each cluster.  It joins the cluster with the best mean vote if that is above
    ``tau``; else it opens a new one, up to ``k`` clusters.  When all are placed, up to ``k2``
    traces of the largest cluster go on and vote, or ``k3`` random ones where all clusters are
    singletons.

    The paper leaves two things open: here, a prefix that matches none of ``k`` clusters is
    dropped, and ``k3`` is 20 as ``k2`` is.  A trace that ends before its prefix votes as well.

    Attributes:
        prefix: Tokens of a trace after which it is judged.
        tau: The mean vote above which a trace joins a cluster; 0.5 in the paper.
        vote: The judge's vote on a pair: "hard" is 0 or 1, as in the paper, "soft" its
            probability.
        shut: Why a calibration forbids to use the judge; then nothing is judged or pruned, and
            all traces vote.
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
        check_range(self, "n prefix k k1 k2 k3", 1)
        check_range(self, "tau", 0, 1)

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        return frozenset() if self.shut else frozenset({"judge"})

    def begin(self, rng: Random) -> ClusterState:
        return ClusterState(max_traces=self.n, rng=rng)

    def observe(self, state: ClusterState, observation: Observation) -> Decisions:
        if type(observation) is Judged:
            return self._verdict(state, observation)
        if type(observation) is Reached:
            return self._reached(state, observation.trace)
        if type(observation) is Ended and observation.trace >= state.launched:
            return NOTHING  # another policy of a `Combined` launched it after the beginning
        return super().observe(state, observation)

    def start(self, state: ClusterState) -> Decisions:
        if self.shut:
            return state.launch(self.n, f"nothing is pruned: {self.shut}")
        return state.launch(self.n, "to their prefixes", mark=self.prefix)

    def on_end(self, state: ClusterState, ended: Ended) -> Decisions:
        state.forget(ended.trace)
        return self._next(state) if state.running else state.elect()

    def _reached(self, state: ClusterState, trace: int) -> Decisions:
        if state.chosen or self.shut or trace >= state.launched:
            return NOTHING
        state.queue.append(trace)
        state.paused.add(trace)
        return (Pause(trace=trace, reason="its prefix is ready"), *self._next(state))

    def _next(self, state: ClusterState) -> Decisions:
        """Judge the next prefix if none is being judged; choose once all are placed."""
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

    def _verdict(self, state: ClusterState, judged: Judged) -> Decisions:
        if judged.trace != state.current or judged.other not in state.asked:
            return NOTHING
        cluster = state.asked.pop(judged.other)
        said = judged.same if self.vote == "soft" else float(judged.same >= 0.5)
        state.verdicts.setdefault(cluster, []).append(said)
        return NOTHING if state.asked else self._place(state)

    def _place(self, state: ClusterState) -> Decisions:
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

    def _choose(self, state: ClusterState) -> Decisions:
        state.chosen = True
        largest = max(state.clusters, key=len, default=[])
        if len(largest) > 1:
            kept = set(state.rng.sample(largest, min(self.k2, len(largest))))
            why = f"in the largest cluster, of {len(largest)}"
        else:
            alone = [cluster[0] for cluster in state.clusters]
            kept = set(state.rng.sample(alone, min(self.k3, len(alone))))
            why = "all prefixes differ"
        redundant = "redundant: outside the traces that finish"
        return tuple(
            Resume(trace=trace, reason=why)
            if trace in kept
            else Stop(trace=trace, reason=redundant)
            for trace in sorted(state.paused)
        )
