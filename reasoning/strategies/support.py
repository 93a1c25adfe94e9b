"""The one table of what runs where: `solve`, ``reason doctor`` and ``reason serve`` all ask it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from reasoning.errors import CapabilityMissing
from reasoning.models.loaded import LoadedModel
from reasoning.strategies.base import Strategy


class StrategySupport(BaseModel):
    """Whether a strategy runs on a model, and what it does instead of what it lacks.

    Attributes:
        runs: Whether it runs as published, or in the emulations that are named.
        lacks: The capabilities without which it does not run.
        emulations: What it does instead of others that are missing; a run says which it met.
        draft_missing: Whether it runs once a second, smaller model is given.
        scored: Whether it runs with a scorer, or on a problem that has a verifier.
    """

    model_config = ConfigDict(frozen=True)

    strategy: str
    runs: bool
    lacks: tuple[str, ...]
    emulations: tuple[str, ...]
    draft_missing: bool = False
    scored: bool = False

    @property
    def word(self) -> str:
        """In one line."""
        if self.lacks:
            return f"refused, needs {', '.join(self.lacks)}"
        if self.draft_missing:
            return "runs with a second, smaller model (--draft)"
        if self.scored:
            return "runs with a scorer, or where the problem has a verifier"
        return f"runs, emulated: {', '.join(self.emulations)}" if self.emulations else "runs"

    def check(self, model: str) -> None:
        """Check that the model of this name has what it needs.

        Raises:
            CapabilityMissing: it lacks something; the strategy asks for a draft itself.
        """
        if self.lacks:
            raise CapabilityMissing(
                f"strategy {self.strategy!r} needs {', '.join(self.lacks)}, which {model} lacks; "
                "use single or self-consistency"
            )


def support(
    strategy: Strategy, model: LoadedModel, *, draft: LoadedModel | None = None
) -> StrategySupport:
    """The table's entry for a strategy on a model, perhaps with a second one beside it."""
    missing = strategy.needs - model.capabilities
    lacks = missing - strategy.emulates.keys()
    draft_missing = strategy.drafted and draft is None
    return StrategySupport(
        strategy=strategy.name,
        runs=not lacks and not draft_missing,
        lacks=tuple(sorted(lacks)),
        emulations=tuple(strategy.emulates[one] for one in sorted(missing - lacks)),
        draft_missing=draft_missing,
        scored=strategy.scored,
    )
