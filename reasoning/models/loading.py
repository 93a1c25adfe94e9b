"""Any model on any backend, by name or by object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from orchestrator.errors import InvalidValue
from reasoning.models.catalog import speaks_markup
from reasoning.models.loaded import LoadedModel
from reasoning.registry import KindRegistry


@runtime_checkable
class ModelSource(Protocol):
    """Where models come from: a backend with its settings, before there is a model on it."""

    def load(self, model: str | Path | None = None) -> LoadedModel:
        """The model of this name or folder; by default the source's own choice."""
        ...


BACKENDS: KindRegistry[Any] = KindRegistry(
    "backend",
    group="parallel_reason.backends",
    kinds={
        "embedded": "reasoning.models.embedded:EmbeddedSource",
        "vllm": "reasoning.models.vllm:VllmSource",
        "openai": "reasoning.models.server:ServerSource",
    },
)
"""What generates: each kind is a `ModelSource`, or a `Backend` that has ``name``, ``dialect`` and
``context``, such as a `TextBackend`."""


def load_model(
    model: str | Path | None = None,
    *,
    backend: str | ModelSource | Any | None = None,
    base_urls: Sequence[str] = (),
    settings: Sequence[str] = (),
) -> LoadedModel:
    """A model on any backend.

    Args:
        model: A shipped model, a Hugging Face folder, or a model's name on a server.
        backend: A name, perhaps with settings, as ``vllm:max_num_seqs=128``, or an object; by
            default ``openai`` with a URL and ``embedded`` without.
        base_urls: An OpenAI-compatible server's address; several are replicas of each other.
        settings: More settings of a backend by name, as ``NAME=VALUE``.

    Raises:
        UnknownName: there is no such backend.
        InvalidValue: the arguments don't fit each other.
        ReasonError: by its leaf, what the backend can't do.
    """
    source = backend
    if source is None or isinstance(source, str):
        source = model_source(source, base_urls=base_urls, settings=settings)
    elif base_urls or settings:
        raise InvalidValue("backend: an object has its settings already; leave the others out")
    if isinstance(source, ModelSource):
        return source.load(model)
    if missing := [name for name in ("name", "dialect", "context") if not hasattr(source, name)]:
        kind = type(source).__name__
        raise InvalidValue(
            f"backend: {kind} has no {', '.join(missing)}; derive from TextBackend, and call "
            "super().__init__() where it has an __init__ of its own"
        )
    return LoadedModel(
        name=source.name, dialect=source.dialect, context=source.context, backend=source
    )


def is_trained(
    model: str | Path | None, *, backend: str | Any | None = None, base_urls: Sequence[str] = ()
) -> bool:
    """Whether it is certain, before anything is loaded, that a model of our own markup is asked."""
    if base_urls or not (backend is None or isinstance(backend, str)):
        return False
    named = (backend or "embedded").partition(":")[0]
    return named in ("embedded", "vllm") and (model is None or speaks_markup(str(model)))


def model_source(
    backend: str | None = None, *, base_urls: Sequence[str] = (), settings: Sequence[str] = ()
) -> Any:
    """A backend with its settings, before there is a model on it; the arguments of `load_model`.

    Raises:
        UnknownName: there is no such backend.
        InvalidValue: the arguments don't fit each other, or a setting does not fit.
    """
    choice = BACKENDS.choose(backend or ("openai" if base_urls else "embedded"))
    given = dict(choice.values)
    if base_urls and choice.name != "openai":
        raise InvalidValue(f"base-url: {choice.name} takes none; leave it out")
    if base_urls:
        given["base_urls"] = tuple(base_urls)
    elif choice.name == "openai" and "base_urls" not in given:
        raise InvalidValue("base-url: the openai backend needs one; give --base-url URL")
    more = BACKENDS.arguments(choice.name, choice.kind, settings)
    return replace(choice, values=given).make(BACKENDS.noun, **more)
