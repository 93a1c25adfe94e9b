"""What the plugin refuses to start with, by name."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from orchestrator.errors import InvalidValue
from reasoning.vllm_plugin import engine_arguments, support

pytestmark = pytest.mark.filterwarnings("default")  # vLLM's and torch's own, at import


class FullAttentionSpec:
    sliding_window = None
    attention_chunk_size = None


class MambaSpec:
    pass


def config(**changes: Any) -> SimpleNamespace:
    """A configuration that is accepted, but for some fields, as ``part__field``."""
    parts = {
        "model_config": {"use_mla": False, "uses_mrope": False, "dtype": torch.float32},
        "cache_config": {"cache_dtype": "auto"},
        "parallel_config": {
            "pipeline_parallel_size": 1,
            "decode_context_parallel_size": 1,
            "enable_dbo": False,
            "worker_cls": support.WORKER,
        },
        "scheduler_config": {
            "scheduler_cls": support.SCHEDULER,
            "async_scheduling": False,
            "policy": "fcfs",
        },
    }
    found = SimpleNamespace(speculative_config=None)
    for name, fields in parts.items():
        own = {k.partition("__")[2]: v for k, v in changes.items() if k.startswith(name)}
        setattr(found, name, SimpleNamespace(**fields | own))
    if "speculative_config" in changes:
        found.speculative_config = changes["speculative_config"]
    return found


def groups(*specs: Any) -> SimpleNamespace:
    return SimpleNamespace(kv_cache_groups=[SimpleNamespace(kv_cache_spec=spec) for spec in specs])


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "check_vllm", lambda methods: None)


def windowed() -> FullAttentionSpec:
    spec = FullAttentionSpec()
    spec.sliding_window = 64  # type: ignore[assignment]
    return spec


REFUSED: dict[str, tuple[dict[str, Any], Callable[[], SimpleNamespace]]] = {
    "speculative decoding": ({"speculative_config": object()}, lambda: groups(FullAttentionSpec())),
    "windows": ({}, lambda: groups(windowed())),
    "MambaSpec": ({}, lambda: groups(MambaSpec())),
    "2 groups": ({}, lambda: groups(FullAttentionSpec(), MambaSpec())),
    "MLA": ({"model_config__use_mla": True}, lambda: groups(FullAttentionSpec())),
    "M-RoPE": ({"model_config__uses_mrope": True}, lambda: groups(FullAttentionSpec())),
    "fp8": ({"cache_config__cache_dtype": "fp8"}, lambda: groups(FullAttentionSpec())),
    "pipeline": (
        {"parallel_config__pipeline_parallel_size": 2},
        lambda: groups(FullAttentionSpec()),
    ),
    "dual batch": ({"parallel_config__enable_dbo": True}, lambda: groups(FullAttentionSpec())),
    "worker-cls": ({"parallel_config__worker_cls": "auto"}, lambda: groups(FullAttentionSpec())),
    "async": ({"scheduler_config__async_scheduling": True}, lambda: groups(FullAttentionSpec())),
    "fcfs": ({"scheduler_config__policy": "priority"}, lambda: groups(FullAttentionSpec())),
    "float32": ({"model_config__dtype": torch.bfloat16}, lambda: groups(FullAttentionSpec())),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_supported_is_refused_by_name(what: str) -> None:
    changes, caches = REFUSED[what]
    with pytest.raises(InvalidValue, match=what):
        support.check_config(config(**changes), caches())


def test_a_plain_configuration_is_accepted_by_both_halves() -> None:
    support.check_config(config(), groups(FullAttentionSpec()))
    joining = config(
        scheduler_config__scheduler_cls=None,
        scheduler_config__async_scheduling=True,
        scheduler_config__policy="priority",
        model_config__dtype=torch.bfloat16,
    )
    support.check_config(joining, groups(FullAttentionSpec()))


def test_the_two_halves_name_classes_that_exist() -> None:
    pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
    from vllm.utils.import_utils import resolve_obj_by_qualname

    live = engine_arguments("live")
    assert resolve_obj_by_qualname(live["scheduler_cls"]).__name__ == "GangScheduler"
    assert live["worker_cls"] == engine_arguments("join")["worker_cls"] == support.WORKER
    assert "scheduler_cls" not in engine_arguments("join")


@pytest.mark.parametrize("damage", ["version", "method"])
def test_another_vllm_is_refused(monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    vllm = pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
    monkeypatch.undo()
    support.check_vllm(support.METHODS | support.LIVE_METHODS)
    if damage == "version":
        monkeypatch.setattr(vllm, "__version__", "0.33.0")
    else:
        from vllm.v1.core.sched.scheduler import Scheduler

        monkeypatch.setattr(Scheduler, "_free_request", lambda self, other: None)
    with pytest.raises(InvalidValue, match=r"0\.33|_free_request"):
        support.check_vllm(support.METHODS | support.LIVE_METHODS)
