"""Tables of the models, the engine and the graph, from committed results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def load(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(header: list[str], rows: list[list[str]]) -> str:
    line = "| " + " | ".join(header) + " |"
    rule = "|" + "|".join(["---"] + ["---:"] * (len(header) - 1)) + "|"
    return "\n".join([line, rule, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def percent(row: dict[str, Any]) -> str:
    low, high = row["ci95"]
    return f"{row['accuracy']:.1%} ({100 * low:.1f}–{100 * high:.1f})"


def accuracy(name: str) -> str:
    results = load(name)["results"]
    header = ["strategy", "context", "accuracy (95 %)", "work", "span", "threads"]
    rows = [
        [
            f"`{row['strategy']}`",
            f"{row['max_tokens']:,}",
            percent(row),
            f"{row['tokens']:,.0f}",
            f"{row['span']:,.0f}",
            f"{row['threads']:.1f}",
        ]
        for row in results
    ]
    return table(header, rows)


def sharing() -> str:
    """Threads that share what they wrote, beside one thread and those that see nothing."""
    lines = [
        [
            f"{one['domain']}, {one['size']}",
            f"`{row['strategy']}`",
            percent(row),
            "" if row["coverage"] is None else f"{row['coverage']:.1%}",
            f"{row['generated']:,.0f}",
            f"{row['steps']:,.0f}",
            f"{row['degree']:.1f}",
            "" if row["coverage"] is None else f"{row['duplicates']:.2f}",
        ]
        for one in load("sharing")["sets"].values()
        for row in one["results"]
    ]
    header = ["problems, size", "strategy", "accuracy (95 %)", "coverage"]
    return table([*header, "tokens", "steps", "degree", "done twice"], lines)


def engine() -> str:
    rows = load("engine")["results"]
    found = {(row["arm"], row["prompt"], row["threads"]): row for row in rows}
    cells = list(dict.fromkeys((row["prompt"], row["threads"]) for row in rows))
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        line = []
        for cell in cells:
            row = found[arm, *cell]
            ratio = f" ({row['ratio_to_vllm']:.2f}×)" if "ratio_to_vllm" in row else ""
            line.append(f"{row['tokens_per_s']:,.0f}{ratio}")
        lines.append([arm, *line])
    return table(["prompt × threads", *(f"{p:,} × {t}" for p, t in cells)], lines)


def workers() -> str:
    """Workers that see each other, in tokens a second of all."""
    rows = load("engine")["sharing"]
    counts = list(dict.fromkeys(row["workers"] for row in rows))
    found = {(row["arm"], row["workers"]): row for row in rows}
    lines = [
        [
            arm,
            *(
                f"{found[arm, n]['tokens_per_s']:,.0f} ({found[arm, n]['ratio_to_one']:.2f}×)"
                for n in counts
            ),
        ]
        for arm in dict.fromkeys(row["arm"] for row in rows)
    ]
    return table(["workers that see each other", *map(str, counts)], lines)


def task_cost(row: dict[str, Any] | None) -> str:
    return f"{row['us_per_task']:,.0f} µs ({row['ratio']:,.1f}×)" if row else "failed"


def graph() -> str:
    rows = load("graph")["overhead"]
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    found = {(row["engine"], row["shape"]): row for row in rows}
    lines = [
        [
            name,
            *(task_cost(found.get((name, shape))) for shape in shapes),
        ]
        for name in dict.fromkeys(row["engine"] for row in rows)
    ]
    return table(["a task that does nothing", *shapes], lines)


def scale() -> str:
    rows = [
        [
            f"{row['tasks']:,}",
            f"{row['seconds']:.2f} s",
            f"{row['us_per_task']:.0f} µs",
            f"{row['peak_mib']} MiB",
            f"{row['patch_ms']:.2f} ms",
        ]
        for row in load("graph")["scale"]
    ]
    return table(["tasks", "built and run", "a task", "peak memory", "a patch"], rows)
