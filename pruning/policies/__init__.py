"""The policies, one file for each family."""

from typing import Any

from pruning.policies.consensus import (
    AdaptiveConsistency,
    AsyncConsensus,
    EarlyStopping,
    FixedSamples,
    HardCap,
)
from pruning.policies.deepconf import DeepConf, DeepConfOffline
from pruning.policies.deepprune import DeepPrune
from pruning.policies.parallel_probe import ParallelProbe
from pruning.policies.probing import AnswerConvergence, ProbedConsensus
from pruning.policies.rounds import VotingRounds
from pruning.policies.saturation import Saturation
from pruning.policies.scored import BestOfN, HighestScore, WeightedVote
from pruning.policy import Policy

POLICIES: dict[str, type[Policy[Any]]] = {
    policy.name: policy
    for policy in (
        ProbedConsensus,
        FixedSamples,
        AdaptiveConsistency,
        AsyncConsensus,
        EarlyStopping,
        HardCap,
        AnswerConvergence,
        ParallelProbe,
        DeepConf,
        DeepConfOffline,
        DeepPrune,
        BestOfN,
        HighestScore,
        WeightedVote,
        Saturation,
        VotingRounds,
    )
}
"""The policies that text can name, by name."""
