"""Where models are: the shipped ones by name, any other by its folder."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from reasoning.errors import ModelUnusable

DEFAULT = "reason-5m"


def shipped() -> dict[str, Path]:
    """The folders of the models that come with the package, by name."""
    root = Path(str(resources.files("reasoning"))) / "weights"
    return {path.parent.name: path.parent for path in sorted(root.glob("*/config.json"))}


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
