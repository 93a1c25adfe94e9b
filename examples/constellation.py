"""A plan over four worker processes, one of which is killed in the middle of its work.

    python examples/constellation.py
    python examples/constellation.py --base-url http://localhost:8000/v1 --model NAME

Without a model, a script stands in for the planner; devices, hub, graph, edits and the kill are the
same.
"""

import argparse
import os
import re
import statistics
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

import anyio
from anyio.abc import Process

from orchestrator import Event
from protocol import (
    Hub,
    HubEvent,
    HubSettings,
    Registry,
    TaskAssigned,
    Worker,
    WorkerJoined,
    WorkerLeft,
    WorkerSettings,
    progress,
)
from reasoning.models.loading import load_model
from reasoning.planning import (
    AnswerGiven,
    Chat,
    ChatClient,
    Constellation,
    PlanApplied,
    PlanRefused,
    TaskPlaced,
)

REQUEST = """\
Measure the water level at the gauges north and south, and analyse each series.  Where an analysis \
raises an alarm, measure that gauge a second time and analyse that too.  Then write a report with \
all findings, and answer with its text."""


# ---- the devices ---------------------------------------------------------------------------------


def measure(gauge: str, second: bool = False) -> list[float]:
    """Measure a gauge's water level, six times, in metres."""
    time.sleep(0.2)
    high = gauge == "north" and not second
    return [2.0, 2.1, 2.0, 2.2, 9.9 if high else 2.1, 2.1]


def analyse(gauge: str, levels: list[float]) -> dict[str, Any]:
    """Mean of a series, and an alarm if a level is far from it."""
    for step in range(5):
        progress(f"{gauge}: {20 * step} %")
        time.sleep(0.2)
    mean = statistics.mean(levels)
    return {"gauge": gauge, "mean": round(mean, 2), "alarm": max(levels) > 2 * mean}


def write_report(findings: list[dict[str, Any]]) -> str:
    """A report on findings."""
    lines = [f"{f['gauge']}: {f['mean']} m{', ALARM' if f['alarm'] else ''}" for f in findings]
    return "; ".join(lines)


DEVICES = {
    "sensor": (measure, ("outdoors",)),
    "compute-1": (analyse, ("fast",)),
    "compute-2": (analyse, ("fast",)),
    "office": (write_report, ()),
}


def work(name: str, url: str) -> None:
    """Be one of the devices; this runs in a process of its own."""
    registry = Registry()
    tool, tags = DEVICES[name]
    registry.tool(tool)
    settings = WorkerSettings(slots=1, tags=frozenset(tags))
    worker = Worker(url, os.environ["REASON_TOKEN"], registry, settings=settings)
    anyio.run(worker.run)


# ---- the planner, where no model is given --------------------------------------------------------


class Script:
    """Stands in for a model: looks at what the prompt says of the tasks, and replies by rule."""

    def __init__(self) -> None:
        self.tried = False

    async def reply(self, prompt: str, schema: str) -> str:
        await anyio.sleep(0.1)  # a model would take longer
        done = dict(re.findall(r"^(\w+): .* is succeeded with (.*)$", prompt, re.M))
        known = set(re.findall(r"^(\w+): .* is (?:waiting|ready|running|succeeded)", prompt, re.M))
        if not known and not self.tried:
            self.tried = True
            return '{"thought": "ask the satellite", "edits": [' + _add("m", "look_down") + "]}"
        if not known:
            edits = [edit for gauge in ("north", "south") for edit in _series(gauge, "")]
            return _reply("both gauges, side by side", edits)
        alarms = [id[8:] for id in done if id.startswith("analyse_") and '"alarm":true' in done[id]]
        again = [gauge for gauge in alarms if f"analyse_{gauge}_2" not in known]
        if again:
            edits = [edit for gauge in again for edit in _series(gauge, "_2")]
            return _reply(f"an alarm at {again[0]}: once more", edits)
        series = sorted(id for id in known if id.startswith("analyse_"))
        if "report" in done:
            return '{"answer": ' + done["report"] + "}"
        if series and done.keys() >= set(series) and "report" not in known:
            findings = ", ".join(f'{{"$task": "{id}"}}' for id in series)
            return _reply(
                "all is known", [_add("report", "write_report", f'"findings": [{findings}]')]
            )
        return "{}"


def _reply(thought: str, edits: list[str]) -> str:
    return f'{{"thought": "{thought}", "edits": [{", ".join(edits)}]}}'


def _add(id: str, tool: str, arguments: str = "") -> str:
    return f'{{"op": "add", "id": "{id}", "tool": "{tool}", "arguments": {{{arguments}}}}}'


def _series(gauge: str, suffix: str) -> list[str]:
    source = f"measure_{gauge}{suffix}"
    second = ', "second": true' if suffix else ""
    levels = f'"gauge": "{gauge}", "levels": {{"$task": "{source}"}}'
    return [
        _add(source, "measure", f'"gauge": "{gauge}"{second}'),
        _add(f"analyse_{gauge}{suffix}", "analyse", levels),
    ]


# ---- the run -------------------------------------------------------------------------------------


def show(event: Event) -> None:
    match event:
        case PlanApplied(turn=turn, plan=plan):
            print(f"plan {turn}: {plan.thought}")
            for edit in plan.edits:
                print(f"    {edit.op} {edit.model_dump_json(exclude_defaults=True)}")
        case PlanRefused(turn=turn, reasons=reasons):
            print(f"plan {turn} refused: {reasons[0]}")
        case AnswerGiven(turn=turn):
            print(f"plan {turn}: the answer")
        case TaskPlaced(task=task, device=device, attempts=attempts):
            print(f"    {task} was run by {device}" + ", its second" * (attempts > 1))


class Watch:
    """Knows when all devices are here, and kills the first that analyses something."""

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}
        self.here: set[str] = set()
        self.ready, self.busy = anyio.Event(), anyio.Event()
        self.victim = ""

    def hear(self, event: HubEvent) -> None:
        match event:
            case WorkerJoined(worker=name):
                self.here.add(name)
                if self.here >= DEVICES.keys():
                    self.ready.set()
            case TaskAssigned(worker=name) if name.startswith("compute") and not self.victim:
                self.victim = name
                self.busy.set()
            case WorkerLeft(worker=name, why=why):
                print(f"    {name} is gone: {why}")

    async def kill(self) -> None:
        await self.busy.wait()
        await anyio.sleep(0.4)
        print(f"    killing {self.victim}, which is at work")
        self.processes[self.victim].kill()


async def main(chat: Chat) -> None:
    watch = Watch()
    async with Hub(HubSettings(lease_s=1.0)) as hub, AsyncExitStack() as stack:
        hub.observe(watch.hear)
        for name in DEVICES:
            command = [sys.executable, __file__, "--work", name, hub.url]
            environment = os.environ | {"REASON_TOKEN": hub.tokens.create(name)}
            process = await anyio.open_process(command, env=environment, stdout=None, stderr=None)
            watch.processes[name] = await stack.enter_async_context(process)
            stack.callback(end, process)
        with anyio.fail_after(60):
            await watch.ready.wait()
        group = await stack.enter_async_context(anyio.create_task_group())
        group.start_soon(watch.kill)
        constellation = Constellation(hub, chat)
        constellation.events.subscribe(show)
        outcome = await constellation.run(REQUEST, seconds=300)
        group.cancel_scope.cancel()
    print(f"{outcome.status} in {outcome.turns} turns, {outcome.refused} refused: {outcome.answer}")


def end(process: Process) -> None:
    if process.returncode is None:
        process.kill()


async def planned(model: Any) -> None:
    async with ChatClient(model) as chat:
        await main(chat)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--base-url")
    parser.add_argument("--model")
    parser.add_argument("--work", nargs=2, metavar=("NAME", "URL"), help=argparse.SUPPRESS)
    given, _ = parser.parse_known_args()
    if given.work:
        work(*given.work)
    elif given.base_url or given.model:
        anyio.run(
            planned, load_model(given.model, base_urls=[given.base_url] if given.base_url else [])
        )
    else:
        anyio.run(main, Script())
