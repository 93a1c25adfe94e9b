"""Tables of backends, servers and the protocol, from committed results."""

from __future__ import annotations

from typing import Any

from tables import load, table


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


def soak() -> str:
    """What a long load leaves of a hub's memory and time."""
    found = load("soak")
    ends = ", ".join(f"{count:,} {how}" for how, count in found["ends"].items())
    return (
        f"{found['tasks']:,} tasks on {found['workers']} workers in {found['seconds']:.0f} s "
        f"({ends}): the hub holds {found['hub_mib_at_first']:.0f} MiB after the first 10,000 and "
        f"at most {found['hub_mib_most']:.0f} later ({100 * found['growth']:+.1f} %); afterwards "
        f"it uses {100 * found['idle_cpu']:.1f} % of a core.\n"
    )


def fuzzed() -> str:
    """What the fuzzer of the wire did, and what it cost others."""
    found = load("fuzz")
    return (
        f"{found['seconds']:,.0f} s, {found['said']:,} messages of {found['peers']} peers over "
        f"{found['connections']:,} connections: {found['logged']} errors of the hub; honest calls "
        f"waited {found['wait_p50_ms']:.1f} ms (p50), at most {found['wait_most_ms']:.0f} ms; the "
        f"process holds {found['mib_at_first']:.0f} MiB after the first minute and "
        f"{found['mib_at_end']:.0f} at the end.\n"
    )


def kit() -> str:
    """Which rows of A2A's compatibility kit fail, and what it says."""
    found = load("a2a-kit")
    rows = [
        [f"`{id}`", row["level"], " ".join(row["errors"][0].split())[:90].replace("|", "/")]
        for id, row in found["failed"].items()
    ]
    head = (
        f"{found['passed']} requirements pass, {len(found['failed'])} fail, {found['skipped']} are "
        "skipped (gRPC, push notifications and others that are not offered).\n\n"
    )
    return head + table(["fails", "level", "what it says"], rows)


def ufo() -> str:
    """What UFO³'s own clients were seen to do."""
    checks = load("ufo")["checks"]
    bad = [row["check"] for row in checks if not row["right"]]
    good = "; ".join(row["check"] for row in checks if row["right"])
    return f"Right: {good}.  Not: {'; '.join(bad) or 'nothing'}.\n"


def faults() -> str:
    """What broke in all schedules together."""
    found = load("faults")
    kinds = ", ".join(f"{count:,} × {kind}" for kind, count in found["faults"].items())
    return (
        f"{found['schedules']:,} schedules of {found['tasks'] // found['schedules']} tasks: "
        f"{found['lost']} results lost, {found['double_committed']} committed twice, "
        f"{found['overlaps']} begun while a copy ran on a living worker, "
        f"{found['not_ended']} runs without an end; {found['seconds_p50']:.2f} s a run (p50).  "
        f"Done to them: {kinds}.\n"
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


def runners() -> str:
    """How far the vLLM plugin is exact on each runner and release."""
    kinds = ("live", "paths", "join", "plain")
    rows = [
        [
            f"vLLM {row['release']}, runner V{row['runner']}, "
            + ("served" if row["served"] else "in process"),
            *(_exactness(row["kinds"][kind]) for kind in kinds),
        ]
        for row in load("vllm-runners")["results"]
    ]
    return table(["equal tokens (largest difference of log-probabilities)", *kinds], rows)


def _exactness(found: dict[str, Any]) -> str:
    return f"{found['equal']} of {found['wanted']} ({found['worst']:.0e})"


def backends() -> str:
    """Tokens a second through our backends and without them."""
    found = load("backends")
    rows = [
        [
            f"{place.replace('_', ' ')}: {row['arm']}",
            f"{row['tokens_per_s']:,.0f}",
            f"{row['ratio']:.2f}×",
        ]
        for place in ("in_process", "http")
        for row in found[place]["speed"]
    ]
    return table(["64 threads of 128 tokens", "tokens a second", "ratio"], rows)


def client_cpu() -> str:
    """What a token costs the processor of whoever asks."""
    rows = [
        [row["arm"], f"{row['us_per_token']:.0f}", f"{row['tokens_per_s']:,.0f}"]
        for row in load("client-cpu")["results"]
    ]
    return table(["32 answers at once", "µs of processor a token", "tokens a second"], rows)


def replicas() -> str:
    """Votes where one of three servers is slow or lost, and where second turns go."""
    found = load("replicas")
    rows = [
        [
            row["what"],
            f"{row['ratio']:.2f}×",
            f"{row['votes']} of {found['samples']}",
            f"{row['thrown_away']:,} of {row['written']:,}",
        ]
        for row in found["votes"]
    ]
    what = f"{found['samples']} answers of {found['tokens']} tokens"
    shown = table([what, "time", "votes", "tokens thrown away"], rows)
    turns = [found[name] for name in ("turns", "real") if name in found]
    back = [
        f"{one['back']} of {one['threads']} second turns on {one['servers']} "
        f"{'scripted' if one is found['turns'] else 'llama.cpp'} servers"
        for one in turns
    ]
    return f"{shown}\n\nWhere the first was written: {'; '.join(back)}.\n"


def ray_nodes() -> str:
    """Three Ray nodes, of which much is killed."""
    found = load("ray-nodes")
    return (
        f"Three nodes as processes of one machine, {found['problems']} problems, and a worker, a "
        f"node and the driver killed: {found['committed']} were committed, none of them twice, "
        f"with the answers, votes and texts of one process. Attempts were {found['begun']}, in "
        f"{found['processes_that_loaded']} processes that loaded the model; the second driver had "
        f"none of the {found['committed_before_the_driver_died']} solved again that the first "
        "had committed.\n"
    )


def devices() -> str:
    """Wall time by a hub and workers of one machine, beside one process."""
    rows = [
        [
            name,
            *(f"{row['seconds'][place]:.2f} s" for place in ("here", "devices")),
            f"{row['ratio']:.2f}×",
        ]
        for name, row in load("devices")["speed"].items()
    ]
    return table(["eight workers on two cores", "one process", "by hub", "ratio"], rows)


def hosts() -> str:
    """Wall time by a hub and workers on hosts with a core each."""
    rows = [
        [name, *(f"{one:.2f} s" for one in row["seconds"]), f"{row['gain']:.2f}×"]
        for name, row in load("hosts")["batches"].items()
    ]
    return table(["hosts with one core each", "one", "two", "gain"], rows)


def leaks() -> str:
    """Tokens generated for runs after they were stopped."""
    found = load("backends")
    names = [row["strategy"] for row in found["http"]["leaked"]]
    rows = []
    places = {name: found[name]["leaked"] for name in ("in_process", "http")}
    places["hub and eight workers"] = load("devices")["leaked"]
    for place, measured in places.items():
        by = {row["strategy"]: row for row in measured}
        cells = [f"{by[name]['leaked']} of {by[name]['tokens']}" for name in names]
        rows.append([place.replace("_", " "), *cells])
    return table(["leaked tokens", *names], rows)


def speculative() -> str:
    """Speculative decoding against none."""
    rows = [
        [
            row["method"],
            f"{row['tokens_per_s']:,.0f}",
            f"{row['ratio']:.2f}×" if "ratio" in row else "",
            "yes" if row.get("same_texts") else "",
        ]
        for row in load("backends")["speculative"]
    ]
    return table(["method", "tokens a second", "ratio", "all tokens the same"], rows)


def servers() -> str:
    """What each strategy did on real servers."""
    found = load("servers")
    names = list(found)
    rows = {name: {row["strategy"]: row for row in found[name]["strategies"]} for name in names}
    strategies = [row["strategy"] for row in found[names[0]]["strategies"]]
    header = ["strategy", *(_server(name, found[name]) for name in names)]
    return table(
        header,
        [[f"`{one}`", *(_deed(rows[name].get(one)) for name in names)] for one in strategies],
    )


def _server(name: str, found: dict[str, Any]) -> str:
    version = f" {found['version']}" if found["version"] else ""
    return f"{name}{version}, {found['mode']}"


def _deed(row: dict[str, Any] | None) -> str:
    """What a strategy did: in which emulation, how many threads were lost, or why it is refused."""
    if row is None:
        return "not tried"
    if row["did"] == "refused":
        return (
            f"refused: {row['said'].removeprefix('refused, ')}"
            if row["said"].startswith("refused")
            else "refused with this draft"
        )
    if row.get("fork_refused") or (row["strategy"] == "multiverse" and row["threads"] == 1):
        return "runs; no fork came of the model's plan"
    emulated = f": {', '.join(row['emulated'])}" if row["emulated"] else ""
    lost = " (stopped by the time limit)" if row["status"] == "timed-out" else ""
    lost += f" ({row['lost']} of {row['threads']} threads lost)" if row["lost"] else ""
    mode = f" (mode={row['mode']})" if "mode" in row else ""
    return f"{row['did']}{mode}{emulated}{lost}"


def refusals() -> str:
    """How long a wrong setting waits for its message."""
    rows = [
        [
            f"`{row['command']}`" if row["said"] else row["command"],
            f"{row['processor_s']:.1f} s",
            f"{row['wall_s']:.1f} s ({row['least_wall_s']:.1f})",
        ]
        for row in load("refusals")["commands"]
    ]
    return table(["a wrong setting", "processor time", "on the wall (least)"], rows)


MARKS = {"passed": "✓", "failed": "✗"}
BEHIND = {"scripted": "scripted", "embedded": "in process", "vllm": "vLLM"}


def clients() -> str:
    """Programs by features, and behind which servers each was tried."""
    report = load("clients")
    features = ("text", "stream", "responses", "structured", "tools")
    lines = [f"| program | {' | '.join(features)} |", f"|---|{'---|' * len(features)}"]
    for program, found in report["programs"].items():
        cells = [_tried(found.get(feature, {})) for feature in features]
        lines.append(f"| {program} {report['versions'][program]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _tried(outcomes: dict[str, str]) -> str:
    """Where a feature was tried, and whether it works there."""
    tried = [
        f"{BEHIND[behind]} {MARKS[outcome]}"
        for behind, outcome in outcomes.items()
        if outcome in MARKS
    ]
    return ", ".join(tried) or "–"


def proxy() -> str:
    """What the proxy costs beside asking the server directly."""
    report = load("proxy")
    first, rate = report["first_token_ms"], report["tokens_per_s"]
    rows = [
        ("first token, p50", f"{first['direct_p50']} ms", f"{first['proxy_p50']} ms"),
        (f"tokens a second, {report['at_once']} at once", rate["direct"], rate["proxy"]),
        ("processor time of a token", "", f"{report['proxy_cpu_ms_per_token']} ms"),
    ]
    lines = ["| one sample | directly | by the proxy |", "|---|---:|---:|"]
    return "\n".join([*lines, *(f"| {a} | {b} | {c} |" for a, b, c in rows)]) + "\n"
