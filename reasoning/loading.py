"""Models on other backends than the embedded engine, and one way to load any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from orchestrator.errors import InvalidValue
from reasoning.backends.base import Capability, Enterable
from reasoning.dialects import Dialect, load_dialect
from reasoning.engine.config import ModelConfig, read_config
from reasoning.model import Model, find

if TYPE_CHECKING:
    from reasoning.backends.vllm import VllmBackend
    from reasoning.backends.vllm_settings import VllmSettings

BackendName = Literal["embedded", "vllm", "openai"]
BACKENDS: tuple[BackendName, ...] = ("embedded", "vllm", "openai")


class AnyModel(Protocol):
    """A model with its language, on some backend."""

    @property
    def name(self) -> str: ...

    @property
    def dialect(self) -> Dialect: ...

    @property
    def context(self) -> int:
        """The most tokens that a thread may see."""
        ...

    @property
    def shipped(self) -> bool:
        """Whether it speaks our markup."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the model and the backend can do together."""
        ...

    def backend(self) -> Enterable:
        """A backend with this model, to be entered with ``async with``."""
        ...


@dataclass(frozen=True, kw_only=True)
class VllmModel:
    """A model folder on vLLM, in a process of its own; the engine starts with the backend."""

    name: str
    config: ModelConfig
    dialect: Dialect
    folder: Path
    settings: VllmSettings
    _backend: VllmBackend = field(repr=False)

    @classmethod
    def load(
        cls, model: str | Path | None = None, settings: VllmSettings | None = None
    ) -> VllmModel:
        """A shipped model by name, or any folder; by default the larger shipped one.

        Raises:
            ModelUnusable: there is no such model, or its folder can't be used.
        """
        from reasoning.backends.vllm import VllmBackend
        from reasoning.backends.vllm_settings import VllmSettings

        folder = find(model)
        config = read_config(folder)
        settings = settings or VllmSettings()
        return cls(
            name=folder.name,
            config=config,
            dialect=load_dialect(folder, config),
            folder=folder,
            settings=settings,
            _backend=VllmBackend(folder, config, settings),
        )

    @property
    def context(self) -> int:
        return min(self.config.context, self.settings.context or self.config.context)

    @property
    def shipped(self) -> bool:
        return self.config.markup is not None

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.dialect.capabilities | self._backend.capabilities

    def backend(self) -> VllmBackend:
        return self._backend


def load(
    model: str | Path | None = None,
    *,
    backend: str | None = None,
    base_urls: Sequence[str] = (),
    settings: Sequence[str] = (),
) -> AnyModel:
    """A model on any backend, as the command line names it.

    Args:
        model: A shipped model, a Hugging Face folder, or a model's name on a server.
        backend: One of `BACKENDS`; by default ``openai`` with a URL and ``embedded`` without.
        base_urls: An OpenAI-compatible server's address; several are replicas of each other.
        settings: ``NAME=VALUE`` pairs, the backend's own.

    Raises:
        InvalidValue: the arguments don't fit each other.
        ReasonError: by its leaf, what the backend can't do.
    """
    name = backend or ("openai" if base_urls else "embedded")
    if name not in BACKENDS:
        raise InvalidValue(f"backend: {name!r} does not exist; choose {', '.join(BACKENDS)}")
    if base_urls and name != "openai":
        raise InvalidValue(f"base-url: {name} takes none; leave it out or give --backend openai")
    if name == "vllm":
        from reasoning.backends.settings import parse
        from reasoning.backends.vllm_settings import VllmSettings

        return VllmModel.load(model, parse(VllmSettings, settings))
    if settings:
        raise InvalidValue("engine: the embedded backend has no settings; leave it out")
    return Model.load(model)
