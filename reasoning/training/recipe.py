"""How a training run is made: what is taught, to a model of what shape, and how.

Imports no torch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from orchestrator.errors import InvalidValue
from reasoning.language import markup

if TYPE_CHECKING:
    from torch import Tensor

    from reasoning.training.encoding import TrainingSequence


MOST_CPU_THREADS = 256
"""So many may compute at most; torch dies of very many."""


def check_threads(count: int) -> None:
    """Check how many CPU threads are to compute.

    Raises:
        InvalidValue: there are none or too many.
    """
    if not 1 <= count <= MOST_CPU_THREADS:
        raise InvalidValue(f"threads: {count} is out of range; give 1 to {MOST_CPU_THREADS}")


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Sizes of a Llama-architecture decoder.

    Attributes:
        paths: How many identity vectors it has for the paths of ParaThinker (arXiv 2509.04475).
    """

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    rope_theta: float = 10_000.0
    context: int = 4096
    paths: int = 0

    @property
    def head_dim(self) -> int:
        """The width of an attention head."""
        return self.hidden // self.heads


SHAPES = {
    "reason-5m": ModelShape(
        hidden=256,
        layers=6,
        heads=4,
        intermediate=704,
        vocabulary=markup.VOCABULARY_SIZE,
        paths=len(markup.PATHS),
    ),
    "reason-1m": ModelShape(
        hidden=128,
        layers=4,
        heads=4,
        intermediate=384,
        vocabulary=markup.VOCABULARY_SIZE,
        paths=len(markup.PATHS),
    ),
    "native-2m": ModelShape(hidden=192, layers=4, heads=3, intermediate=512, vocabulary=1024),
}
"""The shapes of the shipped models."""


@dataclass(frozen=True, kw_only=True)
class TrainingTask:
    """What a model is taught, and what an export of it has beside its weights.

    Attributes:
        stream: Draws endless sequences, none longer than the last of the row lengths that it is
            given, which follow from the generator alone; the first so many tokens are basics.
        pad: The token that fills rows.
        special: Tokens by name, such as ``eos_token_id``, as ``config.json`` has them.
        write_tokenizer: Writes the tokenizer's files into a folder.
        card: The text of the model's card, from the recipe as it was run and the number of
            parameters.
        initialise: Changes fresh embeddings ``[vocabulary, hidden]``, where anything is known of
            the tokens.
        adopt: Changes the weights of an exported model that training starts from.
        config: More entries of ``config.json``.
    """

    shape: ModelShape
    stream: Callable[[random.Random, Sequence[int], int], Iterator[TrainingSequence]]
    pad: int
    special: Mapping[str, int]
    write_tokenizer: Callable[[Path], None]
    card: Callable[[Mapping[str, Any], int], str]
    initialise: Callable[[Tensor], None] | None = None
    adopt: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


TASKS = {
    "reason-5m": "reasoning.training.markup.task:REASON_5M",
    "reason-1m": "reasoning.training.markup.task:REASON_1M",
    "native-2m": "reasoning.training.native.task:PARALLEL",
    "native-2m-serial": "reasoning.training.native.task:SERIAL",
}
"""The models that can be trained by name: where each one's `TrainingTask` is."""


def find_task(name: str) -> TrainingTask:
    """The task of a model in `TASKS`, or of ``module:attribute``.

    Raises:
        InvalidValue: there is none.
    """
    module, _, attribute = TASKS.get(name, name).partition(":")
    try:
        task = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidValue(f"model: there is no {name} ({error})") from error
    if not isinstance(task, TrainingTask):
        raise InvalidValue(f"model: {name} is no TrainingTask")
    return task


LENGTHENING = frozenset({"steps", "minutes"})
"""What of a recipe may be another when a run goes on."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """Everything that decides a training run; equal recipes draw equal data.

    Attributes:
        model: A key of `TASKS`, or where another task is, as ``module:attribute``.
        shapes: (rows, row length) of batches, in ascending length; a demonstration goes to the
            shortest row that holds it.  They are few because each is compiled, and mostly short
            because attention costs the square of the length.
        steps: Optimizer steps.
        warmup: Steps over which the learning rates rise.
        cooldown: The share of the run, at its end, over which the learning rates fall to zero.
        matrix_rate, other_rate: Learning rates of the layers' matrices and of everything else.
        basics: Tokens of the task's basics before the whole mixture.
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
        for name in ("steps", "basics"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for name in ("warmup", "matrix_rate", "other_rate"):
            self._check(name, 0 < getattr(self, name) < float("inf"), "more than 0")
        self._check("cooldown", 0 < self.cooldown <= 1, "more than 0, up to 1")
        minutes = self.minutes
        self._check("minutes", minutes is None or 0 < minutes < float("inf"), "more than 0")
        lengths = [length for _, length in self.shapes]
        right = lengths and lengths == sorted(set(lengths)) and lengths[0] > 1
        fits = right and min(rows for rows, _ in self.shapes) > 0
        self._check("shapes", fits, "ROWSxLENGTH, in ascending length")
        named = self.model in TASKS or ":" in self.model
        self._check("model", named, f"{', '.join(TASKS)}, or module:attribute")

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> Self:
        """The recipe that was written into a checkpoint.

        Raises:
            InvalidValue: it is another version's.
        """
        names = {one.name for one in fields(cls)}
        if written.keys() != names:
            other = ", ".join(sorted(written.keys() ^ names))
            raise InvalidValue(f"folder: its run is of another version ({other}); start a new one")
        return cls(**{**written, "shapes": tuple(map(tuple, written["shapes"]))})

    def lengthened(self, given: Mapping[str, Any]) -> Self:
        """The recipe by which a run goes on, of which only its length may be another.

        Raises:
            InvalidValue: something else is given than it has; by name.
        """
        for name, value in given.items():
            kept = getattr(self, name)
            if value != kept and name not in LENGTHENING:
                raise InvalidValue(f"{name}: the run has {kept}, not {value}; leave it out")
        return replace(self, **given)

    def written(self) -> dict[str, Any]:
        """What `read` reads."""
        return asdict(self)

    def _check(self, name: str, allowed: object, right: str) -> None:
        if not allowed:
            raise InvalidValue(f"{name}: {getattr(self, name)!r} is out of range; give {right}")
