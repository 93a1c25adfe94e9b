"""Strategies: how a problem is split into threads and how their results are joined."""

from typing import Any

from reasoning.strategies import names as naming
from reasoning.strategies.apr import Apr
from reasoning.strategies.atts import Atts
from reasoning.strategies.base import Strategy
from reasoning.strategies.group_think import GroupThink
from reasoning.strategies.hogwild import Hogwild
from reasoning.strategies.multiverse import Multiverse
from reasoning.strategies.parathinker import ParaThinker
from reasoning.strategies.sampling import SelfConsistency, Single

STRATEGIES: dict[str, type[Strategy]] = {
    strategy.name: strategy
    for strategy in (
        *(Single, SelfConsistency, Apr, Multiverse, ParaThinker, Hogwild, GroupThink),
        Atts,
    )
}


def named(text: str) -> tuple[type[Strategy], dict[str, Any]]:
    """The strategy that a name with settings stands for, such as ``hogwild:n=2,lag=1``.

    Raises:
        UnknownName: there is no such strategy.
        InvalidValue: it has no such setting, or the value does not fit.
    """
    return naming.read(text, STRATEGIES)


__all__ = [
    "STRATEGIES",
    "Apr",
    "Atts",
    "GroupThink",
    "Hogwild",
    "Multiverse",
    "ParaThinker",
    "SelfConsistency",
    "Single",
    "Strategy",
    "named",
]
