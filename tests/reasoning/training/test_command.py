"""``python -m reasoning.training``, and what stays out of the import path of ``solve``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import InvalidValue
from reasoning.training import TrainingRecipe, __main__
from reasoning.training.export import export
from reasoning.training.loop import TrainingRun

APART = ("reasoning.training", "reasoning.judging", "sklearn", "sentence_transformers")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--cooldown", "0"),
        ("--cooldown", "1.5"),
        ("--threads", "0"),
        ("--matrix-rate", "-1"),
        ("--other-rate", "nan"),
        ("--steps", "-1"),
        ("--basics", "-1"),
        ("--minutes", "0"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_and_nothing_is_written(
    option: str,
    value: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", ["training", "train", "reason-1m", str(run), option, value])
    with pytest.raises(SystemExit) as exit:
        __main__.main()
    said = capsys.readouterr().err
    assert exit.value.code == 2
    assert said.count("\n") == 1
    assert option[2:].replace("-", "_") + ": " in said
    assert not run.exists()


def test_an_export_of_no_run_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"nowhere/checkpoint\.pt does not exist"):
        export(tmp_path / "nowhere" / "checkpoint.pt", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_start_from_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=f"init: {tmp_path} is no exported reason-1m"):
        TrainingRun(TrainingRecipe(model="reason-1m")).start_from(tmp_path)


def test_solving_imports_no_training_and_no_judges() -> None:
    code = (
        "import sys, reasoning, reasoning.cli, reasoning.cli.commands.solve, reasoning.solver; "
        f"print(*[n for n in {APART} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
