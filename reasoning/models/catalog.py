"""Models: the shipped ones by name, any other by its folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Self

from orchestrator.errors import ExtraMissing
from reasoning.backends.settings import EmbeddedSettings
from reasoning.engine.config import ModelConfig, read_config
from reasoning.errors import ModelUnusable
from reasoning.language.dialects import ChatDialect, MarkupDialect, load_dialect
from reasoning.values.capabilities import Capability

if TYPE_CHECKING:
    from reasoning.backends.embedded import EmbeddedBackend
    from reasoning.engine.engine import Engine

DEFAULT = "reason-5m"


def shipped() -> dict[str, Path]:
    """The folders of the models that come with the package, by name."""
    root = Path(str(resources.files("reasoning"))) / "weights"
    return {path.parent.name: path.parent for path in sorted(root.glob("*/config.json"))}


@dataclass(frozen=True, kw_only=True)
class Model:
    """A loaded model: its engine and its language."""

    name: str
    config: ModelConfig
    dialect: MarkupDialect | ChatDialect
    engine: Engine

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        *,
        threads: int | None = None,
        settings: EmbeddedSettings | None = None,
    ) -> Self:
        """Load a shipped model by name, or any folder; by default the larger shipped one.

        ``threads`` is the number of CPU threads, by default as many as there are cores.  A small
        batch uses one of them, unless OMP_NUM_THREADS lets torch use more.

        Raises:
            InvalidValue: there is no such device.
            ModelUnusable: there is no such model, or its folder can't be used.
            ExtraMissing: torch is not installed.
        """
        folder = find(model)
        config = read_config(folder)
        # Two OpenMP threads beside a busy process make a small step many times slower, because
        # each waits for the other by spinning; the policy is read when torch is first imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        os.environ.setdefault("KMP_BLOCKTIME", "0")
        try:
            import safetensors  # noqa: F401
            import tokenizers  # noqa: F401
            import torch
        except ImportError as error:
            raise ExtraMissing(
                f"the embedded engine needs {error.name}; pip install 'parallel-reason[local]'"
            ) from error
        from reasoning.engine.engine import Engine

        chosen = settings or EmbeddedSettings()
        if threads or "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(1)
        return cls(
            name=folder.name,
            config=config,
            dialect=load_dialect(folder, config),
            engine=Engine.load(
                folder,
                dtype=getattr(torch, chosen.type),
                lanes=threads,
                store_gib=chosen.store_gib,
                device=chosen.device,
            ),
        )

    @property
    def context(self) -> int:
        """The most tokens that a thread may see."""
        return self.config.context

    @property
    def shipped(self) -> bool:
        """Whether it speaks our markup."""
        return self.config.markup is not None

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the model and the backend can do together."""
        from reasoning.backends.embedded import EmbeddedBackend

        return self.dialect.capabilities | EmbeddedBackend.capabilities

    def backend(self) -> EmbeddedBackend:
        """A backend on this model's engine, to be entered with ``async with``."""
        from reasoning.backends.embedded import EmbeddedBackend

        return EmbeddedBackend(self.engine)


def find(model: str | Path | None) -> Path:
    """The folder of a model.

    Raises:
        ModelUnusable: it is neither a shipped name nor a folder.
    """
    known = shipped()
    name = DEFAULT if model is None else str(model)
    if name in known:
        return known[name]
    if not name or not os.path.isdir(name):  # False, not an error, for an impossible path
        raise ModelUnusable(
            f"model {name!r} is neither a shipped one ({', '.join(known)}) nor a folder; "
            "give the path of a Hugging Face model folder"
        )
    return Path(name)
