"""Tables of the models, the engine and the graph, from committed results."""

from __future__ import annotations

import json
from collections.abc import Iterable
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


def accuracy(name: str, context: int | None = None) -> str:
    """The arms of a results file, with a ``context`` only those of that many tokens."""
    results = [row for row in load(name)["results"] if context in (None, row["max_tokens"])]
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


def arms() -> str:
    """Countdown's other arms beside apr, paired by problem."""
    rows = load("countdown-arms")["results"]
    lines = []
    for row in rows:
        low, high = (f"{100 * one:+.1f}" for one in row["apr_gains_ci95"])
        ahead = f"{100 * row['apr_gains']:+.1f} ({low} to {high})"
        name = row["arm"].replace("best of n", f"best of {row['samples']}")
        name = name.replace("vote", f"vote of {row['samples']}")
        lines.append(
            [
                name if row["why"] in ("greedy", "verified") else f"{name}, {row['why']}",
                f"{row['context']:,}",
                percent(row),
                "" if row is rows[0] else ahead,
                f"{row['tokens']:,.0f}",
                f"{row['span']:,.0f}",
                f"{row['mflops'] / 1000:.2f}",
            ]
        )
    header = ["arm", "context", "accuracy (95 %)", "apr is ahead by", "work", "span"]
    return table([*header, "10⁹ multiplications"], lines)


def sharing(strategy: str = "") -> str:
    """Threads that share what they wrote, beside one thread and those that see nothing.

    With a ``strategy``, the problems that it was tried on, with its rows and those of `single`.
    """
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
        if _concerns(strategy, row, one["results"])
    ]
    header = ["problems, size", "strategy", "accuracy (95 %)", "coverage"]
    return table([*header, "tokens", "steps", "degree", "done twice"], lines)


def native() -> str:
    """The native model on each carrier, beside its serial twin."""

    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.1%}"

    lines = []
    for row in load("native")["arms"]:
        low, high = row.get("ci95", (0.0, 0.0))
        gained = row.get("less its twin's")
        lines.append(
            [
                row["arm"],
                share(row["accuracy"]),
                ""
                if gained is None
                else f"{100 * gained:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
                share(row["forked, decomposable"]),
                share(row["forked, serial"]),
                share(row["well-formed forks"]),
                share(row.get("critical path")),
                share(row.get("critical path, all")),
            ]
        )
    header = [
        "model, carrier",
        "accuracy",
        "less its twin's, points (95 %)",
        "forked: decomposable",
    ]
    more = ["serial", "well-formed", "critical path: decomposable", "all"]
    return table([*header, *more], lines)


def reinforced() -> str:
    """The shipped model beside what it was before it learnt from its own runs."""
    rows = [(name, models["reason-5m"], models["demonstrations"]) for name, models in _learnt()]
    lines = []
    for name, now, before in rows:
        low, high = (f"{100 * one:+.1f}" for one in now["gain_ci95"])
        lines.append(
            [
                name,
                f"`{now['strategy']}`",
                str(now["count"]),
                f"{before['accuracy']:.1%}",
                percent(now),
                f"{100 * now['gain']:+.1f} ({low} to {high})",
                f"{before['tokens']:,.0f} / {before['span']:,.0f}",
                f"{now['tokens']:,.0f} / {now['span']:,.0f}",
            ]
        )
    header = ["problems", "strategy", "n", "before", "now (95 %)", "gain, paired"]
    return table([*header, "work / span before", "now"], lines)


def _learnt() -> Iterable[tuple[str, dict[str, Any]]]:
    titles = {"four": "Countdown, four numbers", "five": "five numbers", "single": "in one thread"}
    titles |= {"multiverse": "several expressions", "workers": "the same, by workers"}
    titles |= {"paths": "Countdown in paths", "listing": "lists"}
    results = load("reinforced")
    order = ["four", "five", *(name for name in results if name not in ("four", "five"))]
    return ((titles.get(name, name), results[name]) for name in order)


def held_out() -> str:
    """Lists of divisors that were trained, and of others."""
    lines = [
        [
            f"`{row['strategy']}`",
            "trained" if row["divisor trained"] else "never trained",
            str(row["lists"]),
            percent(row),
            f"{row['coverage']:.1%}",
        ]
        for row in load("held-out")["lists"]
    ]
    return table(["strategy", "divisors", "lists", "accuracy (95 %)", "coverage"], lines)


def _concerns(strategy: str, row: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """Whether a row is of the strategy, or of `single` on problems that it was tried on."""
    tried = any(one["strategy"].startswith(strategy) for one in rows)
    return tried and (not strategy or row["strategy"].startswith((strategy, "single")))


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


def headline() -> str:
    """One line for each thing that the project claims, from the file that shows it."""
    found = {(row["strategy"], row["max_tokens"]): row for row in load("countdown")["results"]}
    arms = [found["apr:n=24", 512], found["single", 512]]
    engines = {(r["arm"], r["prompt"], r["threads"]): r for r in load("engine")["results"]}
    engine = engines["reason", 32, 8]
    client = {row["arm"]: row["us_per_token"] for row in load("client-cpu")["results"]}
    words = {row["arm"]: row["accuracy"] for row in load("word-problems")["results"]}
    plugin = {row["task"]: row["ratio"] for row in load("vllm-plugin")["results"]}
    sets = {r["set"]: r for r in load("default-policy")["results"] if r["policy"] == "default"}
    gain, low, high = sets["aime24"]["over"]
    worst = min(one["over"][0] for one in sets.values())
    share, lost = sets["aime24"]["tokens_share"], max(0.0, 1 - plugin["ordinary, 8 threads"])

    def each(values: Iterable[float], form: str) -> str:
        return " / ".join(format(value, form) for value in values)

    samples = (words[arm] for arm in ("sc:n=8", "single, greedy", "single, sampled"))
    costs = (client[arm] for arm in ("whole answers", "streaming", "official client"))
    spans, works = each((a["span"] for a in arms), ".0f"), each((a["tokens"] for a in arms), ".0f")
    rows = [
        [
            "Countdown at context 512, shipped model, 500 held-out: `apr` / `single`",
            each((arm["accuracy"] for arm in arms), ".1%"),
            f"span {spans}, work {works} tokens",
        ],
        [
            "the default policy against 64 samples, AIME24 traces",
            f"{gain:+.1%} ({low:+.1%} to {high:+.1%})",
            f"{share:.0%} of the tokens; its worst set of nine: {worst:+.1%}",
        ],
        [
            "SmolLM2-135M, 200 word problems: 8 samples / greedy / one sample",
            each(samples, ".1%"),
            "no gain over greedy",
        ],
        [
            "embedded engine against vLLM, shipped model, 8 threads on two cores",
            f"{engine['ratio_to_vllm']:.1f}×",
            f"{engine['tokens_per_s']:,.0f} tokens a second",
        ],
        [
            "a join of branches inside vLLM, against computing their text again",
            f"{1 / plugin['join']:.1f}× faster",
            f"ordinary requests lose {lost:.1%}",
        ],
        [
            "a server's token, in time of this processor",
            f"{each(costs, '.0f')} µs",
            "whole answers / streaming / official client",
        ],
        [
            "a 135M chat model's first token after the command's start",
            f"{load('ready')['wall_s']:.1f} s",
            "two cores",
        ],
        [
            "a journaled run killed at random moments, and resumed",
            f"{load('kills')['kills']} kills",
            "nothing committed was lost, nothing done twice",
        ],
    ]
    return table(["what", "figure", ""], rows)
