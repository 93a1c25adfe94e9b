"""Figures in running text: each is filled from a results file, or declared to be none of ours.

A filled one stands between ``<!-- =NAME -->`` and ``<!-- -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tables import ROOT
from tables import load as read

PLACE = re.compile(r"(<!-- =([\w.-]+) -->)([^<]*)(<!-- -->)")
_UNFILLED = re.compile(
    r"<!-- results: [\w-]+ -->.*?<!-- end -->|<!-- =[\w.-]+ -->[^<]*<!-- -->|```.*?```|`[^`\n]*`",
    re.S,
)
_MEASURED = re.compile(
    r"\d[\d,.]*\s?(?:%|×|times\b|µs|ms\b|s\b|seconds?\b|minutes?\b|hours?\b|[kMG]i?B\b|points?\b|"
    r"tokens a second)"
)
"""What looks as if it had been measured."""

load = cache(read)


def row(file: str, /, *place: str, **fields: Any) -> dict[str, Any]:
    """The first row of a list in a results file that has these fields."""
    found = load(file)
    for part in place or ("results",):
        found = found[part]
    one: dict[str, Any] = next(
        one for one in found if all(one[field] == value for field, value in fields.items())
    )
    return one


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def points(value: float, digits: int = 1) -> str:
    """Without a sign."""
    return f"{abs(100 * value):.{digits}f}"


def _rsa(policy: str) -> dict[str, Any]:
    return row("rsa", policy=policy)


def _atts(settings: str) -> dict[str, Any]:
    return row("atts", strategy=f"atts:n=4{settings}")


def _width(policy: str) -> dict[str, Any]:
    found: dict[str, Any] = load("proxy_width")["policies"][policy]
    return found


def _words(arm: str) -> str:
    return percent(row("word-problems", arm=arm)["accuracy"])


def _gain(over: str) -> dict[str, Any]:
    return row("word-problems", "gains", of="async:k=8", over=over)


def _graph(engine: str, shape: str) -> str:
    found = row("graph", "overhead", engine=engine, shape=shape)["ratio"]
    return f"{found:,.1f}×"


def _share(judge: str, source: str, digits: int = 0) -> str:
    rows = load("judge")["results"]
    found = (one for one in rows if one["judge"] == judge and source in one["source"])
    return percent(next(found)["share_of_run"], digits)


def _merged(policy: str) -> dict[str, Any]:
    """MiniLM's judge on arithmetic, at a risk of 0.2."""
    judged = row("judge", judge="bi, minilm, frozen, tokens", source="own arithmetic")
    gate = next(one for one in judged["gate"] if one["risk"] == 0.2)
    return next(one for one in gate["replay"] if one["policy"] == policy)


def _saved() -> str:
    """What finishing one trace of a cluster, and not all, saves the first judge."""
    judged = row("judge", judge="bi, scratch, tokens", source="own arithmetic")
    tokens = {one["policy"]: one["tokens"] for one in reversed(judged["gate"][0]["replay"])}
    return percent(1 - tokens["deepprune:k2=1"] / tokens["deepprune"], 0)


def _most(price: float) -> dict[str, Any]:
    """What MiniLM's judge on Countdown gains at 0.5 over as many tokens."""
    judged = row("judge", judge="bi, minilm, frozen, tokens", source="own Countdown")
    free = (one for one in judged["uncalibrated"] if one["judge_price"] == price)
    found: dict[str, Any] = next(one for one in free if one["policy"] == "deepprune")[
        "token_matched"
    ]
    return found


def _verified(digits: int = 0) -> str:
    best = row("policies", policy="best-of-n:n=8", domain="countdown")
    return f"{points(best['token_matched']['gain'], digits)} points"


def _worst() -> str:
    rows = [one for one in load("policies")["results"] if one["domain"] == "countdown"]
    worst = min(one["token_matched"]["gain"] for one in rows if one["token_matched"])
    return f"{points(worst, 0)} points"


def _serial_span() -> str:
    apr = row("countdown-arms", arm="apr", context=512)["span"]
    best = row("countdown-arms", arm="best of n", context=512, why="equal FLOPs")["span"]
    return f"{best / apr:.1f} times"


def _middle(name: str) -> str:
    return f"{row('simulation', 'groups', 'walls', name=name)['problem_s'][0]:.1f} s"


def _alone(tasks: int) -> str:
    return f"{row('graph', 'editing', others=tasks)['late_ms']:.1f}"


def _lost(serial: int) -> str:
    arms = [
        row("countdown", strategy=name, max_tokens=size)["accuracy"]
        for name, size in (("apr:n=24", 512), ("single", serial))
    ]
    return f"{100 * (arms[0] - arms[1]):.0f} points"


PEERS = {
    "this": "orchestrator",
    "journal": "orchestrator, journal",
    "langgraph": "langgraph 1.2.22",
    "dask": "dask 2026.8.0",
    "ray": "ray 2.60.0",
    "prefect": "prefect 3.8.8",
}
DECLARED: dict[str, dict[str, tuple[str, ...]]] = {
    "docs/backends.md": {
        "limits": ("10 s", "1.25 times"),
        "aims": ("1 %",),
        "once": ("3.5 GB",),
        "from the table below": ("4 %",),
    },
    "docs/constellations.md": {
        "limits": ("15 s", "2 s", "300 s", "32 MiB", "5 s"),
        "UFO³'s": ("30 s", "5 s"),
        "inputs": ("20 MB",),
    },
    "docs/guarantees.md": {
        "levels": ("40 %", "92 %", "93 %", "95 %", "97 %"),
        "by exact sums": ("11 %", "2 %", "22 points", "96.8 %", "97.5 %", "98.5 %"),
    },
    "docs/how-to/ray.md": {"limits": ("100 kB", "21 s", "31 s"), "inputs": ("20 MB",)},
    "docs/how-to/scaling.md": {"limits": ("10 s", "15 s", "30 s", "5 s")},
    "docs/in-front-of-vllm.md": {"inputs": ("50 ms",)},
    "docs/measuring.md": {"inputs": ("16 times",), "levels": ("95 %",)},
    "docs/policies.md": {
        "levels": ("95 %",),
        "inputs": ("15 %", "60 %"),
        "arithmetic": ("22 points", "3.3 points", "61 %"),
    },
    "docs/protocol.md": {
        "limits": (
            *("1 MiB", "2 MiB", "4 MiB", "32 MiB", "64 MiB", "256 MiB", "4,096 times"),
            *("5 s", "10 s", "60 s", "20 ms"),
        ),
    },
    "docs/releases.md": {"limits": ("75 MB",)},
    "docs/results.md": {"levels": ("95 %",), "once": ("45 %",)},
    "docs/runs.md": {"limits": ("256 MiB",)},
    "docs/serving.md": {"limits": ("1 MiB", "10 s", "30 s", "5 s", "50 ms")},
    "docs/simulation.md": {
        "assumptions": ("0.03 ms", "0.2 s", "5 ms", "6 ms", "8 ms", "43 µs"),
        "limits": ("10 s", "20 s"),
        "once": ("1,809 s", "129 s", "4 %"),
    },
    "docs/start/nothing.md": {"once": ("4 GB", "5.7 GB")},
    "docs/strategies/atts.md": {"inputs": ("40 %",)},
    "docs/task-graph.md": {"limits": ("90 %",)},
    "docs/training.md": {
        "once": ("1.35 times", "85 minutes"),
        "by the exact solver": ("97.0 %",),
    },
    "docs/vllm-plugin.md": {
        "limits": ("0.2 s", "30 s", "15 minutes", "6 %"),
        "aims": ("1.5 times", "3 %"),
        "once": ("0.1 s", "1.3 s", "3.5 GB"),
    },
    "docs/why.md": {
        "its_hub's": ("75 %",),
        "inputs of probes": ("0.05 s", "0.5 s", "1 s"),
        "once": ("1.01 s", "6.57 s", "455 times"),
    },
}
"""What looks measured on a page and is not filled, by what it is: a bound or a time that the code
sets, what a benchmark is given, an aim, a level, what follows from other figures, or what was
measured once, as the log or the page says."""
FIGURES: dict[str, Callable[[], str]] = {
    "rsa.right": lambda: percent(_rsa("rsa:n=4")["accuracy"]),
    "rsa.low": lambda: points(_rsa("rsa:n=4")["ci95"][0]),
    "rsa.high": lambda: points(_rsa("rsa:n=4")["ci95"][1]),
    "rsa.votes": lambda: percent(_rsa("sc:n=12")["accuracy"]),
    "rsa.gain": lambda: f"{100 * _rsa('rsa:n=4')['against']['gain']:.1f}".replace("-", "−"),
    "rsa.gain-low": lambda: f"{100 * _rsa('rsa:n=4')['against']['gain_ci95'][0]:.1f}".replace(
        "-", "−"
    ),
    "rsa.gain-high": lambda: points(_rsa("rsa:n=4")["against"]["gain_ci95"][1]),
    "rsa.span": lambda: f"{_rsa('rsa:n=4')['span']:.0f}",
    "rsa.votes-span": lambda: f"{_rsa('sc:n=12')['span']:.0f}",
    "rsa.prompts": lambda: f"{_rsa('rsa:n=4')['runs']['prompt_tokens']:,.0f}",
    "rsa.one": lambda: percent(load("rsa")["pool"]["right"]),
    "atts.right": lambda: percent(_atts("")["accuracy"]),
    "atts.tokens": lambda: f"{_atts('')['tokens']:.0f}",
    "atts.votes": lambda: percent(row("atts", strategy="self-consistency:n=4")["accuracy"]),
    "atts.votes-tokens": lambda: f"{row('atts', strategy='self-consistency:n=4')['tokens']:.0f}",
    "atts.rate": lambda: percent(_atts("")["escalated"]),
    "atts.strangest": lambda: percent(_atts("")["strangest"], 0),
    "atts.auroc": lambda: f"{_atts('')['auroc']:.2f}",
    "atts.chunks": lambda: percent(_atts(",chunk=64")["accuracy"]),
    "atts.drafts": lambda: percent(_atts(",rejects=2")["accuracy"]),
    "ray.task": lambda: f"{row('on-ray', what='a small task')['ratio']:.1f} times",
    "ray.bytes": lambda: f"{row('on-ray', what='20 MB into eight tasks')['ratio']:.1f} times",
    "client.streaming": lambda: f"{row('client-cpu', arm='streaming')['us_per_token']:.0f} µs",
    "width.votes": lambda: f"{_width('sc:n=8')['first_content_s_p50']:.2f} s",
    "width.async": lambda: f"{_width('async:k=8')['first_content_s_p50']:.2f} s",
    "width.esc": lambda: f"{_width('esc:w=4,n=8')['first_content_s_p50']:.1f} s",
    "width.tokens": lambda: f"{_width('sc:n=8')['tokens_mean']:.0f}",
    "eval.replay": lambda: f"{load('evaluation')['replay']['wall_s']:.0f} s",
    "eval.again": lambda: str(load("evaluation")["killed_twice"]["asked_again_in_flight"]),
    "words.votes": lambda: _words("async:k=8"),
    "words.one": lambda: _words("single, sampled"),
    "words.greedy": lambda: _words("single, greedy"),
    "words.gain": lambda: f"{points(_gain('single, sampled')['gain'])} points",
    "words.gain-low": lambda: points(_gain("single, sampled")["ci95"][0]),
    "words.gain-high": lambda: points(_gain("single, sampled")["ci95"][1]),
    "words.greedy-more": lambda: f"{points(_gain('single, greedy')['gain'])} points",
    "words.greedy-low": lambda: f"{-100 * _gain('single, greedy')['ci95'][1]:.1f}",
    "words.greedy-high": lambda: points(_gain("single, greedy")["ci95"][0]),
    "judge.arithmetic": lambda: _share("bi, scratch, tokens", "arithmetic", 1),
    "judge.countdown": lambda: _share("bi, scratch, tokens", "Countdown", 1),
    "minilm.arithmetic": lambda: _share("bi, minilm, frozen, tokens", "arithmetic"),
    "minilm.countdown": lambda: _share("bi, minilm, frozen, tokens", "Countdown"),
    "judge.saved": _saved,
    "minilm.tokens": lambda: f"{_merged('deepprune:k2=1')['tokens']:.0f}",
    "minilm.all-tokens": lambda: f"{_merged('deepprune')['tokens']:.0f}",
    "minilm.right": lambda: percent(_merged("deepprune:k2=1")["accuracy"]),
    "minilm.all-right": lambda: percent(_merged("deepprune")["accuracy"]),
    **{
        f"judge.{name}{end}": lambda price=price, pick=pick: pick(_most(price))
        for name, price in (("most", 0.0), ("charged", 1.0))
        for end, pick in (
            ("", lambda found: f"{points(found['gain'])} points"),
            ("-low", lambda found: f"{100 * found['gain_ci95'][0]:.1f}"),
            ("-high", lambda found: f"{100 * found['gain_ci95'][1]:.1f}"),
        )
    },
    "policies.verified": _verified,
    "policies.worst": _worst,
    "countdown.serial-span": _serial_span,
    "cluster.one": lambda: (
        f"{row('simulation', 'groups', 'largest', name='one process')['tokens_per_s']:,.0f} "
        "tokens a second"
    ),
    "cluster.eight": lambda: _middle("8 servers, streams"),
    "cluster.eight-whole": lambda: _middle("8 servers, whole"),
    "five.apr": lambda: percent(load("reinforced")["five"]["reason-5m"]["accuracy"]),
    "countdown.serial": lambda: _lost(4096),
    "cluster.halved": lambda: percent(
        row(
            *("simulation", "groups", "stragglers"), name="one writes half as fast, streams, hedged"
        )["wasted"],
        0,
    ),
    "cluster.busy": lambda: percent(
        row("simulation", "groups", "largest", name="one process")["driver"], 0
    ),
    "cluster.straggler": lambda: (
        f"{row('simulation', 'groups', 'stragglers', name='one, streams')['makespan_s']:.0f} s"
    ),
    "edit.ten": lambda: _alone(10),
    "edit.twenty": lambda: f"{_alone(20)} ms",
    **{
        f"graph.{name}-{shape}": lambda engine=engine, shape=shape: _graph(engine, shape)
        for name, engine in PEERS.items()
        for shape in ("layered", "fan")
    },
}


def filled(text: str) -> str:
    """The text with each figure as its results file has it."""
    return PLACE.sub(lambda place: f"{place[1]}{FIGURES[place[2]]()}{place[4]}", text)


def unfilled(text: str) -> Iterator[str]:
    """What looks measured in a text and is not filled."""
    for found in _MEASURED.finditer(_UNFILLED.sub(" ", text)):
        yield " ".join(found[0].split())


def undeclared(path: Path) -> list[str]:
    """The figures of a page that are neither filled nor declared."""
    page = path.relative_to(ROOT).as_posix()
    known = {one for kinds in DECLARED.get(page, {}).values() for one in kinds}
    return sorted(set(unfilled(path.read_text(encoding="utf-8"))) - known)
