"""``python -m reasoning.training``, and what stays out of the import path of ``solve``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from orchestrator.errors import InvalidValue
from reasoning.engine.engine import Engine
from reasoning.engine.identities import PATHS_FILE
from reasoning.language import markup
from reasoning.models.catalog import find
from reasoning.training import TrainingRecipe, __main__
from reasoning.training.export import export, total
from reasoning.training.loop import TrainingRun, train
from reasoning.training.model import TrainableModel

APART = ("reasoning.training", "reasoning.judging", "sklearn", "sentence_transformers")


TINY = ("--shapes", "2x128,1x704", "--eager", "--float32", "--threads", "1")


def run_command(*words: object) -> None:
    """``python -m reasoning.training`` in this process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["training", *map(str, words)])
        __main__.main()


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line by which a command is refused."""
    with pytest.raises(SystemExit) as exit:
        run_command(*words)
    said = capsys.readouterr().err
    assert exit.value.code == 2
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--cooldown", "0"),
        ("--cooldown", "1.5"),
        ("--threads", "0"),
        ("--threads", "100000"),
        ("--matrix-rate", "-1"),
        ("--matrix-rate", "inf"),
        ("--other-rate", "nan"),
        ("--steps", "-1"),
        ("--steps", "many"),
        ("--basics", "-1"),
        ("--warmup", "0"),
        ("--minutes", "0"),
        ("--minutes", "inf"),
        ("--shapes", "8"),
        ("--shapes", "0x256"),
        ("--shapes", "4x512,8x256"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_and_nothing_is_written(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    said = refusal(capsys, "train", "reason-1m", run, option, value)
    assert option[2:] in said.replace("_", "-")
    assert not run.exists()


@pytest.mark.parametrize("model", ["reason-9m", "nowhere:task", "json:dumps"])
def test_a_model_that_is_none_is_refused(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "model: " in refusal(capsys, "train", model, tmp_path / "run", *TINY)


@pytest.mark.parametrize("command", ["train", "export"])
def test_a_folder_that_can_not_be_made_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    if command == "train":
        said = refusal(capsys, "train", "reason-1m", file / "run", "--steps", "1", *TINY)
    else:
        run_command("train", "reason-1m", tmp_path / "run", "--steps", "0", *TINY)
        said = refusal(capsys, "export", tmp_path / "run", file / "model")
    assert str(file) in said


def test_a_checkpoint_that_can_not_be_written_is_told_and_the_one_before_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run_command("train", "reason-1m", run, "--steps", "0", *TINY)
    before = (run / "checkpoint.pt").read_bytes()
    (run / "checkpoint.partial").mkdir()
    said = refusal(capsys, "train", "reason-1m", run, "--resume", "--steps", "1", *TINY[2:])
    assert f"folder: {run / 'checkpoint.pt'} can't be written" in said
    assert (run / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("command", ["train", "reinforce"])
def test_a_log_that_can_not_be_written_is_told_in_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if command == "train":
        (tmp_path / "run" / "log.jsonl").mkdir(parents=True)
        assert "log.jsonl: " in refusal(capsys, "train", "reason-1m", tmp_path / "run", *TINY)
    else:
        (tmp_path / "run").touch()
        said = refusal(capsys, "reinforce", "reason-1m", tmp_path / "run", "--rounds", "0")
        assert "run can't be made" in said


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut"])
def test_a_run_that_is_none_can_not_go_on(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "checkpoint.pt").write_bytes(content)
    assert "folder: " in refusal(capsys, "train", "reason-1m", tmp_path, "--resume", *TINY)


# ---- going on ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [("--seed", "4"), ("--cooldown", "0.9"), ("--basics", "7"), ("--init", "reason-1m")],
)
def test_a_run_goes_on_by_its_own_recipe_only(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command("train", "reason-1m", tmp_path, "--steps", "0", "--seed", "3", *TINY)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    said = refusal(capsys, "train", "reason-1m", tmp_path, "--resume", option, value)
    assert f"{option[2:]}: " in said
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_recipe_is_checked_when_a_run_goes_on_from_python(tmp_path: Path) -> None:
    recipe = TrainingRecipe(model="reason-1m", steps=0, seed=3)
    train(recipe, tmp_path, compile=False)
    with pytest.raises(InvalidValue, match="seed: the run has 3, not 4"):
        train(replace(recipe, seed=4), tmp_path, resume=True, compile=False)


def test_another_model_is_refused_when_a_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command("train", "reason-1m", tmp_path, "--steps", "0", *TINY)
    assert "model: the run has reason-1m" in refusal(
        capsys, "train", "reason-5m", tmp_path, "--resume"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_goes_on_as_if_it_had_not_been(
    number: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = ("--steps", "4", "--seed", "3", "--basics", "700", "--warmup", "1", *TINY)
    run_command("train", "reason-1m", tmp_path / "whole", *recipe)

    advance = TrainingRun.advance

    def interrupted(self: TrainingRun, *step: Any) -> dict[str, float]:
        if self.step == 1:
            signal.raise_signal(number)
        return advance(self, *step)

    parts = tmp_path / "parts"
    with monkeypatch.context() as patched:
        patched.setattr(TrainingRun, "advance", interrupted)
        with pytest.raises(SystemExit) as exit:
            run_command("train", "reason-1m", parts, *recipe)
    assert exit.value.code == 130
    assert "--resume" in capsys.readouterr().err
    assert torch.load(parts / "checkpoint.pt", weights_only=True)["step"] == 2
    run_command("train", "reason-1m", parts, "--resume", "--eager", "--threads", "1")

    whole, went_on = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)
        for name in ("whole", "parts")
    )
    assert whole["recipe"] == went_on["recipe"]
    assert whole["tokens"] == went_on["tokens"]
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, went_on["model"][name]), name


def test_a_run_whose_time_is_over_leaves_a_checkpoint(tmp_path: Path) -> None:
    run_command("train", "reason-1m", tmp_path, "--minutes", "0.0001", *TINY)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 1
    assert state["tokens"] > 0


def test_a_run_goes_on_with_the_basics_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_command("train", "reason-1m", tmp_path, "--steps", "1", "--basics", "1000000", *TINY)
    rows: list[Tensor] = []
    forward = TrainableModel.forward

    def seen(self: TrainableModel, tokens: Tensor, *rest: Any) -> Any:
        rows.append(tokens)
        return forward(self, tokens, *rest)

    monkeypatch.setattr(TrainableModel, "forward", seen)
    run_command("train", "reason-1m", tmp_path, "--resume", "--steps", "3", "--eager")
    assert len(rows) == 2
    words = {markup.VOCABULARY[token] for batch in rows for token in batch.flatten().tolist()}
    assert words & set(markup.SHARED) == set()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (state["recipe"]["basics"], state["recipe"]["steps"]) == (1_000_000, 3)


# ---- other models, other data --------------------------------------------------------------

OWN = """
from tokenizers import Tokenizer, models
from reasoning.training.encoding import TrainingSequence
from reasoning.training.recipe import ModelShape, TrainingTask

def stream(rng, rows, basics):
    while True:
        text = [1, *(rng.randrange(2, 40) for _ in range(9)), 0]
        yield TrainingSequence(text, list(range(11)), [0] * 11, [1.0] * 11)

def write_tokenizer(folder):
    tokenizer = Tokenizer(models.WordLevel({str(n): n for n in range(40)}, unk_token="0"))
    tokenizer.save(str(folder / "tokenizer.json"))

task = TrainingTask(
    shape=ModelShape(hidden=64, layers=1, heads=2, intermediate=64, vocabulary=40, context=64),
    stream=stream, pad=0, special={"eos_token_id": 0}, write_tokenizer=write_tokenizer,
    card=lambda recipe, parameters: f"{parameters} parameters",
)
"""


def test_a_model_of_ones_own_is_trained_on_data_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_training_task.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    run = tmp_path / "run"
    run_command(
        "train", "own_training_task:task", run, "--steps", "2", "--shapes", "2x32", *TINY[2:]
    )
    run_command("export", run, tmp_path / "model")
    config = Engine.load(tmp_path / "model").config
    assert (config.vocabulary, config.layers, config.markup) == (40, 1, None)
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert "tokenizer.json" in names
    assert PATHS_FILE not in names


def test_an_export_of_no_run_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"nowhere/checkpoint\.pt does not exist"):
        export(tmp_path / "nowhere" / "checkpoint.pt", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_start_from_no_model_of_this_shape_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, find("reason-5m")):
        with pytest.raises(InvalidValue, match=f"init: {folder} is no exported reason-1m"):
            TrainingRun(TrainingRecipe(model="reason-1m")).start_from(folder)


def test_a_mean_has_the_mean_weights_and_counts_shared_runs_once(tmp_path: Path) -> None:
    def trained(name: str, *more: object) -> Path:
        run_command("train", "reason-1m", tmp_path / name, "--steps", "1", *TINY, *more)
        run_command("export", tmp_path / name, model := tmp_path / name / "model")
        return model

    first = trained("first")
    two = [trained(name, "--init", first, "--seed", name) for name in ("1", "2")]
    run_command("mean", "reason-1m", *two, mean := tmp_path / "mean")

    one, other, found = (load_file(folder / "model.safetensors") for folder in (*two, mean))
    assert found.keys() == one.keys()
    assert any(not torch.equal(one[name], found[name]) for name in found)
    for name, tensor in found.items():
        exact = (one[name].float() + other[name].float()) / 2
        assert torch.equal(tensor, exact.to(torch.bfloat16))
    assert Engine.load(mean).config.layers == 4
    recipe = json.loads((mean / "recipe.json").read_text())
    assert total(recipe, "steps_run") == 3
    later = {**recipe["mean_of"][1], "steps_run": 2, "steps": 2}
    assert total({**recipe, "mean_of": [*recipe["mean_of"], later]}, "steps_run") == 4
    TrainingRun(TrainingRecipe(model="reason-1m")).start_from(mean)


def test_a_mean_of_one_or_of_another_shape_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, large = find("reason-1m"), find("reason-5m")
    assert "init: " in refusal(capsys, "mean", "reason-1m", small, tmp_path / "mean")
    said = refusal(capsys, "mean", "reason-1m", small, large, tmp_path / "mean")
    assert f"init: {large} is no exported reason-1m" in said
    assert not (tmp_path / "mean").exists()


def test_solving_imports_no_training_and_no_judges() -> None:
    code = (
        "import sys, reasoning, reasoning.cli, reasoning.cli.commands.solve, reasoning.solver; "
        f"print(*[n for n in {APART} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
