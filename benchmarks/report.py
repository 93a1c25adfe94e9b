"""Writes the tables of committed results into the documents and the model cards.

    python benchmarks/report.py            # rewrite the blocks between the markers
    python benchmarks/report.py --check    # fail if one is not up to date

A block stands between ``<!-- results: NAME -->`` and ``<!-- end -->``, a figure in running text
between ``<!-- =NAME -->`` and ``<!-- -->``.  Other figures must be declared in `prose`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial

import tables_places as places
import tables_policies as policies
import tables_simulation as simulated
from picture import PICTURE, drawn
from prose import filled, undeclared
from tables import (
    ROOT,
    accuracy,
    arms,
    engine,
    graph,
    headline,
    held_out,
    native,
    reinforced,
    scale,
    sharing,
    workers,
)

WEIGHTS = ROOT / "reasoning" / "weights"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
FILES = [ROOT / "README.md", *DOCS, *sorted(WEIGHTS.glob("*/README.md"))]
HISTORY = ("log.md", "cli.md")
"""Pages whose figures are not filled: each entry of the log is of its day; options are declared."""
PROSE = [ROOT / "README.md", *(page for page in DOCS if page.name not in HISTORY)]
BLOCK = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end -->)", re.S)


BLOCKS: dict[str, Callable[[], str]] = {
    "countdown": lambda: accuracy("countdown"),
    "five": lambda: accuracy("five"),
    "countdown-512": lambda: accuracy("countdown", 512),
    "five-512": lambda: accuracy("five", 512),
    "countdown-arms": arms,
    "arithmetic": lambda: accuracy("arithmetic"),
    "engine": engine,
    "workers": workers,
    "sharing": sharing,
    **{
        f"sharing-{strategy}": partial(sharing, strategy)
        for strategy in ("multiverse", "parathinker", "hogwild", "group-think")
    },
    "native": native,
    "held-out": held_out,
    "reinforced": reinforced,
    "graph": graph,
    "scale": scale,
    "judges": policies.judges,
    "gates": policies.gates,
    "finished": policies.finished,
    "small": lambda: accuracy("small"),
    "serving": places.serving,
    "clients": places.clients,
    "proxy": places.proxy,
    "protocol": places.protocol,
    "backends": places.backends,
    "client-cpu": places.client_cpu,
    "replicas": places.replicas,
    "devices": places.devices,
    "hosts": places.hosts,
    "ray-nodes": places.ray_nodes,
    "leaks": places.leaks,
    "servers": places.servers,
    "speculative": places.speculative,
    "faults": places.faults,
    "soak": places.soak,
    "fuzz": places.fuzzed,
    "a2a-kit": places.kit,
    "ufo": places.ufo,
    "vllm-plugin": places.plugin,
    "vllm-runners": places.runners,
    "refusals": places.refusals,
    "protocol-overhead": places.overhead,
    "replay": policies.replayed,
    "rates": policies.rates,
    "suites": policies.suites,
    "intervals": policies.intervals,
    "attainable": policies.attainable,
    "default-policy": policies.chosen,
    "default-policy-held": policies.held,
    "default-policy-ahead": policies.ahead,
    "allocation": policies.allocated,
    "live-arithmetic": lambda: policies.live("arithmetic"),
    "live-countdown": lambda: policies.live("countdown"),
    "simulated-calibration": simulated.calibration,
    **{
        f"simulated-{group}": partial(simulated.scenarios, group)
        for group in (
            *("stragglers", "deaths", "walls", "largest", "placements", "loads", "policies"),
        )
    },
    "headline": headline,
}


def render(text: str) -> str:
    """The text with every block and figure filled from its results file."""
    return filled(BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]]()}{match[3]}", text))


def main() -> None:
    stale = []
    for path in FILES:
        text = path.read_text()
        if render(text) != text:
            stale.append(str(path.relative_to(ROOT)))
            if "--check" not in sys.argv:
                path.write_text(render(text))
    if "--check" not in sys.argv:
        PICTURE.write_text(drawn())
    elif not PICTURE.exists() or PICTURE.read_text() != drawn():
        stale.append(str(PICTURE.relative_to(ROOT)))
    unknown = [f"{path.relative_to(ROOT)}: {one}" for path in PROSE for one in undeclared(path)]
    if unknown:
        sys.exit(f"fill or declare (benchmarks/prose.py) what looks measured: {'; '.join(unknown)}")
    if "--check" in sys.argv and stale:
        sys.exit(f"run python benchmarks/report.py: {', '.join(stale)} differ from the results")


if __name__ == "__main__":
    main()
