"""Strategies: how a problem is split into threads and how their results are joined."""

from reasoning.strategies.apr import Apr
from reasoning.strategies.base import Strategy
from reasoning.strategies.sampling import SelfConsistency, Single

STRATEGIES: dict[str, type[Strategy]] = {
    strategy.name: strategy for strategy in (Single, SelfConsistency, Apr)
}

__all__ = ["STRATEGIES", "Apr", "SelfConsistency", "Single", "Strategy"]
