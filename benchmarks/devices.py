"""What a hub and eight workers cost and gain beside one process, and what they leak.

    python benchmarks/devices.py --json benchmarks/results/devices.json

The hub, its workers and this client are processes of one machine, so nothing can be gained here:
the question is what is lost.  In turns: 64 samples of one problem (``sc:n=64``) in this process,
and by a hub with eight workers, of which each could take all of them; and 16 threads of ``apr``.
The ratio is of the medians of wall time over rounds.  Then tokens that were generated after a run
was stopped, as in ``backends.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
from backends import leak, runnable, settled

from protocol import Client
from reasoning import Reasoner
from reasoning.models.devices import DevicesSource
from reasoning.models.loaded import LoadedModel
from reasoning.models.loading import load_model
from tests.support.shell import Shell, line, running_shell

WORKERS = 8
PROBLEM = "Use 3, 10, 21 and 23 to make 50"
ASKED: dict[str, dict[str, Any]] = {
    "self-consistency, 64 samples": {"policy": "sc:n=64", "temperature": 1.0, "max_tokens": 512},
    "apr, 16 threads": {"strategy": "apr", "n": 16},
}


def devices(shell: Shell) -> LoadedModel:
    """The shipped model on the workers of a hub, all started here."""
    token, mine = shell.token("laptop"), shell.token("me", "--scope", "submit")
    hub, url = shell.hub()
    for number in range(WORKERS):
        asked = ("--hub", url, "--token-file", token, "--name", str(number), "--quiet")
        shell.start("worker", *asked)
    for _ in range(WORKERS):
        line(hub)
    client = Client(url, Path(mine).read_text())
    return DevicesSource(submitter=client).load(None)


async def compared(
    here: Reasoner, there: Reasoner, asked: dict[str, Any], rounds: int
) -> dict[str, Any]:
    """Wall times of one way of asking, in turns."""
    seconds: dict[str, list[float]] = {"here": [], "devices": []}
    tokens: Counter[str] = Counter()
    for seed in range(rounds + 1):
        answers = []
        for place, reasoner in (("here", here), ("devices", there)):
            began = time.monotonic()
            solution = await reasoner.solve(PROBLEM, seed=seed, **asked)
            if seed:  # the first warms up
                seconds[place].append(time.monotonic() - began)
                tokens[place] += solution.usage.completion_tokens
            answers.append((solution.answer, solution.votes))
        assert answers[0] == answers[1], answers
    medians = {place: statistics.median(found) for place, found in seconds.items()}
    found = {
        "rounds": rounds,
        "tokens": tokens["here"],
        "seconds": {place: round(found, 3) for place, found in medians.items()},
        "each": {place: [round(one, 3) for one in found] for place, found in seconds.items()},
        "ratio": round(medians["devices"] / medians["here"], 3),
    }
    print(found, file=sys.stderr, flush=True)
    return found


async def measured(remote: LoadedModel, rounds: int) -> dict[str, Any]:
    async with Reasoner(load_model()) as here, Reasoner(remote) as there:
        speed = {name: await compared(here, there, asked, rounds) for name, asked in ASKED.items()}
        leaks = [await leak(there, name, None) for name in runnable(remote)]
        leaks.append(await settled(there, None))
    return {"workers": WORKERS, "cores": os.cpu_count(), "speed": speed, "leaked": leaks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with TemporaryDirectory() as folder, running_shell(Path(folder)) as shell:
        found = anyio.run(measured, devices(shell), given.rounds)
    text = json.dumps(found, indent=1) + "\n"
    print(text, end="")
    if given.json:
        given.json.write_text(text)


if __name__ == "__main__":
    main()
