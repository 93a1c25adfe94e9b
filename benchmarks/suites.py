"""Every suite of ``reason eval --suite``, quickly: ``python benchmarks/suites.py KEPT [--check]``.

In the folder KEPT all samples are kept, and asked for where they are missing.  Writes
``results/suite-NAME.json``.  With ``--check`` nothing is written: each arm must be as accurate as
the 95 % interval of its committed accuracy on the same questions says; ``--limit 8`` asks fewer of
them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from reasoning.evaluation.suites import SUITES, SuiteResults

RESULTS = Path(__file__).parent / "results"


def evaluated(name: str, kept: Path, limit: int | None) -> SuiteResults:
    """What ``reason eval --suite NAME --quick --json`` prints."""
    command = [sys.executable, "-m", "reasoning", "eval", "--suite", name, "--quick", "--json"]
    command += ["-o", str(kept / f"{name}.eval.jsonl")]
    command += [] if limit is None else ["--limit", str(limit)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return SuiteResults.model_validate_json(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kept", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--limit", type=int, help="questions of each panel, for --check")
    parser.add_argument("--only", choices=SUITES, action="append")
    given = parser.parse_args()
    given.kept.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in given.only or SUITES:
        target = RESULTS / f"suite-{name}.json"
        suite = evaluated(name, given.kept, given.limit if given.check else None)
        if given.check:
            failed += suite.outside(SuiteResults.model_validate_json(target.read_text()))
        else:
            target.write_text(suite.model_dump_json(indent=2, by_alias=True) + "\n")
        for panel in suite.panels:
            for claim in panel.claims:
                print(f"{name}: {claim}", flush=True)
    sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
