"""Where models are: the shipped ones by name, any other by its folder."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import NoReturn

from reasoning.errors import ModelUnusable

DEFAULT = "reason-5m"


def shipped() -> dict[str, Path]:
    """The folders of the models that come with the package, by name."""
    root = Path(str(resources.files("reasoning"))) / "weights"
    return {path.parent.name: path.parent for path in sorted(root.glob("*/config.json"))}


def speaks_markup(name: str) -> bool:
    """Whether a shipped model of this name knows our own markup alone."""
    folder = shipped().get(name)
    return folder is not None and '"reason_markup"' in (folder / "config.json").read_text("utf-8")


def find(model: str | Path | None) -> Path:
    """The folder of a model: a shipped one, a folder, a GGUF file, or one in Hugging Face's cache.

    Nothing is downloaded.

    Raises:
        ModelUnusable: it is none of these, or can't be read.
        ExtraMissing: the packages that read GGUF files are not there.
    """
    known = shipped()
    name = DEFAULT if model is None else str(model)
    if name in known:
        return known[name]
    if name and os.path.isdir(name):  # False, not an error, for an impossible path
        return Path(name)
    if name.endswith(".gguf") and os.path.isfile(name):
        from reasoning.models.gguf import folder_of

        return folder_of(Path(name))
    return _cached(name) or _refuse(name, known)


def name_of(folder: Path) -> str:
    """What a folder's model is called: ``org/name`` in Hugging Face's cache, else as the folder."""
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    return folder.name


def known() -> list[str]:
    """What models can be called: the shipped ones, and those that are whole in the cache."""
    names = (name_of(folder / "snapshots" / "any") for folder in sorted(_hub().glob("models--*")))
    return [*shipped(), *(name for name in names if _cached(name))]


def _hub() -> Path:
    """Where Hugging Face's cache is."""
    root = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface") / "hub"
    return Path(os.environ.get("HF_HUB_CACHE") or root)


_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def _cached(name: str) -> Path | None:
    """The newest snapshot of ``org/name`` that is in Hugging Face's cache."""
    if not _REPOSITORY.fullmatch(name):
        return None
    cache = _hub() / f"models--{name.replace('/', '--')}"
    main = cache / "refs" / "main"
    revision = main.read_text().strip() if main.is_file() else ""
    found = cache / "snapshots" / revision
    whole = revision and (found / "config.json").is_file() and any(found.glob("*.safetensors"))
    return found if whole else None


def _refuse(name: str, known: Collection[str]) -> NoReturn:
    if _REPOSITORY.fullmatch(name):
        raise ModelUnusable(
            f"model {name!r} is not on this machine; get it with: hf download {name}, or name a "
            "server that has it with --base-url URL"
        )
    raise ModelUnusable(
        f"model {name!r} is neither a shipped one ({', '.join(known)}) nor a folder; "
        "give the path of a Hugging Face model folder or of a GGUF file"
    )
