"""Tables of policies and judges, from committed results."""

from __future__ import annotations

from textwrap import fill
from typing import Any

from tables import load, percent, table

from reasoning.evaluation.suites import SUITES


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


def finished() -> str:
    """DeepPrune at each threshold, by how many traces of its largest cluster finish."""
    counts = ("deepprune", *(f"deepprune:{one}" for one in ("k2=4", "k2=2", "k2=1", "k2=1,k3=1")))
    lines = []
    for row in load("judge")["results"]:
        name = f"{row['source']}: {row['judge']}"
        gates = {f"{g['tau']:g}": g["replay"] for g in row["gate"] if g["replay"]}
        for tau, replay in (gates | {"0.5, uncalibrated": row["uncalibrated"]}).items():
            free = {one["policy"]: one for one in replay if one["judge_price"] == 0}
            every = free["deepprune"]["n_matched"]
            shown = (every, *(free[one] for one in counts))
            cells = [f"{one['tokens']:,.0f}, {one['accuracy']:.1%}" for one in shown]
            one = free["deepprune:k2=1"]["token_matched"]
            gain = gained([one["gain"], *one["gain_ci95"]])
            lines.append([name, tau, *cells, gain])
    header = ["judge", "tau", "all traces", "`k2` all", "`k2=4`", "`k2=2`", "`k2=1`", "`k3=1` too"]
    return table([*header, "`k2=1` over equal tokens"], lines)


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


def intervals() -> str:
    """How often intervals of 95 % hold the truth, by how many questions were seen."""
    found: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for row in load("intervals")["by_kind"]:
        found.setdefault((row["kind"], row["questions"]), {})[row["method"]] = row
    rows = []
    for (kind, questions), methods in found.items():
        ours = methods.pop("ours")
        held = f"{ours['mean']:.1%} ({100 * ours['least']:.1f}–{100 * ours['greatest']:.1f})"
        rows.append([kind, f"{questions}", held, *(f"{m['mean']:.1%}" for m in methods.values())])
    header = ["mean of", "questions", "held (least–greatest)"]
    return table([*header, "Student's t", "percentiles", "BCa"], rows)


def attainable() -> str:
    """How little 12 questions can be held by any rule, by population, and how much they are."""
    rows = [
        [row["population"], *(f"{row[name]:.1%}" for name in ("up", "down", "attainable", "ours"))]
        for row in load("intervals")["attainable"]
    ]
    return table(["population", "up", "down", "by any rule, at least", "by ours"], rows)


def suites() -> str:
    """What papers found, and whether it was found here, by the quick suites."""
    rows = []
    for name in SUITES:
        for panel in load(f"suite-{name}")["panels"]:
            ran = panel["evaluation"]
            count = "–" if ran is None else str(ran["results"][0]["n"])
            for claim in panel["claims"]:
                source = claim["source"].replace(", arXiv", "; arXiv")
                found = ": ".join(filter(None, (claim["found"], claim["lacking"])))
                rows.append([f"`{name}`", f"{claim['words']} ({source})", count, found])
    return table(["suite", "claim", "questions", "on the shipped model"], rows)


def rates() -> str:
    """The share of steps that the controller escalates, at a nominal 0.40."""
    measured = load("replay")["rate_control"]
    names = [
        f"`{row['method']}`" + ("" if row["method"] == "bank" else f", γ = {row['gamma']:g}")
        for row in measured
    ]
    rows = []
    for name in dict.fromkeys(names):
        both = [row for other, row in zip(names, measured, strict=True) if other == name]
        worst = max(row["turn_off_most"] for row in both)
        spans = [f"{row['rate_min']:.3f}–{row['rate_max']:.3f}" for row in both]
        chosen = f"{both[0]['strangest']:.0%}"
        rows.append([name, *spans, f"off by {worst:.2f}", chosen])
    headings = ["method", "rate", "under a shift at half time", "worst turn", "strangest"]
    return table(headings, rows)


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


def gained(points: list[float]) -> str:
    """A gain in points with its interval."""
    mean, low, high = (100 * value for value in points)
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def chosen() -> str:
    """The default on each set, what it was before, and what is chosen without the set."""
    results = load("default-policy")
    rows = {(row["set"], row["policy"]): row for row in results["results"]}
    former = "default:k=6,threshold=0.8,cap=25000"
    held = {row["set"]: row for row in results["left_out"]}
    lines = []
    for one in results["sets"]:
        name, most = one["set"], max(map(int, one["sc"]))
        ours, before, other = rows[name, results["chosen"]], rows[name, former], held[name]
        lines.append(
            [
                f"{name}, {one['questions']}",
                " / ".join(f"{100 * one['sc'][n]:.1f}" for n in ("4", "8", str(most))),
                f"{ours['tokens_share']:.1%}",
                gained(ours["over"]),
                gained(ours["equal_tokens"]),
                f"{100 * before['over'][0]:+.1f} at {before['tokens_share']:.1%}",
                f"{100 * other['over'][0]:+.1f} (`{other['chosen']}`)",
            ]
        )
    header = ["set, questions", "`sc` with 4 / 8 / most", "tokens", "points over most"]
    header += ["over `sc` at equal tokens", "the former default", "chosen without the set"]
    return table(header, lines)


def held() -> str:
    """How near the default comes to 64 samples, in words: on AIME, elsewhere, at equal tokens."""
    results = load("default-policy")
    rows = {row["set"]: row for row in results["results"] if row["policy"] == results["chosen"]}
    aime = rows.pop("aime24")
    less = sorted(100 * row["over"][0] for row in rows.values())
    shares = sorted(row["tokens_share"] for row in rows.values())
    equal = sorted(100 * row["equal_tokens"][0] for row in (aime, *rows.values()))
    worse = sum(row["equal_tokens"][2] < 0 for row in (aime, *rows.values()))
    return words(
        f"On AIME the default is {gained(aime['over'])} points from 64 samples, at "
        f"{aime['tokens_share']:.1%} of their tokens; on the other {len(rows)} sets {less[0]:+.1f} "
        f"to {less[-1]:+.1f} points, at {shares[0]:.1%} to {shares[-1]:.1%}. At equal tokens it is "
        f"{equal[0]:+.1f} to {equal[-1]:+.1f} points from self-consistency, and worse beyond noise "
        f"on {worse} of {len(rows) + 1} sets."
    )


def ahead() -> str:
    """What it costs a chat model's default that its first sample goes ahead, in words."""
    found = load("default-policy")["ahead"]
    without, with_it = (f"{100 * one:.1f} %" for one in found["accuracy"])
    return words(
        f"On {found['questions']} word problems that SmolLM2-135M answers in a sentence or less, "
        f"that changes {gained(found['gain'])} points: {with_it} right against {without}."
    )


def words(text: str) -> str:
    """A paragraph of the documents."""
    return fill(text, 120) + "\n"


def allocated() -> str:
    """One budget over all questions of a set, at as many tokens as the default spends there."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in load("allocation")["results"]:
        rows.setdefault(row["set"], []).append(row)
    lines = [
        [
            f"{name}, {six['questions']}",
            gained(six["equal_tokens"]),
            gained(six["over_default"]),
            thousands(six["span"]),
            gained(three["equal_tokens"]),
            thousands(three["span"]),
            gained(begun["equal_tokens"]),
        ]
        for name, (_, six, three, begun) in rows.items()
    ]
    header = ["set, questions", "over `sc` at equal tokens", "over `default`", "span of all"]
    header += ["three rounds, over `sc`", "their span", "`first=0`, over `sc`"]
    return table(header, lines)
