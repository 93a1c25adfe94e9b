"""How a vLLM engine is started: our names for what matters, vLLM's own for the rest."""

from __future__ import annotations

import math
import os
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import InvalidValue


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Speculative(_Settings):
    """Speculative decoding: a cheap guess of several tokens, checked in one step."""

    method: str = "ngram"
    """``ngram``, ``draft_model``, ``eagle``, ``eagle3`` or another of vLLM's."""
    tokens: int = Field(default=4, ge=1, le=64)
    """Tokens guessed at a time."""
    model: str | None = None
    """The folder of the draft or EAGLE model; a shipped model by its name."""
    lookup_min: int | None = Field(default=None, ge=1)
    lookup_max: int | None = Field(default=None, ge=1)
    """The shortest and longest run of tokens that ``ngram`` looks up in the text so far."""


class VllmSettings(_Settings):
    """Settings of the vLLM backend."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    """By default float32 for the shipped models, whose answers it keeps, and else ``auto``."""
    context: int | None = Field(default=None, ge=16)
    """Tokens of context, at most the model's own."""
    max_num_seqs: int = Field(default=64, ge=1)
    """Threads decoded at once; more wait."""
    kv_cache_gib: float | None = Field(default=None, gt=0)
    """Memory for keys and values; by default vLLM decides."""
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    block_size: int | None = Field(default=None, ge=1)
    """Tokens of a block, the unit of prefix caching; by default 32 on a CPU."""
    prefix_caching: bool = True
    eager: bool | None = None
    """Whether not to compile; so by default on a CPU, where compiling costs more than it saves."""
    scheduling: Literal["fcfs", "priority"] = "priority"
    tensor_parallel: int = Field(default=1, ge=1)
    pipeline_parallel: int = Field(default=1, ge=1)
    data_parallel: int = Field(default=1, ge=1)
    quantization: str | None = None
    speculative: Speculative | None = None
    adapters: dict[str, str] = {}
    """LoRA adapters: the folder of each by name."""
    max_lora_rank: int = 16
    restarts: int = Field(default=1, ge=0)
    """How often a dead engine is started again."""
    engine: dict[str, Any] = {}
    """Any other field of vLLM's ``AsyncEngineArgs``, by its own name."""

    def arguments(self, folder: str, *, shipped: bool) -> dict[str, Any]:
        """The fields of ``AsyncEngineArgs`` that these settings mean."""
        wanted: dict[str, Any] = {
            "model": folder,
            "dtype": self.dtype or ("float32" if shipped else "auto"),
            "max_model_len": self.context,
            "max_num_seqs": self.max_num_seqs,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "block_size": self.block_size,
            "enable_prefix_caching": self.prefix_caching,
            "enforce_eager": self.eager,
            "scheduling_policy": self.scheduling,
            "tensor_parallel_size": self.tensor_parallel,
            "pipeline_parallel_size": self.pipeline_parallel,
            "data_parallel_size": self.data_parallel,
            "quantization": self.quantization,
            "speculative_config": self._speculation(),
            "disable_log_stats": True,
            "seed": 0,
        }
        if self.adapters:
            wanted |= {
                "enable_lora": True,
                "max_lora_rank": self.max_lora_rank,
                "max_loras": min(len(self.adapters), 8),
            }
        return {key: value for key, value in wanted.items() if value is not None} | self.engine

    def _speculation(self) -> dict[str, Any] | None:
        if self.speculative is None:
            return None
        from reasoning.model import shipped

        one = self.speculative
        names = {name: str(path) for name, path in shipped().items()}
        wanted = {
            "method": one.method,
            "num_speculative_tokens": one.tokens,
            "model": names.get(one.model, one.model) if one.model else None,
            "prompt_lookup_min": one.lookup_min,
            "prompt_lookup_max": one.lookup_max,
        }
        return {key: value for key, value in wanted.items() if value is not None}

    def set_environment(self) -> None:
        """Tell vLLM what it takes from the environment only, unless the user already did."""
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        if self.kv_cache_gib is not None:
            space = str(max(1, math.ceil(self.kv_cache_gib)))
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", space)


def parse_settings(pairs: list[str]) -> VllmSettings:
    """Settings from ``NAME=VALUE`` pairs; values are JSON or plain words, names may have a dot.

    Raises:
        InvalidValue: a pair has no such form, or its setting does not exist or is out of range.
    """
    import json

    tree: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (equals and name):
            raise InvalidValue(f"engine: {pair!r} is not NAME=VALUE; try max_num_seqs=128")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        *parents, last = name.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise InvalidValue(f"engine: {parent} is given twice; give it once")
        place[last] = value
    try:
        return VllmSettings.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise InvalidValue(
            f"engine: {field}: {first['msg']}; settings are {', '.join(VllmSettings.model_fields)}"
        ) from error
