"""What the plugin can run with, checked when an engine starts and refused by name."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import torch

from orchestrator.errors import InvalidValue
from reasoning.vllm_plugin import SCHEDULER, WORKER
from reasoning.vllm_plugin.attention.cache import Cache

VERSIONS = ("0.32.",)
"""Releases of vLLM whose private methods were read and tested."""

_RUNNER = "vllm.v1.worker.gpu_model_runner:GPUModelRunner"
_SCHEDULER = "vllm.v1.core.sched.scheduler:Scheduler"
_MANAGER = "vllm.v1.core.kv_cache_manager:KVCacheManager"
_POOL = "vllm.v1.core.block_pool:BlockPool"
_REQUEST = "vllm.v1.request:Request"

METHODS: dict[str, tuple[str, ...]] = {
    f"{_RUNNER}._prepare_inputs": ("scheduler_output", "num_scheduled_tokens"),
    f"{_RUNNER}._build_attention_metadata": ("num_tokens", "num_reqs", "max_query_len"),
    f"{_RUNNER}.load_model": ("load_dummy_weights",),
    f"{_MANAGER}.get_blocks": ("request_id",),
    f"{_MANAGER}.get_block_ids": ("request_id",),
    f"{_POOL}.touch": ("blocks",),
    f"{_POOL}.free_blocks": ("ordered_blocks",),
    f"{_REQUEST}.update_block_hashes": (),
}
"""Private methods that joins need, with the parameters that they must begin with."""

LIVE_METHODS: dict[str, tuple[str, ...]] = {
    f"{_MANAGER}.allocate_slots": ("request", "num_new_tokens"),
    f"{_SCHEDULER}.schedule": ("throttle_prefills",),
    f"{_SCHEDULER}.add_request": ("request",),
    f"{_SCHEDULER}.update_from_output": ("scheduler_output", "model_runner_output"),
    f"{_SCHEDULER}._handle_blocked_waiting_request": ("request",),
    f"{_SCHEDULER}._free_request": ("request",),
    f"{_SCHEDULER}._request_blocks_can_be_freed": ("request",),
    f"{_SCHEDULER}._preempt_request": ("request", "timestamp"),
}


def check_vllm(methods: dict[str, tuple[str, ...]]) -> None:
    """Refuse a vLLM whose private methods are not those that the plugin overrides or calls.

    Raises:
        InvalidValue: the release is unknown or a method differs.
    """
    import vllm

    if not vllm.__version__.startswith(VERSIONS):
        raise InvalidValue(f"vllm {vllm.__version__}: the plugin needs {', '.join(VERSIONS)}x")
    for path, wanted in methods.items():
        module, _, name = path.partition(":")
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        names = tuple(inspect.signature(found).parameters)[1:] if callable(found) else None
        if names is None or names[: len(wanted)] != wanted:
            raise InvalidValue(f"vllm: {name} is not as expected; install {', '.join(VERSIONS)}x")


def is_live(config: Any) -> bool:
    """Whether an engine was started with the live half of the plugin."""
    chosen = config.scheduler_config.scheduler_cls
    name = chosen if isinstance(chosen, str) or chosen is None else chosen.__qualname__
    return name is not None and name.endswith(SCHEDULER.rpartition(".")[2])


def check_config(config: Any, kv_cache_config: Any) -> None:
    """Refuse an engine's configuration by the name of what the plugin can't run with.

    Raises:
        InvalidValue: something is unsupported.
    """
    live = is_live(config)
    check_vllm(METHODS | LIVE_METHODS if live else METHODS)
    refused = _refused(config, kv_cache_config) + (_refused_live(config) if live else [])
    for wrong, what in refused:
        if wrong:
            raise InvalidValue(f"vllm plugin: {what}; see docs/vllm-plugin.md")


def _refused(config: Any, kv_cache_config: Any) -> list[tuple[bool, str]]:
    model, parallel, cache = config.model_config, config.parallel_config, config.cache_config
    groups = kv_cache_config.kv_cache_groups
    spec = groups[0].kv_cache_spec if groups else None
    return [
        (len(groups) != 1, f"{len(groups)} groups of KV caches; hybrid models are not supported"),
        (model.use_mla, "MLA is not supported"),
        (
            type(spec).__name__ != "FullAttentionSpec"
            or getattr(spec, "sliding_window", None) is not None
            or getattr(spec, "attention_chunk_size", None) is not None,
            f"{type(spec).__name__}: windows, chunks and recurrent state are not supported",
        ),
        (model.uses_mrope, "M-RoPE positions are not supported"),
        (
            cache.cache_dtype not in ("auto", "float32", "bfloat16", "float16"),
            f"--kv-cache-dtype {cache.cache_dtype} is not supported; leave it out",
        ),
        (config.speculative_config is not None, "speculative decoding is not supported"),
        (parallel.pipeline_parallel_size > 1, "pipeline parallelism is not supported"),
        (parallel.decode_context_parallel_size > 1, "context parallelism is not supported"),
        (parallel.enable_dbo, "dual batch overlap is not supported"),
        (parallel.worker_cls != WORKER, f"--worker-cls must be {WORKER}"),
    ]


def _refused_live(config: Any) -> list[tuple[bool, str]]:
    scheduler = config.scheduler_config
    return [
        (bool(scheduler.async_scheduling), "gangs need --no-async-scheduling"),
        (scheduler.policy != "fcfs", "gangs need --scheduling-policy fcfs"),
        (config.model_config.dtype != torch.float32, "live segments on a CPU need --dtype float32"),
    ]


def open_caches(config: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Cache]:
    """The caches of an engine's layers, by name, once a trial has shown that they are as thought.

    Raises:
        InvalidValue: keys or values don't stand where they should.
    """
    layers = config.compilation_config.static_forward_context
    caches = {}
    for name, tensor in tensors.items():
        caches[name] = Cache.of_cpu(tensor)
        _try_out(name, layers[name], tensor, caches[name])
    return caches


def _try_out(name: str, layer: Any, tensor: torch.Tensor, cache: Cache) -> None:
    """Write to vLLM's null block, which nothing reads, and find it again."""
    heads, dim = cache.keys.shape[1], cache.keys.shape[3]
    slots = torch.arange(cache.block)
    noise = torch.randn(2, cache.block, heads, dim).to(tensor.dtype)
    layer.impl.do_kv_cache_update(layer, noise[0], noise[1], tensor, slots)
    found = cache.read([0], 0, cache.block)
    tensor[0].zero_()
    if not (torch.equal(found[0], noise[0]) and torch.equal(found[1], noise[1])):
        raise InvalidValue(
            f"vllm plugin: the KV cache of {name} (kernel {getattr(layer, 'isa', '?')}) has an "
            "unknown layout; on a CPU with AMX, give --dtype float32"
        )
