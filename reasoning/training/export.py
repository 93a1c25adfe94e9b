"""Save a trained model as a plain Hugging Face folder."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save, save_file

from orchestrator.errors import InvalidValue
from reasoning.engine.identities import PATHS_FILE
from reasoning.training.recipe import TrainingTask, find_task


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


def export(checkpoint: Path, folder: Path) -> None:
    """Write ``config.json``, bf16 safetensors, tokenizer and generation config.

    Raises:
        InvalidValue: there is no such checkpoint.
    """
    state = read_checkpoint(checkpoint)
    task = find_task(state["recipe"]["model"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidValue(f"output: {folder} can't be made ({error.strerror})") from error
    model = state["model"]
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.items()}
    # In a file of their own, so that any engine loads the folder as a plain Llama.
    identity = tensors.pop("model.path_identity")
    if task.shape.paths:
        (folder / PATHS_FILE).write_bytes(save({"path_identity": identity}))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    recipe = {**state["recipe"], "steps_run": state["step"], "tokens": state["tokens"]}
    if state["before"] is not None:
        recipe["before"] = state["before"]  # the run that this one started from
    _write(folder / "config.json", _config(task))
    _write(folder / "recipe.json", recipe)
    parameters = sum(tensor.numel() for tensor in tensors.values())
    (folder / "README.md").write_text(task.card(recipe, parameters))
    _write(folder / "generation_config.json", dict(task.special))
    task.write_tokenizer(folder)


def total(recipe: Mapping[str, Any], key: str) -> int:
    """A count over a run, as `export` writes it, and the runs that it started from."""
    before = recipe.get("before")
    return int(recipe[key]) + (total(before, key) if before else 0)


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
