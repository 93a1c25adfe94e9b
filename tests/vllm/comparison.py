"""Joins, gangs, paths and an ordinary request in one batch, against an independent forward pass."""

from __future__ import annotations

import itertools
import json
import os
import random
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from reasoning.values.context import Context, Segment
from reasoning.vllm_plugin import engine_arguments
from reasoning.vllm_plugin.note import Note
from tests.support.vllm_server import AS_MODULE, started
from tests.vllm.conftest import VOCABULARY, Author, Written

Runner = Literal[1, 2]
STEPS = 96
KINDS = "join", "live", "paths", "plain"
SECOND = Path(__file__).with_name("second_runner")
TINY: dict[str, Any] = {"max_model_len": 1024, "max_num_seqs": 16, "max_num_batched_tokens": 256}


class Compared(NamedTuple):
    """How a kind of request fared.

    Attributes:
        equal: Tokens that are the reference's likeliest.
        wanted: How many were generated.
        worst: The largest difference between log-probabilities.
    """

    equal: int
    wanted: int
    worst: float

    @property
    def exact(self) -> bool:
        return self.equal == self.wanted and self.worst < 1e-4


def environment(runner: Runner) -> dict[str, str]:
    """What makes vLLM's processes run this model runner."""
    found = {"VLLM_USE_V2_MODEL_RUNNER": f"{runner - 1}", "VLLM_NO_USAGE_STATS": "1"}
    found |= {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    found |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_LOGGING_LEVEL": "ERROR"}
    if runner == 2:
        path = os.pathsep.join([str(SECOND), *filter(None, [os.environ.get("PYTHONPATH")])])
        found |= {"TRITON_INTERPRET": "1", "PYTHONPATH": path}
        found |= {"VLLM_WORKER_MULTIPROC_METHOD": "spawn", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    return found


def head(length: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(3, 256) for _ in range(length)]


def compare(author: Author, reference: Any, steps: int = STEPS) -> dict[str, Compared]:
    """Let an engine write all kinds at once, and compare each."""
    seed = 1
    top = Segment(Context(), head(45, seed))
    live = [Segment(Context.flow([top]), [60 + index, 7]) for index in range(2)]
    for own in live:
        own.views = [(0, Context.flow([top, *(one for one in live if one is not own)]))]
    base, root = Context.given(head(50, seed + 1)), Context.given(head(37, seed + 2))
    paths = [Segment(base, [10 + number, 7], path=number) for number in (1, 3)]
    branches = [Segment(root, [20 + index]) for index in range(2)]
    text = Segment(Context(), head(60, seed + 3))
    counts = steps // 3, steps // 2
    ids = author.gang(live, [steps] * 2) + author.gang(paths, [steps] * 2)
    ids += [author.start(one, count) for one, count in zip(branches, counts, strict=True)]
    ids.append(author.start(text, steps))
    author.driver.run(*ids)
    for own, id in zip([*live, *paths, *branches, text], ids, strict=True):
        author.end(own, id)
    summary = Segment(base.join([base.after(path) for path in paths]), [9])
    conclusion = Segment(root.join([root.after(branch) for branch in branches]), [9])
    author.write([summary, conclusion], steps)
    author.steps([top])
    author.in_step(live, [2] * 2)
    marked = [base.entries[0].segment, *paths, summary]
    joined = [root.entries[0].segment, *branches, conclusion]
    author.steps([*marked, *joined, text])
    wanted = {
        "join": (joined, sum(counts) + steps),
        "live": ([top, *live], 2 * steps),
        "paths": (marked, 3 * steps),
        "plain": ([text], steps),
    }
    return {
        kind: Compared((found := author.compare(reference, segments))[0], count, found[1])
        for kind, (segments, count) in wanted.items()
    }


class ServedDriver:
    """Sends requests to a server, as `Driver` gives them to an engine."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = ThreadPoolExecutor(32)
        self._running: dict[str, Future[Written]] = {}
        self._ids = itertools.count()
        self.written: dict[str, Written] = {}

    def add(
        self, tokens: Sequence[int], count: int = 1, note: Note | None = None, *stop: Any
    ) -> str:
        id = f"r{next(self._ids)}"
        self._running[id] = self._pool.submit(self._ask, list(tokens), count, note)
        return id

    def _ask(self, tokens: list[int], count: int, note: Note | None) -> Written:
        body: dict[str, Any] = {"model": "m", "prompt": tokens, "max_tokens": count}
        body |= {"temperature": 0, "ignore_eos": True, "logprobs": 0, "return_token_ids": True}
        body["vllm_xargs"] = note.arguments() if note else {}
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(
            f"{self._url}/completions", json.dumps(body).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=240) as answer:
            choice = json.load(answer)["choices"][0]
        logprobs = choice["logprobs"]["token_logprobs"]
        return Written(choice["token_ids"], logprobs, choice["finish_reason"])

    def run(self, *ids: str) -> list[Written]:
        for id in ids:
            self.written[id] = self._running[id].result()
        return [self.written[id] for id in ids]


def give_tokenizer(model: Path) -> None:
    """A tokenizer of one word for each token, which a server wants to have."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"t{one}": one for one in range(VOCABULARY)}, "t0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="t2").save_pretrained(model)


@contextmanager
def serving(model: Path, log: Path, runner: Runner = 1, *more: str) -> Iterator[str]:
    """vLLM's own server of a model, which has a tokenizer, with the plugin's live half."""
    live = engine_arguments("live")
    command = [
        *(*AS_MODULE, str(model), "--served-model-name", "m"),
        *("--dtype", "float32", "--enforce-eager", "--block-size", "32"),
        *("--max-model-len", "1024", "--max-num-seqs", "16", "--max-num-batched-tokens", "256"),
        *("--worker-cls", live["worker_cls"], "--scheduler-cls", live["scheduler_cls"]),
        *("--no-async-scheduling", "--kv-transfer-config", json.dumps(live["kv_transfer_config"])),
        *more,
    ]
    with started(command, log, environment(runner)) as running:
        yield running.url
