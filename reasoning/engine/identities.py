"""Path identities beside a model's weights (ParaThinker, arXiv 2509.04475, section 3.4)."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from reasoning.errors import ModelUnusable

PATHS_FILE = "path_identity.safetensors.bin"
"""Apart from the weights, because no other loader of models knows what it is."""


def read_identities(folder: Path, layers: int, dim: int) -> Tensor | None:
    """What marks each path's keys and values, ``[layers, paths, dim]``; None where there is none.

    Raises:
        ModelUnusable: the file is broken or another model's.
    """
    file = folder / PATHS_FILE
    if not file.is_file():
        return None
    try:
        found = load(file.read_bytes())["path_identity"]
    except (SafetensorError, KeyError, OSError) as error:
        raise ModelUnusable(f"{file} is broken ({error}); download the model again") from error
    if found.dim() != 3 or (found.shape[0], found.shape[2]) != (layers, dim):
        raise ModelUnusable(f"{file}: {list(found.shape)} do not fit the model; download it again")
    return found


def refuse_path(path: int, most: int | None) -> str | None:
    """Why a model with ``most`` identities can't mark a path; None where it can, or marks none."""
    if most is None or 0 <= path <= most:
        return None
    return f"path: {path}, and the model has identities for {most}; use fewer"
