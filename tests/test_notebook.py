"""The example notebook runs in a kernel, as in Jupyter, and shows what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"


def shown(path: Path) -> list[dict[str, Any]]:
    """What the cells of a notebook show, as data by kind."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return [output.get("data", {"stream": output.get("text", "")}) for output in outputs]


def test_the_notebook_runs_and_is_kept_as_it_comes_out(tmp_path: Path) -> None:
    target = tmp_path / "out.ipynb"
    command = [sys.executable, "-c", "from nbclient.cli import main; main()", f"--output={target}"]
    done = subprocess.run(
        [*command, str(NOTEBOOK)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYDEVD_DISABLE_FILE_VALIDATION": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    outputs = shown(target)
    assert [set(output) for output in outputs] == [set(output) for output in shown(NOTEBOOK)]
    solved, *_, picture, _, graph = outputs
    assert "10*5=50" in "".join(solved["text/html"])
    assert len(picture["image/png"]) > 1000
    assert "<svg" in "".join(graph["text/html"])
