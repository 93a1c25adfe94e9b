"""What the engine reads from a model folder's ``config.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import ModelUnusable

NATIVE = ("llama", "qwen2", "qwen3")
"""The ``model_type`` values that the native module runs."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and switches of a decoder with rotary positions."""

    model_type: str
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    norm_eps: float
    rope_theta: float
    tied: bool
    qkv_bias: bool
    qk_norm: bool
    eos: frozenset[int]
    markup: int | None
    """The version of our own markup that the model was trained on; None for other models."""
    native: bool
    """Whether the native module runs it exactly; otherwise transformers does."""


def read_config(folder: Path) -> ModelConfig:
    """Read and check ``config.json``.

    Raises:
        ModelUnusable: the folder or file is missing, broken, or not a model with rotary positions.
    """
    path = folder / "config.json"
    if not folder.is_dir():
        raise ModelUnusable(
            f"model folder {folder} does not exist; give the path of a model folder"
        )
    if not path.is_file():
        raise ModelUnusable(f"{folder} has no config.json; give a Hugging Face model folder")
    try:
        raw = json.loads(path.read_text())
        return _from_json(raw, _eos(folder, raw))
    except KeyError as error:
        raise ModelUnusable(
            f"{path} has no {error}; the engine runs decoders with rotary positions, such as "
            "Llama, Qwen, Mistral or Phi"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelUnusable(
            f"{path} can't be read ({type(error).__name__}: {error}); download the model again"
        ) from error


def _from_json(raw: dict[str, Any], eos: frozenset[int]) -> ModelConfig:
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    theta = raw.get("rope_theta") or rope.get("rope_theta")
    kind = raw["model_type"]
    plain_rope = rope.get("rope_type", rope.get("type", "default")) == "default"
    heads = raw["num_attention_heads"]
    if kind in NATIVE and theta is None:
        theta = 10_000.0
    return ModelConfig(
        model_type=kind,
        vocabulary=raw["vocab_size"],
        hidden=raw["hidden_size"],
        layers=raw["num_hidden_layers"],
        heads=heads,
        kv_heads=raw.get("num_key_value_heads") or heads,
        head_dim=raw.get("head_dim") or raw["hidden_size"] // heads,
        context=raw.get("max_position_embeddings", 2048),
        norm_eps=raw.get("rms_norm_eps", 1e-6),
        rope_theta=theta or 10_000.0,
        tied=raw.get("tie_word_embeddings", False),
        qkv_bias=raw.get("attention_bias", False) or kind == "qwen2",
        qk_norm=kind == "qwen3",
        eos=eos,
        markup=raw.get("reason_markup"),
        native=kind in NATIVE
        and plain_rope
        and not raw.get("use_sliding_window")
        and not raw.get("mlp_bias")
        and raw.get("partial_rotary_factor", 1) == 1
        and raw.get("hidden_act", "silu") == "silu"
        and not (kind == "llama" and raw.get("attention_bias")),
    )


def _eos(folder: Path, raw: dict[str, Any]) -> frozenset[int]:
    """The union of both configs' end tokens: chat models name theirs in the generation config."""
    found: set[int] = set()
    generation = folder / "generation_config.json"
    sources = [raw] + ([json.loads(generation.read_text())] if generation.is_file() else [])
    for source in sources:
        value = source.get("eos_token_id")
        found.update(value if isinstance(value, list) else [] if value is None else [value])
    return frozenset(found)
