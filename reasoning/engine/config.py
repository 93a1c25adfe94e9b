"""What the engine reads from a model folder's ``config.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError

from reasoning.engine.identities import find_vectors
from reasoning.errors import ModelUnusable

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
    sampling: Mapping[str, float]
    """How its makers want tokens to be drawn: temperature, top_p, top_k, min_p and
    repetition_penalty, as far as they say."""
    native: bool
    """Whether the native module runs it exactly; otherwise transformers does."""
    path_vectors: bool = False
    """Whether its weights have ParaThinker's ``seg_embeddings``, which other loaders don't know."""


class _Raw(BaseModel):
    """The fields of ``config.json`` that matter, checked."""

    model_type: str
    vocab_size: PositiveInt
    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    max_position_embeddings: int = Field(default=2048, ge=16)
    rms_norm_eps: PositiveFloat = 1e-6
    rope_theta: PositiveFloat | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    partial_rotary_factor: float | None = None
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    hidden_act: str | None = "silu"
    use_sliding_window: bool | None = False
    quantization_config: None = None
    eos_token_id: int | list[int] | None = None
    reason_markup: Literal[1, 2] | None = None


def read_config(folder: Path) -> ModelConfig:
    """Read and check ``config.json``.

    Raises:
        ModelUnusable: the folder or file is missing, broken, or not a model with rotary positions.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelUnusable(f"{folder} has no config.json; give a Hugging Face model folder")
    try:
        raw = _Raw.model_validate_json(path.read_bytes())
        generation = folder / "generation_config.json"
        more = json.loads(generation.read_bytes()) if generation.is_file() else {}
        checked = _checked(raw, _eos(raw.eos_token_id) | _eos(more.get("eos_token_id")), more)
        return replace(checked, path_vectors=bool(find_vectors(folder)))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        if first["type"] == "missing":
            raise ModelUnusable(
                f"{path} has no {field}; give a decoder with rotary positions, such as Llama, Qwen"
            ) from error
        if field == "quantization_config":
            raise ModelUnusable(f"{path}: quantised weights; give the model unquantised") from error
        raise ModelUnusable(f"{path}: {field}: {first['msg']}; download the model again") from error
    except (ValueError, OSError, AttributeError) as error:
        raise ModelUnusable(f"{path} can't be used ({error}); download the model again") from error


def _checked(raw: _Raw, eos: frozenset[int], generation: Mapping[str, Any]) -> ModelConfig:
    rope = raw.rope_parameters or raw.rope_scaling or {}
    kind, heads = raw.model_type, raw.num_attention_heads
    kv_heads = raw.num_key_value_heads or heads
    if heads % kv_heads:
        raise ValueError(f"{heads} attention heads do not share {kv_heads} key-value heads evenly")
    return ModelConfig(
        model_type=kind,
        vocabulary=raw.vocab_size,
        hidden=raw.hidden_size,
        layers=raw.num_hidden_layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=raw.head_dim or raw.hidden_size // heads,
        context=raw.max_position_embeddings,
        norm_eps=raw.rms_norm_eps,
        rope_theta=raw.rope_theta or rope.get("rope_theta") or 10_000.0,
        tied=raw.tie_word_embeddings,
        qkv_bias=kind == "qwen2",
        qk_norm=kind == "qwen3",
        eos=eos,
        markup=raw.reason_markup,
        sampling={} if raw.reason_markup else _sampling(generation),
        native=kind in NATIVE
        and rope.get("rope_type", rope.get("type", "default")) == "default"
        and raw.partial_rotary_factor in (None, 1)
        and not raw.use_sliding_window
        and not raw.mlp_bias
        and not (raw.attention_bias and kind != "qwen2")
        and raw.hidden_act == "silu",
    )


def _sampling(generation: Mapping[str, Any]) -> dict[str, float]:
    """The settings of ``generation_config.json`` that say how tokens are drawn."""
    drawing = ("temperature", "top_p", "top_k", "min_p")
    names = () if generation.get("do_sample") is False else drawing
    found = {name: generation.get(name) for name in (*names, "repetition_penalty")}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _eos(value: int | list[int] | None) -> frozenset[int]:
    return frozenset(value if isinstance(value, list) else [] if value is None else [value])
