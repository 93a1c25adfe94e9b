"""Whether the vLLM plugin is exact on both model runners and both releases, in process and served.

    python benchmarks/vllm_runners.py --json benchmarks/results/vllm-runners.json

Each cell runs in a process of its own: a gang of two (Hogwild!), two paths and their summary, a
join of two branches and a plain request in one batch of 96 steps, of a tiny random model in
float32, against an independent forward pass of it, laid out flat (tests/vllm/comparison.py).
The second runner runs on Triton's interpreter.  Release 0.33 is its Python over 0.32's compiled
parts; its folder, as scripts/overlay-vllm makes it, is given with ``--overlay``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODEL = "qwen3-gqa"
RELEASES = {"0.32.0": False, "0.33.0": True}
"""The releases, and whether each is laid over the other one's compiled parts."""


def cell(runner: Any, served: bool) -> dict[str, Any]:
    """One cell, in this process."""
    warnings.simplefilter("ignore")
    from reasoning.vllm_plugin.client import SegmentClient
    from tests.vllm import comparison, conftest

    folder = conftest.build_model(MODEL, Path(tempfile.mkdtemp()))
    reference = conftest.Reference(folder)
    marked = reference.identify(folder, 7)
    import vllm

    started = time.perf_counter()
    if served:
        log = Path(tempfile.mkdtemp()) / "log"
        comparison.give_tokenizer(marked)
        with comparison.serving(marked, log, runner) as url:
            driver: Any = comparison.ServedDriver(url)
            found = comparison.compare(conftest.Author(driver, SegmentClient("live")), reference)
    else:
        wanted = comparison.engine_arguments("live") | comparison.TINY
        driver = conftest.Driver(marked, wanted)
        found = comparison.compare(conftest.Author(driver, SegmentClient("live")), reference)
    seconds = round(time.perf_counter() - started, 1)
    kinds = {kind: one._asdict() for kind, one in found.items()}
    return {"release": vllm.__version__, "runner": runner, "served": served, "kinds": kinds} | {
        "seconds": seconds
    }


def measure(runner: int, served: bool, overlay: str | None) -> dict[str, Any]:
    """One cell, in a process of its own."""
    sys.path.insert(0, str(ROOT))
    from tests.vllm.comparison import environment

    found = os.environ | environment(runner)  # type: ignore[arg-type]
    # A server's processes are given it by whoever starts the server.
    found["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1" if served else "0"
    parts = [overlay, found.get("PYTHONPATH"), str(ROOT)]
    found["PYTHONPATH"] = os.pathsep.join(part for part in parts if part)
    command = [sys.executable, __file__, "--cell", json.dumps([runner, served])]
    done = subprocess.run(command, env=found, capture_output=True, text=True)
    if done.returncode:
        release = "0.33.0" if overlay else "0.32.0"
        row = {"release": release, "runner": runner, "served": served}
        return row | {"failed": done.stderr[-400:]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def kept(path: Path | None) -> list[dict[str, Any]]:
    """The cells that an earlier run has measured; what failed is tried again."""
    if path is None or not path.exists():
        return []
    found = json.loads(path.read_text())["results"]
    return [row for row in found if "failed" not in row]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--overlay", help="a folder with vLLM 0.33's Python")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.cell:
        print(json.dumps(cell(*json.loads(given.cell))), flush=True)
        os._exit(0)
    rows = kept(given.json)
    done = [(row["release"], row["runner"], row["served"]) for row in rows]
    for served, runner in itertools.product((False, True), (1, 2)):
        for release, overlay in RELEASES.items():
            folder = given.overlay if overlay else None
            if (release, runner, served) in done or (overlay and not folder):
                continue
            rows.append(measure(runner, served, folder))
            print(rows[-1], flush=True)
            if given.json:
                about = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "steps": 96}
                about |= {"date": time.strftime("%Y-%m-%d")}
                given.json.write_text(json.dumps(about | {"results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
