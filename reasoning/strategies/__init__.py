"""Strategies: how a problem is split into threads and how their results are joined."""

from reasoning.registry import KindRegistry
from reasoning.strategies.apr import Apr
from reasoning.strategies.atts import Atts
from reasoning.strategies.base import Strategy
from reasoning.strategies.group_think import GroupThink
from reasoning.strategies.hogwild import Hogwild
from reasoning.strategies.multiverse import Multiverse
from reasoning.strategies.native import Native
from reasoning.strategies.parathinker import ParaThinker
from reasoning.strategies.revising.ab_mcts import AbMcts
from reasoning.strategies.revising.rsa import Rsa
from reasoning.strategies.sampling import SelfConsistency, Single

BUILT_IN: tuple[type[Strategy], ...] = (
    *(Single, SelfConsistency, Apr, Multiverse, ParaThinker, Hogwild, GroupThink, Atts),
    *(Rsa, AbMcts, Native),
)

STRATEGIES: KindRegistry[Strategy] = KindRegistry(
    "strategy",
    base=Strategy,
    group="parallel_reason.strategies",
    kinds={strategy.name: strategy for strategy in BUILT_IN},
)
"""Ours, a user's own, and those of installed packages."""

__all__ = [
    "BUILT_IN",
    "STRATEGIES",
    "AbMcts",
    "Apr",
    "Atts",
    "GroupThink",
    "Hogwild",
    "Multiverse",
    "Native",
    "ParaThinker",
    "Rsa",
    "SelfConsistency",
    "Single",
    "Strategy",
]
