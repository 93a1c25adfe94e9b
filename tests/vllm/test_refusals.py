"""What the plugin refuses to start with, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from orchestrator.errors import InvalidValue
from reasoning.backends.vllm.settings import VllmSettings
from reasoning.cli import main
from reasoning.engine.config import read_config
from reasoning.models.catalog import shipped
from reasoning.vllm_plugin import SCHEDULER, WORKER, engine_arguments
from reasoning.vllm_plugin.checks import settings, symbols
from reasoning.vllm_plugin.checks.compatibility import CompatibilityReport

pytestmark = pytest.mark.filterwarnings("default")  # vLLM's and torch's own, at import


class FullAttentionSpec:
    sliding_window = None
    attention_chunk_size = None


class MambaSpec:
    pass


def graphs(full: bool) -> SimpleNamespace:
    return SimpleNamespace(has_full_cudagraphs=lambda: full)


def config(**changes: Any) -> SimpleNamespace:
    """A configuration that is accepted, but for some fields, as ``part__field``."""
    parts: dict[str, dict[str, Any]] = {
        "model_config": {
            **dict.fromkeys(("use_mla", "uses_mrope", "uses_alibi", "is_hybrid"), False),
            **dict.fromkeys(("is_attention_free", "is_encoder_decoder"), False),
            "enable_sleep_mode": False,
            "attention_chunk_size": None,
            "get_sliding_window": lambda: None,
            "dtype": torch.float32,
        },
        "cache_config": {"cache_dtype": "auto", "kv_sharing_fast_prefill": False},
        "parallel_config": {
            "pipeline_parallel_size": 1,
            "decode_context_parallel_size": 1,
            "prefill_context_parallel_size": 1,
            "enable_dbo": False,
            "worker_cls": WORKER,
        },
        "scheduler_config": {
            "scheduler_cls": SCHEDULER,
            "async_scheduling": False,
            "max_num_seqs": 8,
            "policy": "fcfs",
            "prefill_schedule_interval": 1,
        },
        "compilation_config": {"cudagraph_mode": graphs(False)},
        "aux_output_config": {"enabled": False},
    }
    found = SimpleNamespace(
        speculative_config=changes.get("speculative_config"), use_v2_model_runner=False
    )
    for name, fields in parts.items():
        own = {k.partition("__")[2]: v for k, v in changes.items() if k.startswith(f"{name}__")}
        setattr(found, name, SimpleNamespace(**fields | own))
    return found


def groups(*specs: Any) -> SimpleNamespace:
    return SimpleNamespace(kv_cache_groups=[SimpleNamespace(kv_cache_spec=spec) for spec in specs])


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "refuse_version", lambda: None)
    monkeypatch.setattr(settings, "_on_cpu", lambda: True)


REFUSED: dict[str, dict[str, Any]] = {
    "speculative decoding": {"speculative_config": object()},
    "MLA": {"model_config__use_mla": True},
    "M-RoPE": {"model_config__uses_mrope": True},
    "ALiBi": {"model_config__uses_alibi": True},
    "recurrent": {"model_config__is_hybrid": True},
    "encoders": {"model_config__is_encoder_decoder": True},
    "windows": {"model_config__get_sliding_window": lambda: 64},
    "chunks": {"model_config__attention_chunk_size": 64},
    "sleep": {"model_config__enable_sleep_mode": True},
    "fp8": {"cache_config__cache_dtype": "fp8"},
    "fast-prefill": {"cache_config__kv_sharing_fast_prefill": True},
    "pipeline": {"parallel_config__pipeline_parallel_size": 2},
    "context parallelism": {"parallel_config__prefill_context_parallel_size": 2},
    "dual batch": {"parallel_config__enable_dbo": True},
    "auxiliary outputs": {"aux_output_config__enabled": True},
    "worker-cls": {"parallel_config__worker_cls": "auto"},
    "async": {"scheduler_config__async_scheduling": True},
    "max_num_seqs": {"scheduler_config__max_num_seqs": 1},
    "fcfs": {"scheduler_config__policy": "priority"},
    "prefill-schedule-interval": {"scheduler_config__prefill_schedule_interval": 4},
    "full CUDA graphs": {"compilation_config__cudagraph_mode": graphs(True)},
    "float32": {"model_config__dtype": torch.bfloat16},
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_supported_is_refused_by_name(what: str) -> None:
    with pytest.raises(InvalidValue, match=what):
        settings.refuse_settings(config(**REFUSED[what]))


def windowed() -> FullAttentionSpec:
    spec = FullAttentionSpec()
    spec.sliding_window = 64  # type: ignore[assignment]
    return spec


CACHES: dict[str, Callable[[], SimpleNamespace]] = {
    "windows": lambda: groups(windowed()),
    "MambaSpec": lambda: groups(MambaSpec()),
    "2 groups": lambda: groups(FullAttentionSpec(), MambaSpec()),
}


@pytest.mark.parametrize("what", CACHES)
def test_caches_of_another_kind_are_refused_by_name(what: str) -> None:
    with pytest.raises(InvalidValue, match=what):
        settings.refuse_caches(CACHES[what]())


def test_a_plain_configuration_is_accepted_by_both_halves() -> None:
    settings.refuse_settings(config())
    settings.refuse_caches(groups(FullAttentionSpec()))
    joining = config(
        scheduler_config__scheduler_cls=None,
        scheduler_config__async_scheduling=True,
        scheduler_config__policy="priority",
        scheduler_config__max_num_seqs=1,
        compilation_config__cudagraph_mode=graphs(True),
        model_config__dtype=torch.bfloat16,
    )
    settings.refuse_settings(joining)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"dtype": "bfloat16"}, "dtype=float32"),
        ({"data_parallel": 2}, "data_parallel"),
        ({"pipeline_parallel": 2}, "pipeline_parallel"),
        ({"speculative": {"method": "ngram"}}, "speculative"),
    ],
)
def test_settings_are_refused_before_vllm_is_read(wrong: dict[str, Any], what: str) -> None:
    from reasoning.vllm_plugin.backend import SharedVllmBackend

    folder = Path(shipped()["reason-1m"])
    with pytest.raises(InvalidValue, match=what):
        SharedVllmBackend(folder, read_config(folder), VllmSettings(plugin="live", **wrong))


def test_the_two_halves_name_classes_that_exist() -> None:
    pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
    from vllm.utils.import_utils import resolve_obj_by_qualname

    live = engine_arguments("live")
    assert resolve_obj_by_qualname(live["scheduler_cls"]).__name__ == "GangScheduler"
    assert live["worker_cls"] == engine_arguments("join")["worker_cls"] == WORKER
    assert "scheduler_cls" not in engine_arguments("join")


@pytest.mark.parametrize(
    ("full", "path", "why"),
    [(True, 0, "full CUDA graphs"), (False, 0, None), (False, 3, "identities for 2")],
)
def test_what_can_not_be_marked_is_refused_by_name(full: bool, path: int, why: str | None) -> None:
    pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
    from reasoning.vllm_plugin.attention.paths import refuse_marks

    asked = config(compilation_config__cudagraph_mode=graphs(full))
    found = refuse_marks(asked, torch.zeros(1, 3, 4), path)
    assert found is None if why is None else why in str(found)
    assert refuse_marks(asked, None, path) is None


def test_another_release_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    vllm = pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
    monkeypatch.undo()
    settings.refuse_version()
    monkeypatch.setattr(vllm, "__version__", "0.34.0")
    with pytest.raises(InvalidValue, match=r"0\.34\.0"):
        settings.refuse_version()


def test_a_method_with_another_signature_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
    from vllm.v1.core.sched.scheduler import Scheduler

    symbols.refuse_symbols()
    monkeypatch.setattr(Scheduler, "_free_request", lambda self, other: None)
    with pytest.raises(InvalidValue, match="_free_request"):
        symbols.refuse_symbols("live")


def test_a_method_with_another_body_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
    from vllm.v1.core.block_pool import BlockPool

    def touch(self: Any, blocks: Any) -> None:
        raise NotImplementedError

    assert [one.name for one in symbols.symbols() if not symbols.is_known(one)] == []
    monkeypatch.setattr(BlockPool, "touch", touch)
    (changed,) = [one for one in symbols.symbols("join") if not symbols.is_known(one)]
    assert changed.name.endswith("BlockPool.touch")
    assert changed.fits


def test_the_doctor_shows_what_the_plugin_relies_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
    from vllm.v1.core.sched.scheduler import Scheduler

    def found() -> tuple[int, str]:
        done = CliRunner().invoke(main, ["doctor", "--vllm", "--json"])
        return done.exit_code, done.stdout

    code, text = found()
    report = CompatibilityReport.model_validate_json(text)
    assert code == 0
    assert report.usable
    assert {one.state for one in report.symbols} == {"tested"}
    monkeypatch.setattr(Scheduler, "_free_request", lambda self, other: None)
    code, text = found()
    report = CompatibilityReport.model_validate_json(text)
    (changed,) = (one for one in report.symbols if one.state != "tested")
    assert (changed.name, changed.state) == ("Scheduler._free_request", "another signature")
    assert code != 0


def test_an_unknown_model_runner_is_refused() -> None:
    with pytest.raises(InvalidValue, match="MambaSpec is not known"):
        settings.refuse_runner(MambaSpec)
