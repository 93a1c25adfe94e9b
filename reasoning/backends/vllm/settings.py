"""How a vLLM engine is started: our names for what matters, vLLM's own for the rest."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field

from orchestrator.errors import InvalidValue
from reasoning.backends.settings import BackendSettings, GeneratingSettings


class Speculative(BackendSettings):
    """Speculative decoding: a cheap guess of several tokens, checked in one step."""

    method: str = "ngram"
    """``ngram``, ``suffix``, ``draft_model``, ``eagle``, ``eagle3`` or another of vLLM's."""
    tokens: int = Field(default=4, ge=1, le=64)
    """Tokens guessed at a time."""
    schedule: tuple[tuple[int, int, int], ...] | None = None
    """Tokens guessed by how many threads run: each from, to and so many; vLLM's dynamic length."""
    model: str | None = None
    """The folder of the draft or EAGLE model; a shipped model by its name."""
    lookup_min: int | None = Field(default=None, ge=1)
    lookup_max: int | None = Field(default=None, ge=1)
    """The shortest and longest run of tokens that ``ngram`` looks up in the text so far."""


class ThinkingBudget(BackendSettings):
    """A bound on the thoughts of each request, at which vLLM ends them itself."""

    budget: int = Field(ge=0)
    """Tokens of thoughts, from the last that opened them, given or written."""
    parser: str | None = None
    """vLLM's parser of the model's thoughts, which knows their marks, as ``qwen3``."""
    start: str | None = None
    end: str | None = None
    """The texts that open and end thoughts, where no parser knows them."""

    def model_post_init(self, context: Any) -> None:
        if self.parser is None and not (self.start and self.end):
            raise InvalidValue(
                "engine: thinking.budget needs the marks of thoughts; give thinking.parser, or "
                "thinking.start and thinking.end"
            )


class VllmSettings(GeneratingSettings):
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
    thinking: ThinkingBudget | None = None
    adapters: dict[str, str] = Field(default_factory=dict)
    """LoRA adapters: the folder of each by name."""
    max_lora_rank: int = 16
    plugin: Literal["join", "live"] | None = None
    """Whether threads' keys and values are joined, or also seen live; see docs/vllm-plugin.md."""
    restarts: int = Field(default=1, ge=0)
    """How often a dead engine is started again."""
    engine: dict[str, Any] = Field(default_factory=dict)
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
            "use_tqdm_on_load": False,
            "seed": 0,
        }
        if self.thinking is not None:
            one = self.thinking
            marks = {"reasoning_start_str": one.start or "", "reasoning_end_str": one.end or ""}
            wanted |= {"reasoning_parser": one.parser or "", "reasoning_config": marks}
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
        one = self.speculative
        wanted = {
            "method": one.method,
            "num_speculative_tokens": one.tokens,
            "num_speculative_tokens_per_batch_size": one.schedule and [*map(list, one.schedule)],
            "model": one.model,
            "prompt_lookup_min": one.lookup_min,
            "prompt_lookup_max": one.lookup_max,
        }
        return {key: value for key, value in wanted.items() if value is not None}

    @contextmanager
    def environment(self) -> Iterator[None]:
        """What vLLM takes from the environment only, unless the user already set it.

        Its processes inherit it, so it holds while they start.
        """
        wanted = {
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_NO_USAGE_STATS": "1",
            "PYTHONWARNINGS": "ignore",
            "TORCH_CPP_LOG_LEVEL": "ERROR",
        }
        if self.kv_cache_gib is not None:
            wanted["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, math.ceil(self.kv_cache_gib)))
        added = wanted.keys() - os.environ.keys()
        os.environ.update({name: wanted[name] for name in added})
        try:
            yield
        finally:
            for name in added:
                del os.environ[name]
