"""What a cluster of model servers would do, simulated: the real client on a virtual clock.

    python benchmarks/simulation.py calibrate --json benchmarks/results/simulation.json
    python benchmarks/simulation.py run --json benchmarks/results/simulation.json [--only GROUP]

Task graph, policies, client and placement are the real ones, and OpenAI's client library with
them; servers, network, and the processor time of whoever asks are modelled (docs/simulation.md).
``calibrate`` measures how the embedded engine's step grows with its lanes, by processor time, and
how well the model predicts a batch of answers of different lengths; one minute.  ``run`` takes each
scenario of the groups below, and keeps its row; the same seed gives the same row, but for
``cpu_s``, which is this machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from simulated.clock import in_virtual_time
from simulated.cluster import Faults, Scenario, Turns, simulate
from simulated.network import Writing
from simulated.servers import BatchCurve, Server

GPU = BatchCurve(step_s=0.008, lane_s=0.00003, prefill=20_000, lanes=256, cache=400_000)
"""Assumed: about what an 8B model in 16 bits does on one large GPU."""
CLIENT = {"request_s": 0.006, "token_s": 0.000043}
"""Measured: benchmarks/results/client-cpu.json has 12 µs a token of whole answers of 500, which is
6 ms a request, and 55 µs where they are streamed one by one, of which 43 are the tokens'."""
WHOLE: dict[str, Any] = {"stream": False, "max_connections": 100_000}
OPEN: dict[str, Any] = {"max_connections": 100_000}


def walls() -> dict[str, Scenario]:
    """A hundred threads a server, all at once: how far one process goes."""
    rows = {}
    for form, settings in (("streams", OPEN), ("whole", WHOLE)):
        for servers in (1, 4, 8):
            rows[f"{servers} servers, {form}"] = Scenario(
                curve=GPU,
                servers=servers,
                problems=servers * 100 // 16,
                settings=settings,
                **CLIENT,
            )
    eight = rows["8 servers, whole"]
    few = {**WHOLE, "max_connections": 256}
    rows["8 servers, whole, 256 connections"] = eight.varied(settings=few)
    rows["8 servers, whole, 4 processes"] = eight.varied(processes=4)
    return rows


def largest() -> dict[str, Scenario]:
    """10,000 threads over 100 servers."""
    whole = Scenario(curve=GPU, settings=WHOLE, **CLIENT)
    free = whole.varied(request_s=0.0, token_s=0.0)
    return {
        "a processor that costs nothing, 10 servers killed": free.varied(faults=Faults(killed=0.1)),
        "one process": whole,
    }


SMALL = Scenario(curve=GPU, servers=8, problems=32, apart_s=0.2, settings=WHOLE, policy="sc:n=16")
"""512 threads over 8 servers, and a processor that costs nothing."""
TALKING = SMALL.varied(
    strategy=Turns(n=16, turns=3),
    policy=None,
    problems=16,
    servers=4,
    prompt=1000,
    curve=replace(GPU, prefill=5_000, lanes=64),
)


def placements() -> dict[str, Scenario]:
    """Threads of three turns with a long prompt: who is asked."""
    rows = {name: TALKING.varied(placement=name) for name in ("holder", "hash", "random", "idlest")}
    tight = TALKING.varied(curve=replace(TALKING.curve, cache=20_000))
    for name in ("holder", "idlest"):
        rows[f"{name}, a small cache"] = tight.varied(placement=name)
    return rows


def loads() -> dict[str, Scenario]:
    """How much more than its share the holder of a prefix may take."""
    return {
        f"share {share:g}, loyal {loyal:g}": TALKING.varied(
            constants={"SHARE": share, "LOYAL": loyal}
        )
        for share, loyal in ((1, 1), (8, 8))
    }


def stragglers() -> dict[str, Scenario]:
    """One server of eight writes ten times slower."""
    one_slow = Faults(slow=1 / 8)
    rows = {"none, whole": SMALL, "none, streams": SMALL.varied(settings=OPEN)}
    for form, settings in (("whole", WHOLE), ("streams", OPEN)):
        slow = SMALL.varied(faults=one_slow, settings=settings)
        rows[f"one, {form}"] = slow
        hedged = {**settings, "hedge": True}
        rows[f"one, {form}, hedged"] = slow.varied(settings=hedged)
        rows[f"none, {form}, hedged"] = SMALL.varied(settings=hedged)
        rows[f"one, {form}, not left out"] = slow.varied(constants={"SLOW": 1e9})
        rows[f"one, {form}, async:k=16"] = slow.varied(policy="async:k=16")
    half = Faults(slow=1 / 8, speed=0.5)
    halved = SMALL.varied(faults=half, settings=OPEN)
    rows["one writes half as fast, streams"] = halved
    rows["one writes half as fast, streams, hedged"] = halved.varied(settings=hedged)
    return rows


def policies() -> dict[str, Scenario]:
    """All votes, or those that are needed."""
    streamed = SMALL.varied(settings=OPEN)
    return {
        policy: streamed.varied(policy=policy)
        for policy in ("sc:n=16", "sc:n=8", "async:k=16", "async:k=9,threshold=0.9")
    }


def deaths() -> dict[str, Scenario]:
    """A quarter of the servers is killed at some time, and back a minute later."""
    rows = {}
    for form, settings in (("whole", WHOLE), ("streams", OPEN)):
        for retries in (4, 0) if settings is OPEN else (4,):
            rows[f"{form}, {retries} retries"] = SMALL.varied(
                faults=Faults(killed=0.25, until_s=12.0), settings={**settings, "retries": retries}
            )
    frozen = Faults(slow=1 / 8, speed=1e-9)
    rows["one is frozen, streams"] = SMALL.varied(faults=frozen, settings=OPEN)
    rows["one is frozen, whole"] = SMALL.varied(faults=frozen)
    hedged = {**OPEN, "hedge": True}
    rows["one is frozen, streams, hedged"] = SMALL.varied(faults=frozen, settings=hedged)
    return rows


GROUPS = {
    "stragglers": stragglers,
    "policies": policies,
    "deaths": deaths,
    "walls": walls,
    "placements": placements,
    "largest": largest,
    "loads": loads,
}


# ---- calibration ---------------------------------------------------------------------------------

LANES = (1, 2, 4, 8, 16, 32, 64)
STEPS = 40
AT_ONCE = 16


def calibrate(name: str) -> dict[str, Any]:
    """The curve of the embedded engine, and how well it predicts a batch."""
    steps = {lanes: _step_s(name, lanes) for lanes in LANES}
    mean_lanes, mean_s = statistics.mean(steps), statistics.mean(steps.values())
    lane_s = sum((n - mean_lanes) * (s - mean_s) for n, s in steps.items())
    lane_s /= sum((n - mean_lanes) ** 2 for n in steps)
    curve = BatchCurve(
        step_s=max(0.0, mean_s - lane_s * mean_lanes),
        lane_s=lane_s,
        prefill=_prefill(name),
        lanes=AT_ONCE,
        cache=10**6,
    )
    draw = random.Random(0)
    lengths = [round(min(300, 60 * draw.lognormvariate(0, 0.6))) for _ in range(64)]
    real, predicted = _batch_s(name, lengths), predicted_s(curve, lengths)
    return {
        "model": name,
        "step_ms": {n: round(1e3 * s, 3) for n, s in steps.items()},
        "curve": asdict(curve),
        "answers": len(lengths),
        "real_s": round(real, 3),
        "predicted_s": round(predicted, 3),
        "error": round(predicted / real - 1, 3),
    }


def predicted_s(curve: BatchCurve, lengths: list[int]) -> float:
    """How long a simulated server takes for answers that are asked for at once."""
    import anyio

    async def run() -> float:
        server, began = Server(curve, characters=4), time.monotonic()

        async def ask(length: int) -> None:
            request = await server.admit("", 1)
            await request.written(length)
            request.leave()

        async with anyio.create_task_group() as group:
            for length in lengths:
                group.start_soon(ask, length)
        return time.monotonic() - began

    return in_virtual_time(run)


def _engine(name: str) -> Any:
    from reasoning.models.loading import load_model

    engine = load_model(name).backend.engine  # type: ignore[attr-defined]
    engine.config = replace(engine.config, eos=frozenset())
    return engine


def _opened(engine: Any, seed: int, prompt: list[int]) -> int:
    from reasoning import Context, Segment
    from reasoning.values.sampling import Sampling

    segment = Segment(Context.given(prompt))
    return int(engine.open(segment, Sampling(temperature=1.0, seed=seed)))


def _step_s(name: str, lanes: int) -> float:
    """Processor time of a step, in the middle."""
    engine, times = _engine(name), []
    ids = [_opened(engine, seed, [11, 12, 13, 14 + seed]) for seed in range(lanes)]
    for _ in range(5 + STEPS):
        began = time.process_time()
        engine.step()
        times.append(time.process_time() - began)
    for id in ids:
        engine.close(id)
    return statistics.median(times[5:])


def _prefill(name: str) -> float:
    """Prompt tokens a second of processor time."""
    engine = _engine(name)
    prompt = [(37 * number + 11) % 900 for number in range(1024)]
    _opened(engine, 0, prompt)
    began = time.process_time()
    engine.step()
    return len(prompt) / (time.process_time() - began)


def _batch_s(name: str, lengths: list[int]) -> float:
    """Processor time of the engine for answers of given lengths, some at once."""
    engine, waiting, began = _engine(name), list(enumerate(lengths)), time.process_time()
    running: dict[int, int] = {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            seed, length = waiting.pop(0)
            running[_opened(engine, seed, [11, 12, 13, 14 + seed])] = length
        engine.step()
        for id in [*running]:
            running[id] -= 1
            if not running[id]:
                engine.close(id)
                del running[id]
    return time.process_time() - began


# ---- the command ---------------------------------------------------------------------------------


def row(name: str, scenario: Scenario) -> dict[str, Any]:
    found = asdict(simulate(scenario))
    del found["votes"]
    return {"name": name, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=["calibrate", "run"])
    parser.add_argument("--model", default="reason-5m", help="whose engine is measured")
    parser.add_argument("--only", choices=GROUPS, nargs="*", default=list(GROUPS))
    parser.add_argument("--json", type=Path, required=True, help="results are kept here")
    parser.add_argument("--resume", action="store_true", help="keep rows that are there")
    options = parser.parse_args()
    report = json.loads(options.json.read_text()) if options.json.exists() else {}
    report["schema"] = "reason.benchmark.simulation/1"

    def keep() -> None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")

    if options.what == "calibrate":
        found = calibrate(options.model)
        report["calibration"] = {**found, "load": [round(one, 1) for one in os.getloadavg()]}
        print(json.dumps(found, indent=1))
        return keep()
    report["assumed"] = {"curve": asdict(GPU), "client": CLIENT, "writing": asdict(Writing())}
    for group in options.only:
        rows = report.setdefault("groups", {}).setdefault(group, [])
        for name, scenario in GROUPS[group]().items():
            if options.resume and any(one["name"] == name for one in rows):
                continue
            found = row(name, scenario)
            rows[:] = [one for one in rows if one["name"] != name] + [found]
            print(group, *(f"{key}={value}" for key, value in found.items()), flush=True)
            keep()
    return None


if __name__ == "__main__":
    main()
