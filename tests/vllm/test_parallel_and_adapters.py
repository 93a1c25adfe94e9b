"""Settings that change what vLLM runs: LoRA adapters, and a model on several devices."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from orchestrator.errors import ExtraMissing, InvalidValue
from reasoning import Segment, load_model
from reasoning.backends.base import Token
from reasoning.evaluation import draw_problems
from reasoning.models.catalog import shipped
from reasoning.models.vllm import VllmSource
from reasoning.values.sampling import Sampling
from tests.support.reading import reading

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("default")]

RANK, ALPHA = 8, 16
DIALECT = load_model("reason-1m").dialect
TINY: dict[str, Any] = {"kv_cache_gib": 0.5, "context": 256, "max_num_seqs": 4}


async def greedy(model: Any, **sampling: Any) -> list[int]:
    async with model.backend as backend:
        return [one.token for one in await written(backend, **sampling)]


async def written(backend: Any, **sampling: Any) -> list[Token]:
    prompt = DIALECT.prompt(draw_problems("countdown", 1, numbers=4, seed=3)[0])
    segment = Segment(prompt)
    generation = backend.open(segment, Sampling(**sampling), limit=len(prompt) + 48)
    try:
        return [token async for token in reading(generation, segment)]
    finally:
        generation.close()


def adapt(base: Path, adapter: Path, merged: Path) -> None:
    """A random LoRA adapter of all query and value projections, and the model with it merged."""
    weights = load_file(base / "model.safetensors")
    parts = {}
    torch.manual_seed(3)
    for name in [n for n in weights if n.endswith(("q_proj.weight", "v_proj.weight"))]:
        rows, columns = weights[name].shape
        down, up = torch.randn(RANK, columns) / columns**0.5, torch.randn(rows, RANK) / 8
        key = f"base_model.model.{name.removesuffix('.weight')}"
        parts |= {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up}
        weights[name] = weights[name].float() + ALPHA / RANK * up @ down
    adapter.mkdir()
    save_file(parts, adapter / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "task_type": "CAUSAL_LM"}
    config |= {"target_modules": ["q_proj", "v_proj"], "bias": "none"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    shutil.copytree(base, merged)
    save_file({n: w.float() for n, w in weights.items()}, merged / "model.safetensors")


async def test_an_adapter_writes_what_a_model_with_it_merged_writes(tmp_path: Path) -> None:
    base = shipped()["reason-1m"]
    adapt(base, tmp_path / "adapter", tmp_path / "merged")
    settings = VllmSource(**TINY, adapters={"mine": str(tmp_path / "adapter")})
    model = settings.load("reason-1m")
    async with model.backend as backend:
        plain = [one.token for one in await written(backend)]
        adapted = [one.token for one in await written(backend, adapter="mine")]
    assert plain == await greedy(load_model("reason-1m"))
    assert adapted == await greedy(load_model(tmp_path / "merged"))
    assert adapted != plain


@pytest.mark.parametrize("setting", ["tensor_parallel", "data_parallel"])
async def test_a_model_on_two_devices_writes_the_same(setting: str) -> None:
    found = await greedy(VllmSource(**TINY, **{setting: 2}).load("reason-1m"))
    assert found == await greedy(load_model("reason-1m"))


async def test_a_dynamic_speculative_length_loses_nothing() -> None:
    plain = await greedy(VllmSource(**TINY).load("reason-1m"))
    guess = {"method": "ngram", "tokens": 3, "schedule": [[1, 2, 3], [3, 4, 1]]}
    guessed = await greedy(VllmSource(**TINY, speculative=guess).load("reason-1m"))
    assert guessed == plain
    assert len(plain) > 20


@pytest.mark.parametrize("budget", [5, 1000])
async def test_a_thinking_budget_ends_thoughts_and_changes_nothing_else(budget: int) -> None:
    model = load_model("reason-1m")
    plain = await greedy(model)
    (answer,) = DIALECT.encode("<answer>")
    marks = {"start": "<serial>", "end": "<answer>"}
    source = VllmSource(**TINY, thinking={"budget": budget, **marks})
    found = await greedy(source.load("reason-1m"))
    assert answer not in plain[:-1]
    if budget == 1000:
        assert found == plain
    else:
        before = found.index(answer)
        assert before < len(plain) - 1
        assert found[:before] == plain[:before]


async def test_a_thinking_budget_without_marks_is_refused() -> None:
    with pytest.raises(InvalidValue, match="marks of thoughts"):
        VllmSource(**TINY, thinking={"budget": 5})


async def test_a_method_whose_package_is_missing_is_named() -> None:
    from vllm.utils.import_utils import has_arctic_inference

    if has_arctic_inference():
        pytest.skip("arctic-inference is installed")
    model = VllmSource(**TINY, speculative={"method": "suffix"}).load("reason-1m")
    with pytest.raises(ExtraMissing, match="arctic-inference"):
        await greedy(model)
