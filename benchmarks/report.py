"""Writes the tables of committed results into the README and the model cards.

    python benchmarks/report.py            # rewrite the blocks between the markers
    python benchmarks/report.py --check    # fail if one is not up to date

A block stands between ``<!-- results: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
WEIGHTS = ROOT / "reasoning" / "weights"
DOCS = [
    ROOT / "docs" / name
    for name in (
        "task-graph.md",
        "judge.md",
        "serving.md",
        "policies.md",
        "guarantees.md",
        "protocol.md",
        "vllm-plugin.md",
    )
]
FILES = [ROOT / "README.md", *DOCS, *sorted(WEIGHTS.glob("*/README.md"))]
BLOCK = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end -->)", re.S)


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


def between(value: float, interval: list[float]) -> str:
    return f"{value:.3f} ({interval[0]:.3f}–{interval[1]:.3f})"


def judges() -> str:
    """AUROCs of each judge, and of what needs none on the same pairs."""
    lines, told = [], set()
    for row in load("judge")["results"]:
        for one in row["rankings"]:
            name = row["judge"] if one["name"] == "judge" else one["name"]
            within = between(one["within"], one["within_ci95"])
            line = [f"{row['source']}: {name}", within, between(one["pooled"], one["pooled_ci95"])]
            if tuple(line) not in told:
                lines.append([*line, f"{row['questions']} ({row['mixed']})"])
            told.add(tuple(line))
    return table(["judge", "within questions", "pooled", "questions (of both kinds)"], lines)


def gates() -> str:
    """What Learn-then-Test allows, and DeepPrune there beside self-consistency at equal tokens."""
    lines = []
    for row in load("judge")["results"]:
        for gate in row["gate"]:
            name = f"{row['source']}: {row['judge']}"
            cells = [name, f"{gate['risk']:g}", f"{gate['tau'] or 'shut'}"]
            found = [r for r in gate["replay"] or [] if r["policy"] == "deepprune"]
            for one in found:
                low, high = one["token_matched"]["gain_ci95"]
                gain = f"{one['token_matched']['gain']:+.1%} ({low:+.1%} to {high:+.1%})"
                tokens = f"{one['tokens']:,.0f} / {one['n_matched']['tokens']:,.0f}"
                cells += [tokens, f"{one['accuracy']:.1%}", gain]
            lines.append(cells + ["–"] * (9 - len(cells)))
    header = ["judge", "risk", "tau"]
    for price in ("judge free", "judge charged"):
        header += [f"tokens / 16 traces, {price}", "accuracy", "gain at equal tokens"]
    return table(header, lines)


def serving() -> str:
    report = load("serving")
    arms = {"p50": "p50_ms", "p95": "p95_ms"}
    named = {
        "a streamed chunk, from branch to client": report["chunk"]["reason_serve"],
        "the same through a bare Starlette stream": report["chunk"]["bare_starlette"],
        "a blocking A2A message that is answered at once": report["a2a_round_trip"]["reason_serve"],
        "the same at an agent of a2a-sdk's parts": report["a2a_round_trip"]["a2a_sdk"],
        "a Countdown problem by HTTP, `single`": report["problem"]["by_http"],
        "the same, streamed": report["problem"]["by_http_streamed"],
        "the same, in process": report["problem"]["in_process"],
    }
    rows = [
        [name, *(f"{found[key]:.3g} ms" for key in arms.values())] for name, found in named.items()
    ]
    return table(["", *arms], rows)


def protocol() -> str:
    """Round trips over the hub and others, and calls a second."""
    rows = [
        [
            row["arm"],
            f"{row['p50_ms']:.2f} ms ({row['p50_to_ray']:.2f}×)",
            f"{row['p99_ms']:.2f} ms",
            f"{row['calls_per_s']:,}",
        ]
        for row in load("protocol")["calls"]
    ]
    return table(["round trip", "p50", "p99", "calls a second"], rows)


def overhead() -> str:
    """What else the protocol costs."""
    found = load("protocol")
    late, idle = found["tokens_late"], found["idle"]
    return (
        f"A token reaches the hub's listener {late['p50_ms']:.2f} ms after it was generated (p50; "
        f"p99 {late['p99_ms']:.2f} ms).  {idle['workers']:,} idle workers take "
        f"{idle['hub_mib'] - idle['hub_alone_mib']:.0f} MiB of the hub's memory.\n"
    )


def plugin() -> str:
    """The vLLM plugin beside a stock vLLM."""
    rows = [
        [
            row["task"],
            f"{row['stock']:,.1f} {row['unit']}",
            f"{row['plugin']:,.1f} {row['unit']}",
            f"{row['ratio']:.2f}× ({row['quartiles'][0]:.2f}–{row['quartiles'][1]:.2f})",
        ]
        for row in load("vllm-plugin")["results"]
    ]
    return table(["", "stock", "plugin", "ratio (quartiles)"], rows)


def faults() -> str:
    """What broke in all schedules together."""
    found = load("faults")
    kinds = ", ".join(f"{count:,} × {kind}" for kind, count in found["faults"].items())
    return (
        f"{found['schedules']:,} schedules of {found['tasks'] // found['schedules']} tasks: "
        f"{found['lost']} results lost, {found['double_committed']} committed twice, "
        f"{found['not_ended']} runs without an end; {found['seconds_p50']:.2f} s a run (p50).  "
        f"Done to them: {kinds}.\n"
    )


def thousands(tokens: float) -> str:
    return f"{tokens / 1000:.1f} k" if tokens < 40_000 else f"{tokens / 1000:.0f} k"


def replayed() -> str:
    """What each policy costs over stored traces."""
    rows = [
        [
            f"`{row['policy']}`",
            f"{row['accuracy']:.1%}",
            thousands(row["tokens"]),
            thousands(row["span"]),
        ]
        for row in load("replay")["results"]
    ]
    return table(["policy", "accuracy", "tokens", "span"], rows)


def rates() -> str:
    """The share of steps that the controller escalates, at a nominal 0.40."""
    found = {(row["method"], row["shift"]): row for row in load("replay")["rate_control"]}
    shifts = sorted({shift for _, shift in found})
    rows = []
    for method in dict.fromkeys(method for method, _ in found):
        both = [found[method, shift] for shift in shifts]
        worst = max(row["turn_off_most"] for row in both)
        spans = [f"{row['rate_min']:.3f}–{row['rate_max']:.3f}" for row in both]
        rows.append([f"`{method}`", *spans, f"off by {worst:.2f}"])
    return table(["method", "rate", "under a shift at half time", "worst turn"], rows)


def live(domain: str) -> str:
    """Each policy over live traces, its replay, and self-consistency with as many tokens."""
    rows = []
    for row in (row for row in load("policies")["results"] if row["domain"] == domain):
        online, matched = row["online"], row["token_matched"]
        low, high = matched["gain_ci95"]
        probes = f" + {online['probe_tokens']:,.0f}" if online["probe_tokens"] else ""
        rows.append(
            [
                f"`{row['policy']}`",
                percent(online),
                f"{online['tokens']:,.0f}{probes}",
                f"{online['span']:,.0f}",
                f"{online['wall_s']:.0f} s",
                f"{online['leaked_share']:.2%}",
                f"{row['replayed']['alike']} of {row['n']}",
                f"{100 * matched['gain']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
            ]
        )
    header = ["policy", "accuracy (95 %)", "tokens + probes", "span", "wall", "leaked"]
    return table([*header, "replayed alike", "points over as many tokens of `sc`"], rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "countdown": lambda: accuracy("countdown"),
    "five": lambda: accuracy("five"),
    "arithmetic": lambda: accuracy("arithmetic"),
    "engine": engine,
    "workers": workers,
    "graph": graph,
    "scale": scale,
    "judges": judges,
    "gates": gates,
    "small": lambda: accuracy("small"),
    "serving": serving,
    "protocol": protocol,
    "faults": faults,
    "vllm-plugin": plugin,
    "protocol-overhead": overhead,
    "replay": replayed,
    "rates": rates,
    "live-arithmetic": lambda: live("arithmetic"),
    "live-countdown": lambda: live("countdown"),
    "solve": lambda: f"```text\n{(RESULTS / 'solve.txt').read_text()}```\n",
}


def render(text: str) -> str:
    """The text with every block filled from its results file."""
    return BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]]()}{match[3]}", text)


def main() -> None:
    stale = []
    for path in FILES:
        text = path.read_text()
        if render(text) != text:
            stale.append(str(path.relative_to(ROOT)))
            if "--check" not in sys.argv:
                path.write_text(render(text))
    if "--check" in sys.argv and stale:
        sys.exit(f"run python benchmarks/report.py: {', '.join(stale)} differ from the results")


if __name__ == "__main__":
    main()
