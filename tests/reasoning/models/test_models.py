"""What the shipped model folders promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
import torch
from safetensors.torch import load_file, save_file

from orchestrator.errors import InvalidValue
from reasoning import Reasoner, load_model
from reasoning.engine.engine import Engine
from reasoning.engine.identities import VECTORS
from reasoning.errors import ModelUnusable
from reasoning.evaluation import draw_problems
from reasoning.models.catalog import shipped as shipped_models
from reasoning.models.loaded import LoadedModel
from reasoning.problems import Problem, countdown
from reasoning.training.batches import batches
from reasoning.training.export import export
from reasoning.training.loop import train
from reasoning.training.markup.task import tokenizer
from reasoning.training.recipe import TrainingRecipe
from tests.support.sharing_tools import random_folder

FOLDERS = shipped_models()


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_a_shipped_folder_is_complete_and_small(name: str) -> None:
    files = {path.name: path.stat().st_size for path in FOLDERS[name].iterdir()}
    assert {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "recipe.json",
        "tokenizer.json",
        "tokenizer_config.json",
    } <= set(files)
    assert sum(files.values()) < 25e6


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_transformers_loads_a_shipped_folder_unchanged_and_writes_the_same(name: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = str(FOLDERS[name])
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = AutoTokenizer.from_pretrained(folder)
    ours = load_model(name)
    problem = countdown.Countdown(numbers=(3, 10, 21, 23), target=50)
    prompt = ours.dialect.prompt(problem).tokens
    text = tokens.decode(prompt)
    assert tokens(text).input_ids == ours.dialect.encode(text) == prompt
    ids = torch.tensor([prompt])
    out = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=60, do_sample=False
    )

    async def solve() -> str:
        async with Reasoner(ours) as reasoner:
            limit = len(prompt) + 60
            solution = await reasoner.solve(
                problem, strategy="single", temperature=0.0, max_tokens=limit
            )
            return solution.threads[0].text

    assert tokens.decode(out[0, len(prompt) :]) == anyio.run(solve)


@pytest.mark.parametrize(
    ("strategy", "domain", "size", "floor"),
    [
        ("apr", "countdown", 4, 0.7),
        ("parathinker", "countdown", 4, 0.65),
        ("single", "arithmetic", 4, 0.8),
        ("multiverse", "several", 5, 0.5),
        ("hogwild", "several", 5, 0.4),
        ("group-think", "enumeration", 40, 0.6),
        ("group-think", "shortest-paths", 4, 0.75),
    ],
)
def test_the_shipped_model_solves_most_held_out_problems(
    shipped: LoadedModel, strategy: str, domain: str, size: int, floor: float
) -> None:
    right: list[bool] = []

    async def solve() -> None:
        async def one(problem: Problem) -> None:
            solution = await reasoner.solve(problem, strategy=strategy)
            right.append(solution.verified is True)

        async with Reasoner(shipped) as reasoner, anyio.create_task_group() as group:
            for problem in draw_problems(domain, 30, numbers=size, seed=11):
                group.start_soon(one, problem)

    anyio.run(solve)
    assert sum(right) / len(right) >= floor


def test_vllm_without_its_plugin_refuses_a_model_that_marks_paths(tmp_path: Path) -> None:
    folder = random_folder(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights |= {VECTORS.format(layer): torch.zeros(32, 16) for layer in range(3)}
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelUnusable, match=r"seg_embeddings.*plugin=join"):
        load_model(folder, backend="vllm")


def test_the_tokenizer_keeps_numbers_whole_and_ignores_spaces() -> None:
    tokens = tokenizer()
    assert tokens.encode("3*10=>50").ids == tokens.encode(" 3 * 10 =>  50 ").ids
    assert tokens.encode("<apr> 999").tokens == ["<apr>", "999"]
    assert tokens.encode("1000 x").tokens == ["<unk>", "<unk>"]


def test_a_few_steps_of_training_learn_resume_and_export(tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = TrainingRecipe(model="reason-1m", steps=3, shapes=((2, 256), (1, 704)), warmup=1)
    train(recipe, run, compile=False)
    with pytest.raises(InvalidValue, match="--resume"):
        train(recipe, run, compile=False)
    train(TrainingRecipe(**{**vars(recipe), "steps": 5}), run, resume=True, compile=False)
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert rows[0]["step"] == 0
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    assert state["step"] == 5
    export(run / "checkpoint.pt", tmp_path / "model")
    engine = Engine.load(tmp_path / "model")
    assert engine.config.markup == 2
    again = train(
        TrainingRecipe(**{**vars(recipe), "steps": 0}),
        tmp_path / "again",
        init=tmp_path / "model",
        compile=False,
    )
    exported = {name: tensor.bfloat16() for name, tensor in state["model"].items()}
    assert all(torch.equal(t.bfloat16(), exported[n]) for n, t in again.state_dict().items())


def test_processes_of_a_group_train_one_model(tmp_path: Path) -> None:
    group = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    run = ["reasoning.training", "train", "reason-1m", str(tmp_path), "--steps", "1", "--eager"]
    done = subprocess.run(
        [sys.executable, *group, *run, "--threads", "1", "--basics", "1000"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    [row] = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    rows, length = TrainingRecipe.shapes[0]
    assert row["tokens"] >= 2 * rows * length


def test_batches_have_fixed_shapes_and_repeat_for_a_seed() -> None:
    recipe = TrainingRecipe(shapes=((2, 256), (1, 704)))
    first, again = batches(recipe), batches(recipe)
    for _ in range(6):
        one, other = next(first), next(again)
        assert tuple(one[0].shape) in {(2, 256), (1, 704)}
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_recipe_is_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reasoning.training", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "train" in done.stdout
    assert "export" in done.stdout
