"""What a second host gains: the same samples on one host's core, and on those of two.

    python benchmarks/hosts.py --json benchmarks/results/hosts.json

Needs root, ``ip`` and ``taskset``.  A host is a network namespace of this machine with one core of
its own, by which the hub tells it from the other, and a worker in it; a bridge joins it with the
hub and with this client, who have no core of their own.  In turns: 64 samples of one problem
(``sc:n=64``), and 16 samples of each of eight problems side by side, by a hub with a worker on the
first host, and by one with a worker on each.  The votes are the same.  Times are of the wall, the
ratio that of their medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import anyio

from protocol import Client, ClientSettings
from reasoning import Reasoner
from reasoning.evaluation import draw_problems
from reasoning.models.devices import DevicesSource
from reasoning.models.loaded import LoadedModel
from reasoning.problems import Problem
from tests.support.shell import Shell, line, running_shell

BRIDGE, NETWORK, HOSTS = "reason-bridge", "10.199.0", 2


class SampledBatch(NamedTuple):
    """Problems that are solved side by side, with so many samples each."""

    problems: int
    samples: int


BATCHES = {
    "64 samples of one problem": SampledBatch(1, 64),
    "16 samples of each of eight problems": SampledBatch(8, 16),
}


def network(*command: str) -> None:
    subprocess.run(["ip", *command], check=True)


@contextmanager
def hosts() -> Iterator[list[str]]:
    """The names of namespaces, joined by a bridge that has an address here."""
    names = [f"reason-host-{number}" for number in range(HOSTS)]
    network("link", "add", BRIDGE, "type", "bridge")
    try:
        network("address", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        network("link", "set", BRIDGE, "up")
        for number, name in enumerate(names):
            network("netns", "add", name)
            network(
                "link", "add", f"reason-{number}", "type", "veth", "peer", "eth0", "netns", name
            )
            network("link", "set", f"reason-{number}", "master", BRIDGE, "up")
            network("-n", name, "address", "add", f"{NETWORK}.{number + 2}/24", "dev", "eth0")
            network("-n", name, "link", "set", "eth0", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)
        network("link", "delete", BRIDGE)


def on(shell: Shell, names: list[str]) -> LoadedModel:
    """The shipped model on a hub's workers, one on each host."""
    hub, url = shell.hub("--host", f"{NETWORK}.1", "--insecure")
    for number, name in enumerate(names):
        token = shell.token(f"{name}-of-{len(names)}")
        asked = ("--hub", url, "--token-file", token, "--insecure", "--quiet")
        core = ("taskset", "--cpu-list", str(number))
        shell.start("worker", *asked, under=("ip", "netns", "exec", name, *core))
    for _ in names:
        line(hub)
    mine = Path(shell.token(f"me-of-{len(names)}", "--scope", "submit")).read_text()
    client = Client(url, mine, ClientSettings(insecure=True))
    return DevicesSource(submitter=client).load(None)


async def solved(reasoner: Reasoner, batch: SampledBatch, seed: int) -> tuple[float, list[Any]]:
    """How long a batch took, and what was voted."""
    votes: list[Any] = [None] * batch.problems

    async def one(place: int, problem: Problem) -> None:
        policy = f"sc:n={batch.samples}"
        found = await reasoner.solve(
            problem, policy=policy, temperature=1.0, max_tokens=512, seed=seed
        )
        votes[place] = found.votes

    began = time.monotonic()
    async with anyio.create_task_group() as group:
        for place, problem in enumerate(
            draw_problems("countdown", batch.problems, numbers=4, seed=3)
        ):
            group.start_soon(one, place, problem)
    return time.monotonic() - began, votes


async def measured(models: list[LoadedModel], rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {"hosts": HOSTS, "rounds": rounds, "batches": {}}
    async with Reasoner(models[0]) as one, Reasoner(models[1]) as several:
        for name, batch in BATCHES.items():
            seconds: list[list[float]] = [[], []]
            for seed in range(rounds + 1):
                runs = [await solved(reasoner, batch, seed) for reasoner in (one, several)]
                assert runs[0][1] == runs[1][1], runs
                if seed:  # the first warms up
                    for times, (taken, _) in zip(seconds, runs, strict=True):
                        times.append(round(taken, 3))
            medians = [statistics.median(times) for times in seconds]
            row = {"seconds": medians, "each": seconds, "gain": round(medians[0] / medians[1], 3)}
            found["batches"][name] = row
            print(name, row, file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with TemporaryDirectory() as folder, hosts() as names, running_shell(Path(folder)) as shell:
        models = [on(shell, names[:1]), on(shell, names)]
        found = anyio.run(measured, models, given.rounds)
    text = json.dumps(found, indent=1) + "\n"
    print(text, end="")
    if given.json:
        given.json.write_text(text)


if __name__ == "__main__":
    main()
