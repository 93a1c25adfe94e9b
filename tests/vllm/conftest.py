"""A real vLLM in this process, tiny random models, and an independent flat forward pass."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads spin for each other on a busy machine
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

import gc
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from reasoning.values.context import Segment
from reasoning.values.layout import flatten
from reasoning.vllm_plugin import Mode, engine_arguments
from reasoning.vllm_plugin.client import SegmentClient
from reasoning.vllm_plugin.note import Member, Note
from tests.support.flat_reference import Reference

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

VOCABULARY = 256
TIE = 2e-5
"""Log-probabilities that differ by less may come in another order from another processor."""


def pytest_sessionfinish() -> None:
    """Collect what vLLM's front ends leave open before pytest does, who takes it for a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            gc.collect()


SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "yarn": (
        "Llama",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10_000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 1024,
            }
        },
    ),
    "qwen3-gqa": ("Qwen3", {"num_key_value_heads": 1, "head_dim": 32}),
    "qwen2-gqa": ("Qwen2", {"num_attention_heads": 4, "num_key_value_heads": 2}),
}


@dataclass
class Written:
    """What a request wrote."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: str | None = None
    cached: int | None = None


class Driver:
    """A stock ``LLMEngine`` in this process, driven step by step."""

    def __init__(self, folder: Path, arguments: dict[str, Any]) -> None:
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        settings: dict[str, Any] = {
            "model": str(folder),
            "skip_tokenizer_init": True,
            "dtype": "float32",
            "enforce_eager": True,
            "block_size": 32,
            "max_model_len": 4096,
            "disable_log_stats": True,
            "seed": 0,
        }
        self.engine = LLMEngine.from_engine_args(EngineArgs(**settings | arguments))
        self.written: dict[str, Written] = {}
        self._ids = itertools.count()

    @property
    def scheduler(self) -> Any:
        return self.engine.engine_core.engine_core.scheduler

    @property
    def free_blocks(self) -> int:
        return int(self.scheduler.kv_cache_manager.block_pool.get_num_free_blocks())

    def add(
        self,
        tokens: Sequence[int],
        count: int = 1,
        note: Note | None = None,
        stop: Sequence[int] = (),
        **options: Any,
    ) -> str:
        from vllm import SamplingParams, TokensPrompt

        id = f"r{next(self._ids)}"
        self.written[id] = Written()
        parameters = SamplingParams(
            temperature=options.pop("temperature", 0.0),
            max_tokens=count,
            logprobs=0,
            detokenize=False,
            stop_token_ids=list(stop),
            ignore_eos=options.pop("ignore_eos", not stop),
            extra_args=note.arguments() if note else options.pop("extra_args", None),
            **options,
        )
        self.engine.add_request(id, TokensPrompt(prompt_token_ids=list(tokens)), parameters)
        return id

    def step(self) -> None:
        for out in self.engine.step():
            (one,) = out.outputs
            written = self.written[out.request_id]
            written.tokens = list(one.token_ids)
            written.logprobs = [
                entry[token].logprob
                for entry, token in zip(one.logprobs, one.token_ids, strict=True)
            ]
            written.finish = one.finish_reason
            written.cached = out.num_cached_tokens

    def run(self, *ids: str, steps: int = 5000) -> list[Written]:
        """Step until requests have finished (all of them, by default)."""
        wanted = ids or tuple(self.written)
        for _ in range(steps):
            if all(self.written[id].finish for id in wanted):
                return [self.written[id] for id in wanted]
            self.step()
        raise AssertionError("the requests made no progress")

    def close(self) -> None:
        from vllm.distributed import cleanup_dist_env_and_memory
        from vllm.distributed.kv_transfer import ensure_kv_transfer_shutdown

        self.engine.engine_core.shutdown()
        del self.engine
        ensure_kv_transfer_shutdown()
        cleanup_dist_env_and_memory()
        gc.collect()


class Author:
    """Has segments written by vLLM, and remembers in which step each token was computed."""

    def __init__(self, driver: Any, client: SegmentClient) -> None:
        self.driver = driver
        self.client = client
        self.clock = 0
        self.numbers = itertools.count()
        self.logprobs: dict[tuple[Segment, int], float] = {}
        """Of each generated token, by its index in its segment."""

    def start(
        self,
        segment: Segment,
        count: int,
        stop: Sequence[int] = (),
        member: Member | None = None,
        **options: Any,
    ) -> str:
        """Submit what lets a segment be written on, ``count`` tokens at most."""
        id = ""
        for asked in self.client.plan_requests(segment, member):
            limit = 1 if asked.fill else count
            stops = () if asked.fill else stop
            id = self.driver.add(asked.prompt, limit, asked.note, stops, **options)
        return id

    def end(self, segment: Segment, id: str) -> Written:
        """Append what a request wrote to its segment."""
        written = self.driver.written[id]
        for token, logprob in zip(written.tokens, written.logprobs, strict=True):
            self.logprobs[segment, len(segment)] = logprob
            segment.tokens.append(token)
        self.client.ended(segment)
        return written

    def gang(self, segments: Sequence[Segment], counts: Sequence[int], name: str = "") -> list[str]:
        """Submit a gang whose members write on in segments."""
        for segment in segments:
            self.client.reserve(segment)
        size, name = len(segments), name or f"gang {id(self)} {next(self.numbers)}"
        return [
            self.start(
                segment, count, member=Member(gang=name, size=size, member=index, pauses=False)
            )
            for index, (segment, count) in enumerate(zip(segments, counts, strict=True))
        ]

    def in_step(self, segments: Sequence[Segment], given: Sequence[int]) -> None:
        """Say that members computed their given tokens in one step and then one token a step."""
        for segment, first in zip(segments, given, strict=True):
            later = len(segment) - 1 - first
            segment.steps = [self.clock] * first + list(
                range(self.clock + 1, self.clock + 1 + later)
            )
        self.clock = max(segment.steps[-1] for segment in segments) + 1

    def write(self, segments: Sequence[Segment], count: int, **options: Any) -> None:
        """Let vLLM write on in segments at once that don't see each other."""
        ids = [self.start(segment, count, **options) for segment in segments]
        self.driver.run(*ids)
        for segment, id in zip(segments, ids, strict=True):
            self.end(segment, id)

    def steps(self, segments: Sequence[Segment]) -> None:
        """Say that segments were computed one after the other, with all of their tokens."""
        for segment in segments:
            segment.steps = list(range(self.clock, self.clock + len(segment)))
            self.clock += len(segment)

    def compare(self, reference: Reference, segments: Sequence[Segment]) -> tuple[int, float]:
        """How many generated tokens are the reference's likeliest, and the worst log-probability.

        All of them must be the likeliest, or as good as tied with it, which another processor may
        break otherwise; or the result is minus the number of the others.
        """
        starts, at = {}, 0
        for segment in segments:
            starts[segment] = at
            at += len(segment.steps)
        paths = [segment.path for segment in segments for _ in segment.steps]
        expected = reference(flatten(segments), paths).log_softmax(-1)
        rows, tokens, logprobs = [], [], []
        for (segment, index), logprob in self.logprobs.items():
            if segment in starts and index:
                rows.append(starts[segment] + index - 1)
                tokens.append(segment.tokens[index])
                logprobs.append(logprob)
        wanted, written = expected[rows], torch.tensor(tokens)
        own = wanted.gather(1, written[:, None])[:, 0]
        differing = int((wanted.max(-1).values - own > TIE).sum())
        worst = float((own - torch.tensor(logprobs)).abs().max())
        return -differing or len(rows), worst


def build_model(name: str, folder: Path) -> Path:
    """A tiny random model in a folder."""
    import transformers

    kind, extra = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES | extra)
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of tiny random models, and of the shipped one.

    ``NAME+paths`` has our identities of paths, ``NAME+published`` has ParaThinker's.
    """
    built: dict[str, Path] = {}

    def build(name: str) -> Path:
        if name == "shipped":
            from reasoning.models.catalog import shipped

            return shipped()["reason-5m"]
        base, _, marked = name.partition("+")
        if marked and name not in built:
            own = Reference(build(base))
            built[name] = own.identify(build(base), 7, published=marked == "published")
        if name not in built:
            built[name] = build_model(name, tmp_path_factory.mktemp(name))
        return built[name]

    return build


@pytest.fixture(scope="session")
def reference(model: Callable[[str], Path]) -> Callable[[str], Reference]:
    found: dict[str, Reference] = {}

    def build(name: str) -> Reference:
        if name not in found:
            base, _, marked = name.partition("+")
            found[name] = Reference(model(base))
            if marked:
                found[name].identify(model(base), 7, published=marked == "published")
        return found[name]

    return build


@pytest.fixture
def author_of() -> Callable[[], Author]:
    """An author without an engine, for what was written elsewhere."""
    return lambda: Author(None, SegmentClient("live"))


_alive: dict[str, tuple[tuple[Any, ...], Driver]] = {}


@pytest.fixture(scope="session")
def start(model: Callable[[str], Path]) -> Iterator[Callable[..., Author]]:
    """Gives a vLLM engine with the plugin; the one that runs already, if it was started alike."""
    pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")

    def build(
        name: str, mode: Mode, *, extra: dict[str, float] | None = None, **more: Any
    ) -> Author:
        key = (name, mode, repr(extra), repr(more))
        found = _alive.get("engine")
        if found is None or found[0] != key:
            if found is not None:
                _alive.pop("engine")[1].close()
            driver = Driver(model(name), engine_arguments(mode, **(extra or {})) | more)
            _alive["engine"] = key, driver
        return Author(_alive["engine"][1], SegmentClient(mode))

    yield build
    for _, driver in _alive.values():
        driver.close()
