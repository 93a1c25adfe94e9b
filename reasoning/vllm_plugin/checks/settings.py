"""What the plugin can run with, by an engine's configuration alone.

The front end asks before weights are loaded, and the engine's processes ask again.
"""

from __future__ import annotations

from typing import Any

from orchestrator.errors import InvalidValue
from reasoning.vllm_plugin import CONNECTOR, SCHEDULER, WORKER

VERSIONS = ("0.32.", "0.33.")
"""Releases of vLLM whose private methods were read and tested."""

Refusals = list[tuple[bool, str]]


def is_live(config: Any) -> bool:
    """Whether an engine was started with the live half of the plugin."""
    chosen = config.scheduler_config.scheduler_cls
    name = chosen if isinstance(chosen, str) or chosen is None else chosen.__qualname__
    return name is not None and name.endswith(SCHEDULER.rpartition(".")[2])


def is_chosen(config: Any) -> bool:
    """Whether an engine was started with the plugin's connector."""
    transfer = config.kv_transfer_config
    return transfer is not None and transfer.kv_connector == CONNECTOR


def refuse_version() -> None:
    """Refuse a release of vLLM that nobody has tried.

    Raises:
        InvalidValue: it is unknown.
    """
    import vllm

    if not vllm.__version__.startswith(VERSIONS):
        raise InvalidValue(
            f"vllm {vllm.__version__}: the plugin needs {' or '.join(VERSIONS)}x; install one"
        )


def refuse_settings(config: Any) -> None:
    """Refuse an engine's configuration by the name of what the plugin can't run with.

    Raises:
        InvalidValue: something is unsupported.
    """
    refuse_version()
    refused = _of_model(config) + _of_engine(config)
    if is_live(config):
        refused += _of_live(config)
    _raise(refused)


def refuse_caches(config: Any) -> None:
    """Refuse an engine whose keys and values are not those of one kind of full attention.

    Raises:
        InvalidValue: there are several kinds, or another one.
    """
    groups = config.kv_cache_groups
    spec = groups[0].kv_cache_spec if groups else None
    _raise(
        [
            (
                len(groups) != 1,
                f"{len(groups)} groups of KV caches; hybrid models are not supported",
            ),
            (
                type(spec).__name__ != "FullAttentionSpec"
                or getattr(spec, "sliding_window", None) is not None
                or getattr(spec, "attention_chunk_size", None) is not None,
                f"{type(spec).__name__}: windows, chunks and recurrent state are not supported",
            ),
        ]
    )


def _raise(refused: Refusals) -> None:
    for wrong, what in refused:
        if wrong:
            raise InvalidValue(f"vllm plugin: {what}; see docs/vllm-plugin.md")


def _of_model(config: Any) -> Refusals:
    model, dtype = config.model_config, config.cache_config.cache_dtype
    return [
        (model.use_mla, "MLA is not supported"),
        (model.uses_mrope, "M-RoPE positions are not supported"),
        (model.uses_alibi, "ALiBi is not supported, for its positions are counts of tokens"),
        (model.is_hybrid or model.is_attention_free, "recurrent state is not supported"),
        (model.is_encoder_decoder, "encoders are not supported"),
        (
            model.get_sliding_window() is not None or model.attention_chunk_size is not None,
            "windows and chunks of attention are not supported",
        ),
        (model.enable_sleep_mode, "--enable-sleep-mode would lose segments; leave it out"),
        (
            dtype not in ("auto", "float32", "bfloat16", "float16"),
            f"--kv-cache-dtype {dtype} is not supported; leave it out",
        ),
    ]


def _of_engine(config: Any) -> Refusals:
    parallel, cache = config.parallel_config, config.cache_config
    return [
        (config.speculative_config is not None, "speculative decoding is not supported"),
        (parallel.pipeline_parallel_size > 1, "pipeline parallelism is not supported"),
        (
            max(parallel.decode_context_parallel_size, parallel.prefill_context_parallel_size) > 1,
            "context parallelism is not supported",
        ),
        (parallel.enable_dbo, "dual batch overlap is not supported"),
        (cache.kv_sharing_fast_prefill, "--kv-sharing-fast-prefill is not supported"),
        (
            config.aux_output_config.enabled,
            "auxiliary outputs shrink what is joined; leave them out",
        ),
        (parallel.worker_cls != WORKER, f"--worker-cls must be {WORKER}"),
    ]


def _of_live(config: Any) -> Refusals:
    scheduler = config.scheduler_config
    graphs = config.compilation_config.cudagraph_mode
    captured = graphs is not None and graphs.has_full_cudagraphs()
    return [
        (bool(scheduler.async_scheduling), "gangs need --no-async-scheduling"),
        (scheduler.max_num_seqs < 2, "gangs need --max-num-seqs 2 at least (max_num_seqs)"),
        (scheduler.policy != "fcfs", "gangs need --scheduling-policy fcfs"),
        (
            getattr(scheduler, "prefill_schedule_interval", 1) > 1,
            "--prefill-schedule-interval would hold a gang's member back; leave it out",
        ),
        (
            captured and not config.use_v2_model_runner,
            'full CUDA graphs pass live segments by; give "cudagraph_mode": "PIECEWISE"',
        ),
        (
            _on_cpu() and str(config.model_config.dtype) != "torch.float32",
            "live segments on a CPU need --dtype float32 (dtype=float32)",
        ),
    ]


def _on_cpu() -> bool:
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def refuse_runner(kind: type[Any]) -> int:
    """The generation of a model runner, 1 or 2.

    Raises:
        InvalidValue: it is neither, or its methods are not those that were read.
    """
    from reasoning.vllm_plugin.checks.symbols import refuse_symbols

    names = {f"{one.__module__}.{one.__qualname__}" for one in kind.__mro__}
    if "vllm.v1.worker.gpu_model_runner.GPUModelRunner" in names:
        refuse_symbols("runner 1")
        return 1
    if "vllm.v1.worker.gpu.model_runner.GPUModelRunner" in names:
        refuse_symbols("runner 2")
        return 2
    raise InvalidValue(f"vllm plugin: the model runner {kind.__name__} is not known")
