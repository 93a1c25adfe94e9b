"""Where a layer keeps keys and values, shown by a trial before anything relies on it."""

from __future__ import annotations

from typing import Any

import torch

from orchestrator.errors import InvalidValue
from reasoning.vllm_plugin.attention.cache import Cache


def open_caches(config: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Cache]:
    """The caches of an engine's layers, by name, once a trial has shown that they are as thought.

    Raises:
        InvalidValue: keys or values don't stand where they should.
    """
    layers = config.compilation_config.static_forward_context
    caches = {}
    for name, tensor in tensors.items():
        caches[name] = Cache.of(tensor)
        _try_out(name, layers[name], tensor, caches[name])
    return caches


def _try_out(name: str, layer: Any, tensor: torch.Tensor, cache: Cache) -> None:
    """Write to vLLM's null block, which nothing reads, and find it again."""
    heads, dim = cache.keys.shape[1], cache.keys.shape[3]
    slots = torch.arange(cache.block, device=tensor.device)
    noise = torch.randn(2, cache.block, heads, dim).to(tensor)
    layer.impl.do_kv_cache_update(layer, noise[0], noise[1], tensor, slots)
    found = cache.read([0], 0, cache.block)
    tensor[0].zero_()
    if not (torch.equal(found[0], noise[0]) and torch.equal(found[1], noise[1])):
        raise InvalidValue(
            f"vllm plugin: the KV cache of {name} (kernel {getattr(layer, 'isa', '?')}) has an "
            "unknown layout; on a CPU with AMX, give --dtype float32"
        )
