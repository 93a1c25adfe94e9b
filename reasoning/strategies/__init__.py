"""Strategies: how a problem is split into threads and how their results are joined."""

from reasoning.strategies.apr import Apr
from reasoning.strategies.base import Strategy
from reasoning.strategies.group_think import GroupThink
from reasoning.strategies.hogwild import Hogwild
from reasoning.strategies.multiverse import Multiverse
from reasoning.strategies.parathinker import ParaThinker
from reasoning.strategies.sampling import SelfConsistency, Single

STRATEGIES: dict[str, type[Strategy]] = {
    strategy.name: strategy
    for strategy in (Single, SelfConsistency, Apr, Multiverse, ParaThinker, Hogwild, GroupThink)
}

__all__ = [
    "STRATEGIES",
    "Apr",
    "GroupThink",
    "Hogwild",
    "Multiverse",
    "ParaThinker",
    "SelfConsistency",
    "Single",
    "Strategy",
]
