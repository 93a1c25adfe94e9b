"""The rate of wrong merges, which a calibration bounds.

A merge is a prefix that joins a cluster.  It is wrong if its trace and the trace that opened the
cluster have different answers, or one has none.  The loss of a question is the share of its merges
that are wrong, 0 without merges, as a mean over orders of its traces: one number in [0, 1] for
each question, because questions are what is drawn at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from pruning.decisions import AskJudge
from pruning.evaluation.traces import Question, Trace
from pruning.judge.pairs import agree
from pruning.judge.session import Judge
from pruning.observations import Began, Ended, Judged, Reached
from pruning.policies.deepprune import DeepPrune

TAUS = (0.98, *(round(0.95 - 0.05 * step, 2) for step in range(19)))
"""The thresholds to test, from the strictest on, in an order that was fixed before any data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeRate:
    """The merges of one question, as means over orders of its traces.

    Attributes:
        loss: The share of merges that are wrong.
        count: How many merges there were.
    """

    loss: float
    count: float


def merges(policy: DeepPrune, question: Question, judge: Judge, *, orders: int = 4) -> MergeRate:
    """Cluster the question's prefixes as the policy does, and count wrong merges."""
    losses, counts = [], []
    for order in range(orders):
        traces = list(question.traces)
        Random(f"0/{order}/{question.id}").shuffle(traces)
        made = clusters(policy, traces, judge, seed=order)
        joined = [(c[0], other) for c in made for other in c[1:]]
        wrong = sum(not agree(traces[one], traces[other]) for one, other in joined)
        losses.append(wrong / len(joined) if joined else 0.0)
        counts.append(len(joined))
    return MergeRate(loss=sum(losses) / orders, count=sum(counts) / orders)


def clusters(
    policy: DeepPrune, traces: Sequence[Trace], judge: Judge, *, seed: int = 0
) -> list[list[int]]:
    """The policy's clusters, where traces reach their prefixes in the order of launch."""
    state = policy.begin(Random(seed))
    policy.observe(state, Began(max_traces=len(traces)))
    for number, trace in enumerate(traces[: state.launched]):
        if trace.tokens < policy.prefix:
            ended = Ended(trace=number, tokens=trace.tokens, answer=trace.answer)
            decisions = policy.observe(state, ended)
        else:
            decisions = policy.observe(state, Reached(trace=number, tokens=policy.prefix))
        while asked := next((one for one in decisions if isinstance(one, AskJudge)), None):
            one = traces[asked.trace]
            for other in asked.others:
                same = judge(one, traces[other], policy.prefix)
                said = Judged(trace=asked.trace, other=other, same=same)
                decisions = policy.observe(state, said)
    return state.clusters
