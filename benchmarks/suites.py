"""Every suite of ``reason eval --suite``, quickly: ``python benchmarks/suites.py KEPT [--check]``.

In the folder KEPT all samples are kept, and asked for where they are missing.  Writes
``results/suite-NAME.json``.  With ``--check`` nothing is written: each arm must be as accurate as
the committed 95 % interval says, which holds the committed accuracy of the same questions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reasoning.evaluation.suites import SUITES

RESULTS = Path(__file__).parent / "results"


def evaluated(name: str, kept: Path) -> Any:
    """What ``reason eval --suite NAME --quick --json`` prints."""
    command = [sys.executable, "-m", "reasoning", "eval", "--suite", name, "--quick", "--json"]
    done = subprocess.run(
        [*command, "-o", str(kept / f"{name}.eval.jsonl")], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


def outside(suite: Any, committed: Any) -> Iterator[str]:
    """The arms whose accuracy is not in the committed interval."""
    for panel, before in zip(suite["panels"], committed["panels"], strict=True):
        if panel["evaluation"] is None:
            continue
        rows = {row["policy"]: row for row in before["evaluation"]["results"]}
        for row in panel["evaluation"]["results"]:
            low, high = rows[row["policy"]]["ci95"]
            if not low <= row["accuracy"] <= high:
                yield f"{panel['name']}: {row['policy']}: {row['accuracy']}, not {low} to {high}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kept", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", choices=SUITES, action="append")
    given = parser.parse_args()
    given.kept.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in given.only or SUITES:
        target, suite = RESULTS / f"suite-{name}.json", evaluated(name, given.kept)
        if given.check:
            failed += outside(suite, json.loads(target.read_text()))
        else:
            target.write_text(json.dumps(suite, indent=2) + "\n")
        for panel in suite["panels"]:
            for claim in panel["claims"]:
                print(f"{name}: {claim['words']}: {claim['found']}", flush=True)
    sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
