"""What marks the keys and values of each path (ParaThinker, arXiv 2509.04475, section 3.4).

A published model has its rows among its weights, by layer; our own are in a file beside them.  Both
are read as one table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import importing
from reasoning.errors import ModelUnusable

if TYPE_CHECKING:
    from torch import Tensor

PATHS_FILE = "path_identity.safetensors.bin"
"""Our own models', apart from the weights, because no other loader of models knows what it is; it
has no row for what is no path's."""
VECTORS = "model.layers.{}.self_attn.seg_embeddings.weight"
"""A published model's, ``[rows, dim]`` for each layer."""
_NAME = re.compile(re.escape(VECTORS).replace(r"\{\}", r"(\d+)"))


def is_vector(name: str) -> bool:
    """Whether a tensor of a model's weights marks paths."""
    return _NAME.fullmatch(name) is not None


def find_vectors(folder: Path) -> dict[str, Path]:
    """The files of a folder's weights that have rows for paths, by the tensor's name.

    What can't be read is left to whoever loads the weights.

    Raises:
        ExtraMissing: safetensors is not installed.
    """
    with importing("local", "a model of this machine"):
        from safetensors import SafetensorError, safe_open

    found: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="np") as handle:
                found |= dict.fromkeys(filter(is_vector, handle.keys()), file)
        except (SafetensorError, OSError):
            continue
    return found


def read_identities(folder: Path, layers: int, dim: int) -> Tensor | None:
    """What is added to keys, before they are rotated, and to values: ``[layers, 1 + paths, dim]``.

    Row 0 is for all that is no path's: a prompt, a summary.  None where a model has none of it.

    Raises:
        ModelUnusable: a tensor is missing, broken or another model's; or there are both kinds.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    published, own = find_vectors(folder), folder / PATHS_FILE
    if published and own.is_file():
        raise ModelUnusable(f"{folder} has seg_embeddings and {PATHS_FILE}; remove one of them")
    if published:
        return _published(folder, published, layers, dim)
    if not own.is_file():
        return None
    try:
        found = load(own.read_bytes())["path_identity"]
    except (SafetensorError, KeyError, OSError) as error:
        raise ModelUnusable(f"{own} is broken ({error}); download the model again") from error
    if found.dim() != 3 or (found.shape[0], found.shape[2]) != (layers, dim):
        raise ModelUnusable(f"{own}: {list(found.shape)} do not fit the model; download it again")
    return torch.cat([torch.zeros_like(found[:, :1]), found], 1)


def _published(folder: Path, files: dict[str, Path], layers: int, dim: int) -> Tensor:
    import torch

    wanted = [VECTORS.format(layer) for layer in range(layers)]
    for name in (*wanted, *files):
        if name not in files or name not in wanted:
            what = "lacks" if name not in files else f"has {layers} layers, and"
            raise ModelUnusable(f"{folder} {what} {name}; download the model again")
    found = [_tensor(files[name], name) for name in wanted]
    for name, one in zip(wanted, found, strict=True):
        if one.dim() != 2 or one.shape[1] != dim or one.shape != found[0].shape:
            shape = list(one.shape)
            raise ModelUnusable(
                f"{folder}: {name} is {shape}, not [rows, {dim}]; download it again"
            )
    return torch.stack(found)


def _tensor(file: Path, name: str) -> Tensor:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as handle:
        found: Tensor = handle.get_tensor(name)
        return found


def without_vectors(names: Iterable[str]) -> list[str]:
    """The names of a model's other tensors."""
    return [name for name in names if not is_vector(name)]


def most_paths(identities: Tensor | None) -> int | None:
    """How many paths a table of identities can mark; None where there is none."""
    return None if identities is None else identities.shape[1] - 1


def marks_all(identities: Tensor) -> bool:
    """Whether what is no path's is marked as well."""
    return bool(identities[:, 0].any())


def refuse_path(path: int, most: int | None) -> str | None:
    """Why a model with ``most`` identities can't mark a path; None where it can, or marks none."""
    if most is None or 0 <= path <= most:
        return None
    return f"path: {path}, and the model has identities for {most}; use fewer"
