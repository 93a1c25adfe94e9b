"""Speculative decoding of vLLM, reached from our settings: n-gram, and a 1 M draft under 5 M.

    python benchmarks/speculation.py            # a line of JSON for each method

Sixteen problems at temperature 0: whether all tokens are those without it, and tokens a second.
`backends.py` has this in its results.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import anyio

from reasoning import Reasoner
from reasoning.evaluation import draw_problems
from reasoning.models.vllm import VllmSource

SETTINGS = VllmSource(kv_cache_gib=1, context=1024, max_num_seqs=64)


async def speculative(method: dict[str, Any] | None) -> dict[str, Any]:
    """Sixteen problems at temperature 0 on one engine, one after the other and all at once."""
    settings = SETTINGS.model_copy()
    if method is not None:
        settings = VllmSource.model_validate(
            SETTINGS.model_dump(exclude_none=True) | {"speculative": method}
        )
    model = settings.load("reason-5m")
    sample = draw_problems("countdown", 16, numbers=4, seed=2)
    texts: list[str] = []
    seconds = []
    async with Reasoner(model) as reasoner:
        await reasoner.solve(sample[0], strategy="single", max_tokens=64)
        for problem in sample:
            started = time.perf_counter()
            solution = await reasoner.solve(problem, strategy="single", max_tokens=256)
            seconds.append(time.perf_counter() - started)
            texts.append(solution.threads[0].text)
            assert not solution.errors, solution.errors
    tokens = sum(len(model.dialect.encode(text)) for text in texts)
    return {"texts": texts, "tokens_per_s": round(tokens / sum(seconds), 1)}


METHODS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "ngram": {"method": "ngram", "tokens": 4, "lookup_min": 2, "lookup_max": 4},
    "suffix": {"method": "suffix", "tokens": 8},
    "dynamic": {"method": "ngram", "tokens": 4, "schedule": [[1, 4, 4], [5, 64, 1]]},
    "draft_model": {"method": "draft_model", "model": "reason-1m", "tokens": 3},
}


def speculation() -> list[dict[str, Any]]:
    """Each method in a process of its own; one that vLLM refuses is reported with its words."""
    rows: list[dict[str, Any]] = []
    for name in METHODS:
        done = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True)
        if done.returncode:
            error = done.stderr.strip().splitlines()[-1]
            rows.append({"method": name, "refused": error[:300]})
            continue
        rows.append({"method": name, **json.loads(done.stdout.splitlines()[-1])})
    plain_texts = rows[0].pop("texts")
    for row in rows[1:]:
        if "texts" in row:
            row["same_texts"] = row.pop("texts") == plain_texts
            row["ratio"] = round(row["tokens_per_s"] / rows[0]["tokens_per_s"], 3)
    return rows


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(anyio.run(speculative, METHODS[sys.argv[1]])))
    else:
        for row in speculation():
            print(json.dumps(row))
