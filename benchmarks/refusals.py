"""How long a wrong setting of vLLM waits for its message, with our plugin.

    python benchmarks/refusals.py --json benchmarks/results/refusals.json

Each command is run in turns by the python that runs this, which has vLLM.  It must end by itself
with one line of error and no traceback.  Processor time is that of all of its processes; on a busy
machine it says more than the time on the wall.  ``floor`` is what vLLM's own command has taken
before it reads the first plugin: its imports and its parser.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from reasoning.models.catalog import shipped
from reasoning.vllm_plugin import SCHEDULER, WORKER

TURNS = 5
CONNECTOR = {
    "kv_connector": "SegmentConnector",
    "kv_role": "kv_both",
    "kv_connector_module_path": "reasoning.vllm_plugin.connector",
}
FLOOR = "import vllm.entrypoints.cli.serve as s; s.cmd_init()"


def solve(*settings: str) -> list[str]:
    given = [part for one in ("plugin=live", *settings) for part in ("--engine", one)]
    command = [sys.executable, "-m", "reasoning", "solve", "Compute 1+1", "--backend", "vllm"]
    return [*command, "--model", "reason-1m", *given]


def serve(*arguments: str) -> list[str]:
    command = [str(Path(sys.executable).with_name("vllm")), "serve", str(shipped()["reason-1m"])]
    command += ["--block-size", "32", "--enforce-eager", "--worker-cls", WORKER]
    command += ["--scheduler-cls", SCHEDULER, "--kv-transfer-config", json.dumps(CONNECTOR)]
    return [*command, *arguments]


COMMANDS = {
    "reason solve, dtype=bfloat16": solve("dtype=bfloat16"),
    "reason solve, pipeline_parallel=2": solve("pipeline_parallel=2"),
    "reason solve, speculative.method=ngram": solve("speculative.method=ngram"),
    "vllm serve --dtype bfloat16": serve("--dtype", "bfloat16", "--no-async-scheduling"),
    "vllm serve --scheduling-policy priority": serve(
        *("--dtype", "float32", "--no-async-scheduling", "--scheduling-policy", "priority")
    ),
    "vllm serve, its own imports alone": [sys.executable, "-c", FLOOR],
}


def timed(command: list[str]) -> tuple[float, float, str]:
    """Seconds on the wall and of processors, and the last line that a command says."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if command[-1] != FLOOR and (done.returncode == 0 or "Traceback" in done.stderr):
        raise SystemExit(f"{' '.join(command)} was not refused as it should be: {done.stderr}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used, (done.stderr.strip().splitlines() or [""])[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--turns", type=int, default=TURNS)
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float, str]]] = {name: [] for name in COMMANDS}
    for _ in range(options.turns):
        for name, command in COMMANDS.items():
            found[name].append(timed(command))
    rows: list[dict[str, Any]] = []
    for name, turns in found.items():
        walls, used, said = zip(*turns, strict=True)
        rows.append(
            {
                "command": name,
                "said": said[-1] if "imports" not in name else "",
                "wall_s": round(statistics.median(walls), 2),
                "least_wall_s": round(min(walls), 2),
                "processor_s": round(statistics.median(used), 2),
            }
        )
        print(rows[-1])
    report = {"cpu": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    if options.json:
        options.json.write_text(json.dumps({**report, "commands": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
