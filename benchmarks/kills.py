"""What survives `kill -9`: journaled runs with long leaves, killed at random moments.

    python benchmarks/kills.py --json benchmarks/results/kills.json

A run has 37 tasks in three levels, 24 of them leaves that take 0.1 s on average, 8 at a time.  It
is killed at a random moment and goes on, until it ends; then the next begins; 200 kills in all.
After each kill: nothing that was committed is lost, nothing of it runs again, and the result in the
end is that of an undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = Path(__file__).parents[1] / "tests" / "support" / "killed_program.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--leaf", type=float, default=0.1, help="seconds of a leaf, on average")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, PROGRAM, folder, str(options.kills), str(options.leaf)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = {"schema": "benchmark.kills/1", "python": platform.python_version()}
    found |= {"leaf_s": options.leaf, **json.loads(done.stdout)}
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
