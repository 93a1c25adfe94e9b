"""Trained models as plain Hugging Face folders: written, read again, and averaged."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from orchestrator.errors import InvalidValue
from reasoning.engine.identities import PATHS_FILE, read_identities
from reasoning.errors import ModelUnusable
from reasoning.training.recipe import TrainingTask, find_task

IDENTITY = "model.path_identity"


def read_checkpoint(checkpoint: Path, *parts: str) -> dict[str, Any]:
    """What a training run wrote, which has these parts at least.

    Raises:
        InvalidValue: there is none, or it is broken.
    """
    if not checkpoint.is_file():
        raise InvalidValue(f"folder: {checkpoint} does not exist; give a training run's")
    try:
        state: Any = torch.load(checkpoint, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise InvalidValue(f"folder: {checkpoint} can't be read; give another run") from error
    wanted = {"model", "recipe", "before", "step", "tokens", *parts}
    if not isinstance(state, dict) or not state.keys() >= wanted:
        raise InvalidValue(f"folder: {checkpoint} is of another version; start a new run")
    return state


def write_checkpoint(state: dict[str, Any], checkpoint: Path) -> None:
    """Write a run's state in place of the one before, which stands until the new one is whole.

    Raises:
        InvalidValue: it can't be written.
    """
    partial = checkpoint.with_suffix(".partial")
    try:
        torch.save(state, partial)
        partial.replace(checkpoint)
    except (OSError, RuntimeError) as error:  # the latter on a full disk
        with suppress(OSError):
            partial.unlink()
        why = str(error).splitlines()[0]
        raise InvalidValue(
            f"folder: {checkpoint} can't be written ({why}); make room, and go on with --resume "
            "from the checkpoint before, if there was one"
        ) from error


def export(checkpoint: Path, folder: Path) -> None:
    """Write ``config.json``, bf16 safetensors, tokenizer and generation config.

    Raises:
        InvalidValue: there is no such checkpoint.
    """
    state = read_checkpoint(checkpoint)
    recipe = {**state["recipe"], "steps_run": state["step"], "tokens": state["tokens"]}
    if state["before"] is not None:
        recipe["before"] = state["before"]  # the run that this one started from
    _write_folder(state["model"], recipe, folder)


def read_exported(folder: Path, model: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of an exported model, and its recipe.

    Raises:
        InvalidValue: the folder is no exported model of this shape.
    """
    shape = find_task(model).shape
    try:
        weights = load_file(folder / "model.safetensors")
        identity = read_identities(folder, shape.layers, shape.head_dim)
        if identity is not None:
            weights[IDENTITY] = identity[:, 1:]
        return weights, json.loads((folder / "recipe.json").read_text())
    except (OSError, ValueError, SafetensorError, ModelUnusable) as error:
        raise no_model(folder, model) from error


def no_model(folder: Path, model: str) -> InvalidValue:
    """The refusal of a folder that is no exported model of this shape."""
    return InvalidValue(f"init: {folder} is no exported {model}; give one that export wrote")


def average(model: str, folders: Sequence[Path], output: Path) -> None:
    """Write the mean of several exported models' weights, a model soup (arXiv 2203.05482).

    Raises:
        InvalidValue: there are fewer than two, or one is no exported model of this shape.
    """
    if len(folders) < 2:
        raise InvalidValue("init: a mean is of two models at least; give more folders")
    read = [read_exported(folder, model) for folder in folders]
    names = {name: tensor.shape for name, tensor in read[0][0].items()}
    for folder, (weights, _) in zip(folders, read, strict=True):
        if {name: tensor.shape for name, tensor in weights.items()} != names:
            raise no_model(folder, model)
    mean = {
        name: torch.stack([weights[name].float() for weights, _ in read]).mean(0) for name in names
    }
    _write_folder(mean, _mean_recipe(model, [recipe for _, recipe in read]), output)


def _mean_recipe(model: str, recipes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a mean is of; what all of them started from stands there once."""
    mean = {"model": model, "steps_run": 0, "tokens": 0, "mean_of": recipes}
    before = recipes[0].get("before")
    if before is not None and all(recipe.get("before") == before for recipe in recipes):
        own = [{name: recipe[name] for name in recipe if name != "before"} for recipe in recipes]
        mean |= {"mean_of": own, "before": before}
    return mean


def _write_folder(model: Mapping[str, Tensor], recipe: Mapping[str, Any], folder: Path) -> None:
    task = find_task(recipe["model"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidValue(f"output: {folder} can't be made ({error.strerror})") from error
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.items()}
    # In a file of their own, so that any engine loads the folder as a plain Llama.
    identity = tensors.pop(IDENTITY, None)
    if task.shape.paths and identity is not None:
        (folder / PATHS_FILE).write_bytes(save({"path_identity": identity}))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _write(folder / "config.json", _config(task))
    _write(folder / "recipe.json", recipe)
    parameters = sum(tensor.numel() for tensor in tensors.values())
    (folder / "README.md").write_text(task.card(recipe, parameters))
    _write(folder / "generation_config.json", dict(task.special))
    task.write_tokenizer(folder)


GROWS = ("steps_run", "tokens", "steps", "minutes", "rounds")
"""What differs between states of one run."""


def total(recipe: Mapping[str, Any], key: str) -> int:
    """A count over a run, as `export` writes it, and each run that it started from."""
    most: dict[str, int] = {}
    for run in _runs(recipe):
        fixed = {name: value for name, value in run.items() if name not in GROWS}
        same = json.dumps(fixed, sort_keys=True)
        most[same] = max(most.get(same, 0), int(run[key]))
    return sum(most.values())


def _runs(recipe: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A run, those that it is the mean of, and those before it."""
    yield recipe
    before = [recipe["before"]] if recipe.get("before") else []
    for one in [*recipe.get("mean_of", ()), *before]:
        yield from _runs(one)


def _config(task: TrainingTask) -> dict[str, Any]:
    shape = task.shape
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": shape.rope_theta,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        **task.special,
        "torch_dtype": "bfloat16",
        **task.config,
    }


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
