"""How long `reason solve` takes to the first token of a chat model, loading included.

    python benchmarks/ready.py MODEL benchmarks/results/ready.json [--name NAME] [--runs 7]

Each run is a process of its own that writes one token.  It begins once the machine was idle to a
share ``--idle`` for two seconds.  Beside time by the clock stands processor time, which other
processes change less, and how many processors were busy with others meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ASKED = ("solve", "Hello", "--strategy", "single", "--temperature", "0", "--max-new-tokens", "1")


def busy() -> float:
    """Seconds that all processors together have worked since the machine was started."""
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def wait_until_idle(share: float) -> None:
    processors = os.cpu_count() or 1
    while True:
        before = busy()
        time.sleep(2)
        if (busy() - before) / (2 * processors) <= 1 - share:
            return


def once(model: str) -> dict[str, float]:
    """Seconds of one run: by the clock, of processors, and processors that worked for others."""
    command = [sys.executable, "-m", "reasoning", *ASKED, "--model", model, "--quiet"]
    worked, before = busy(), resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    wall = time.perf_counter() - started
    if done.returncode not in (0, 1):  # one token is hardly an answer
        sys.exit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    others = max(busy() - worked - used, 0.0) / wall
    return {"wall_s": round(wall, 2), "cpu_s": round(used, 2), "others": round(others, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model")
    parser.add_argument("results", type=Path)
    parser.add_argument("--name", help="the model's; by default its folder's")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--idle", type=float, default=0.9, help="the share, from 0 to 1")
    options = parser.parse_args()
    once(options.model)  # files are read into memory, and compiled
    runs = []
    for _ in range(options.runs):
        wait_until_idle(options.idle)
        runs.append(once(options.model))
        print(*(f"{key}={value}" for key, value in runs[-1].items()), flush=True)
    results = {
        "schema": "reason.benchmark.ready/1",
        "model": options.name or Path(options.model).name,
        "cpus": os.cpu_count(),
        "wall_s": statistics.median(run["wall_s"] for run in runs),
        "least_wall_s": min(run["wall_s"] for run in runs),
        "cpu_s": statistics.median(run["cpu_s"] for run in runs),
        "runs": runs,
    }
    options.results.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
