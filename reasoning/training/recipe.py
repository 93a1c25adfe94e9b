"""How a training run is made: the shape of its model, and the recipe.  Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.errors import InvalidValue
from reasoning.language import markup


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Sizes of a Llama-architecture decoder."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int = markup.VOCABULARY_SIZE
    rope_theta: float = 10_000.0
    context: int = 4096

    @property
    def head_dim(self) -> int:
        """The width of an attention head."""
        return self.hidden // self.heads


SHAPES = {
    "reason-5m": ModelShape(hidden=256, layers=6, heads=4, intermediate=704),
    "reason-1m": ModelShape(hidden=128, layers=4, heads=4, intermediate=384),
}


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """Everything that decides a training run; equal recipes draw equal data.

    Attributes:
        model: A key of `SHAPES`.
        shapes: (rows, row length) of batches, in ascending length; a demonstration goes to the
            shortest row that holds it.  They are few because each is compiled, and mostly short
            because attention costs the square of the length.
        steps: Optimizer steps.
        warmup: Steps over which the learning rates rise.
        cooldown: The share of the run, at its end, over which the learning rates fall to zero.
        matrix_rate, other_rate: Learning rates of the layers' matrices and of everything else.
        basics: Tokens of sub-searches and arithmetic before the whole mixture.
        float32: Keep linear layers in float32 instead of bf16, which is faster on processors that
            emulate bf16.
        minutes: End after this wall time, by which the cooldown is then placed; None for no limit.
    """

    model: str = "reason-5m"
    seed: int = 0
    shapes: tuple[tuple[int, int], ...] = ((30, 256), (20, 384), (11, 704))
    steps: int = 5000
    warmup: int = 100
    cooldown: float = 0.5
    matrix_rate: float = 0.02
    other_rate: float = 5e-4
    basics: int = 4_000_000
    float32: bool = False
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.model not in SHAPES:
            raise InvalidValue(f"model: {self.model!r} is none; choose {', '.join(SHAPES)}")
        for name in ("steps", "basics"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for name in ("warmup", "matrix_rate", "other_rate"):
            self._check(name, getattr(self, name) > 0, "more than 0")
        self._check("cooldown", 0 < self.cooldown <= 1, "more than 0, up to 1")
        self._check("minutes", self.minutes is None or self.minutes > 0, "more than 0")

    def _check(self, name: str, allowed: bool, right: str) -> None:
        if not allowed:
            raise InvalidValue(f"{name}: {getattr(self, name)} is out of range; give {right}")
