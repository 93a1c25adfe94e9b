"""The parts of vLLM that the plugin overrides or calls, and those that were read and tested."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import json
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from orchestrator.errors import InvalidValue

Use = Literal["join", "paths", "live", "runner 1", "runner 2", "front end"]

_FIRST = "vllm.v1.worker.gpu_model_runner:GPUModelRunner"
_SECOND = "vllm.v1.worker.gpu.model_runner:GPUModelRunner"
_STATE = "vllm.v1.worker.gpu.model_states.default:DefaultModelState"
_SCHEDULER = "vllm.v1.core.sched.scheduler:Scheduler"
_MANAGER = "vllm.v1.core.kv_cache_manager:KVCacheManager"
_POOL = "vllm.v1.core.block_pool:BlockPool"
_LOADER = "vllm.model_executor.model_loader.default_loader:DefaultModelLoader"
_CONNECTOR = "vllm.distributed.kv_transfer.kv_connector.v1.base:KVConnectorBase_V1"

SYMBOLS: dict[Use, dict[str, tuple[str, ...]]] = {
    "join": {
        f"{_MANAGER}.get_blocks": ("request_id",),
        f"{_MANAGER}.get_block_ids": ("request_id",),
        f"{_POOL}.touch": ("blocks",),
        f"{_POOL}.free_blocks": ("ordered_blocks",),
        "vllm.v1.request:Request.update_block_hashes": (),
        f"{_CONNECTOR}.get_num_new_matched_tokens": ("request", "num_computed_tokens"),
        f"{_CONNECTOR}.update_state_after_alloc": ("request", "blocks", "num_external_tokens"),
        f"{_CONNECTOR}.build_connector_meta": ("scheduler_output",),
        f"{_CONNECTOR}.get_transfer_results": ("finished_req_ids",),
        f"{_CONNECTOR}.on_new_request": ("request",),
        f"{_CONNECTOR}.bind_kv_cache_manager": ("kv_cache_manager",),
    },
    "paths": {f"{_LOADER}.get_all_weights": ("model_config", "model")},
    "live": {
        f"{_MANAGER}.allocate_slots": ("request", "num_new_tokens"),
        f"{_SCHEDULER}.schedule": ("throttle_prefills",),
        f"{_SCHEDULER}.add_request": ("request",),
        f"{_SCHEDULER}.update_from_output": ("scheduler_output", "model_runner_output"),
        f"{_SCHEDULER}._handle_blocked_waiting_request": ("request",),
        f"{_SCHEDULER}._free_request": ("request",),
        f"{_SCHEDULER}._request_blocks_can_be_freed": ("request",),
        f"{_SCHEDULER}._preempt_request": ("request", "timestamp"),
    },
    "runner 1": {
        f"{_FIRST}._prepare_inputs": ("scheduler_output", "num_scheduled_tokens"),
        f"{_FIRST}._build_attention_metadata": ("num_tokens", "num_reqs", "max_query_len"),
        f"{_FIRST}.load_model": ("load_dummy_weights",),
    },
    "runner 2": {
        f"{_SECOND}.execute_model": ("scheduler_output", "intermediate_tensors", "dummy_run"),
        f"{_SECOND}.load_model": ("load_dummy_weights",),
        f"{_STATE}.prepare_inputs": ("input_batch", "req_states"),
        f"{_STATE}.prepare_dummy_inputs": ("num_reqs", "num_tokens"),
        f"{_STATE}.prepare_attn": ("input_batch", "cudagraph_mode", "block_tables"),
        f"{_STATE}.get_additional_cg_support": (),
    },
    "front end": {
        "vllm.v1.executor.abstract:Executor.get_class": ("vllm_config",),
        "vllm.v1.engine.input_processor:InputProcessor.process_inputs": (
            *("request_id", "prompt", "params"),
        ),
        "vllm.v1.engine.output_processor:OutputProcessor.process_outputs": ("engine_core_outputs",),
    },
}
"""By use: methods of vLLM, with the parameters that they must begin with."""

_TESTED = Path(__file__).with_name("tested.json")


class Symbol(NamedTuple):
    """What is found of one part of vLLM.

    Attributes:
        parameters: Of its signature; None where it is not there.
        digest: Of its body, whatever the comments and the layout; None without a source.
    """

    name: str
    wanted: tuple[str, ...]
    parameters: tuple[str, ...] | None
    digest: str | None

    @property
    def fits(self) -> bool:
        """Whether it can be called and overridden as the plugin does."""
        return self.parameters is not None and self.parameters[: len(self.wanted)] == self.wanted


def find(path: str, wanted: tuple[str, ...]) -> Symbol:
    """Look a part of vLLM up, as ``module:Class.method``."""
    module, _, name = path.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        return Symbol(path, wanted, None, None)
    names = tuple(one for one in inspect.signature(found).parameters if one != "self")
    return Symbol(path, wanted, names, _digest(found))


def _digest(found: Any) -> str | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(found))))
    except (OSError, TypeError, SyntaxError):
        return None
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:12]


def symbols(*uses: Use) -> Iterator[Symbol]:
    """What is found for these uses, by default for all."""
    for use in uses or SYMBOLS:
        for path, wanted in SYMBOLS[use].items():
            yield find(path, wanted)


def refuse_symbols(*uses: Use) -> None:
    """Refuse a vLLM whose private methods can't be overridden or called as the plugin does.

    Raises:
        InvalidValue: a signature has changed.
    """
    for one in symbols(*uses):
        if not one.fits:
            name = one.name.partition(":")[2]
            raise InvalidValue(
                f"vllm: {name} is not as expected; install a release that was tested"
            )


@cache
def tested() -> dict[str, dict[str, str]]:
    """The digests of the bodies that were tested, by release and name."""
    found: dict[str, dict[str, str]] = json.loads(_TESTED.read_text(encoding="utf-8"))
    return found


def is_known(symbol: Symbol) -> bool:
    """Whether some tested release has this very body."""
    return any(release.get(symbol.name) == symbol.digest for release in tested().values())
