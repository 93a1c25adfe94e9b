"""The fuzzer of the wire for as long as you like: does anything break, grow, or wait?

    python benchmarks/fuzz.py --seconds 600 --json benchmarks/results/fuzz.json

Peers in both roles say what is nearly right (`tests/protocol/test_fuzz.py`, which runs some seconds
in CI), drawn from a seed, while honest calls are timed.  Hub, worker and peers share this process,
whose resident memory is read each second.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import anyio

from protocol import Hub, HubSettings
from protocol.hub.directory import Directory
from tests.protocol.test_fuzz import Fuzzer, honest
from tests.support.protocol_tools import working

FIRST_S = 60.0
"""Seconds after which memory must stay level."""


class ErrorCount(logging.Handler):
    """Counts what is logged with an exception: a hub's error."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.texts.append(self.format(record))


def resident() -> float:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def fuzz(seconds: float, seed: int, each: int) -> dict[str, Any]:
    errors = ErrorCount()
    logging.getLogger().addHandler(errors)
    waits: list[float] = []
    sizes: list[float] = []
    async with Hub(HubSettings(lease_s=1)) as hub, working(hub, "honest"):
        Directory(hub).open()
        peers = [Fuzzer(hub, role, seed + n) for role in ("client", "worker") for n in range(each)]
        async with anyio.create_task_group() as group:
            group.start_soon(honest, hub, waits, time.monotonic)
            for peer in peers:
                group.start_soon(peer.run)
            for _ in range(round(seconds)):
                await anyio.sleep(1)
                sizes.append(resident())
            group.cancel_scope.cancel()
        alive = "honest" in hub.workers
    first = sizes[min(len(sizes) - 1, round(FIRST_S))]
    waits.sort()
    return {
        "schema": "benchmark.fuzz/1",
        "seconds": seconds,
        "seed": seed,
        "peers": len(peers),
        "connections": sum(peer.connections for peer in peers),
        "said": sum(peer.said for peer in peers),
        "alive": alive,
        "logged": len(errors.texts),
        "errors": sorted(set(errors.texts))[:5],
        "calls": len(waits),
        "wait_p50_ms": round(1000 * waits[len(waits) // 2], 2),
        "wait_most_ms": round(1000 * waits[-1], 1),
        "mib_at_first": round(first, 1),
        "mib_at_end": round(sizes[-1], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=3, help="peers of each role")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    found = anyio.run(fuzz, options.seconds, options.seed, options.each)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
