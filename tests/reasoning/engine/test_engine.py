"""The engine's promises: exact, independent of the batch, and free of leaks."""

from __future__ import annotations

import itertools
import json
import platform
import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import InvalidValue
from reasoning.engine.config import read_config
from reasoning.engine.decoders import compiling
from reasoning.engine.decoders.compiled import CompiledDecoder
from reasoning.engine.decoders.llama import NativeDecoder
from reasoning.engine.decoders.loading import load_decoder
from reasoning.engine.engine import Engine
from reasoning.engine.identities import PATHS_FILE, VECTORS
from reasoning.errors import ModelUnusable
from reasoning.models.loaded import LoadedModel
from reasoning.problems import countdown
from reasoning.values.context import Context, Segment
from reasoning.values.sampling import Sampling

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function from a transformers architecture to (saved folder, the model itself)."""

    def build(kind: str, **extra: Any) -> tuple[Path, Any]:
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**SIZES | extra)
        model = getattr(transformers, f"{kind}ForCausalLM")(config).eval().float()
        for parameter in model.parameters():  # as most models are published
            parameter.data = parameter.data.bfloat16().float()
        folder = tmp_path_factory.mktemp(kind)
        model.save_pretrained(folder)
        return folder, model

    return build


@pytest.fixture(scope="session")
def endless(random_model: Any) -> Engine:
    """A random model that never ends a thread by itself."""
    return Engine.load(random_model("Llama", eos_token_id=None, vocab_size=1024)[0])


def start(engine: Engine, prompt: Sequence[int], sampling: Sampling, **options: Any) -> int:
    """Open a thread on a prompt that it shares with nobody."""
    return engine.open(Segment(Context(), prompt), sampling, **options)


def drain(engine: Engine, ids: Sequence[int]) -> dict[int, list[tuple[int, float]]]:
    """Step until nothing runs; the tokens and log-probabilities of each thread."""
    out: dict[int, list[tuple[int, float]]] = {id: [] for id in ids}
    while engine.running:
        for token in engine.step():
            out[token.thread].append((token.token, token.logprob))
    return out


def generate(
    engine: Engine, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling], limit: int
) -> list[list[int]]:
    ids = [
        start(engine, prompt, sampling, limit=limit)
        for prompt, sampling in zip(prompts, samplings, strict=True)
    ]
    out = drain(engine, ids)
    for id in ids:
        engine.close(id)
    return [[token for token, _ in out[id]] for id in ids]


@pytest.mark.parametrize("length", [10, 100])
@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("Llama", {}),
        ("Llama", {"tie_word_embeddings": True}),
        ("Qwen2", {}),
        ("Qwen3", {"head_dim": 32}),
        ("Qwen3", {"head_dim": 32, "attention_bias": True}),
        ("Mistral", {"sliding_window": None}),
        ("Mistral", {"sliding_window": 16}),
        ("Phi", {}),
        ("Llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}),
    ],
    ids=[
        "llama",
        "llama-tied",
        "qwen2",
        "qwen3",
        "qwen3-biased",
        "mistral",
        "mistral-windowed",
        "phi",
        "llama-scaled-rope",
    ],
)
def test_greedy_decoding_equals_transformers(
    random_model: Any, kind: str, extra: dict[str, Any], length: int
) -> None:
    folder, model = random_model(kind, **extra)
    engine = Engine.load(folder)
    prompt = [3 + (7 * i) % 120 for i in range(length)]
    id = start(engine, prompt, Sampling(), limit=length + 30)
    got = drain(engine, [id])[id]
    flat = torch.tensor([prompt + [token for token, _ in got]])
    with torch.inference_mode():
        logprobs = torch.log_softmax(model(flat).logits[0, length - 1 : -1].float(), -1)
    assert [token for token, _ in got] == logprobs.argmax(-1).tolist()
    expected = logprobs.gather(-1, flat[0, length:, None]).squeeze(-1)
    assert torch.allclose(torch.tensor([p for _, p in got]), expected, atol=2e-4)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("Llama", {}),
        ("Llama", {"tie_word_embeddings": True, "intermediate_size": 90, "vocab_size": 125}),
        ("Qwen2", {}),
        ("Qwen3", {"head_dim": 32, "num_key_value_heads": 1}),
    ],
    ids=["llama", "llama-odd-sizes", "qwen2", "qwen3-one-kv-head"],
)
def test_the_compiled_step_equals_the_torch_step(
    random_model: Any, monkeypatch: pytest.MonkeyPatch, kind: str, extra: dict[str, Any]
) -> None:
    folder, _ = random_model(kind, eos_token_id=None, **extra)
    compiled = Engine.load(folder)
    monkeypatch.setenv("REASON_COMPILE", "0")
    plain = Engine.load(folder)
    assert type(compiled.decoder) is CompiledDecoder
    assert type(plain.decoder) is NativeDecoder
    context = Context.given([3 + (7 * i) % 120 for i in range(100)])
    got, expected = (
        drain(engine, [engine.open(Segment(context), Sampling(), limit=140) for _ in range(3)])
        for engine in (compiled, plain)
    )
    for id, tokens in expected.items():
        assert [token for token, _ in got[id]] == [token for token, _ in tokens]
        assert [p for _, p in got[id]] == pytest.approx([p for _, p in tokens], abs=2e-4)


@pytest.mark.skipif(
    shutil.which("g++") is None or platform.machine() != "x86_64", reason="needs g++ for x86-64"
)
@pytest.mark.parametrize("lacking", ["-mno-avx512f", "-mno-avx"])
def test_the_compiled_step_computes_the_same_where_vectors_are_short(
    random_model: Any, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    folder, _ = random_model("Llama", eos_token_id=None, intermediate_size=90, vocab_size=125)
    monkeypatch.setattr(compiling, "FLAGS", (*compiling.FLAGS, lacking))
    short = Engine.load(folder)
    assert type(short.decoder) is CompiledDecoder
    monkeypatch.setenv("REASON_COMPILE", "0")
    prompts = [[1, 3 + i % 5, 4, 5 + i] for i in range(13)]  # blocks of each size
    samplings = [Sampling()] * len(prompts)
    got = generate(short, prompts, samplings, 40)
    assert got == generate(Engine.load(folder), prompts, samplings, 40)
    assert got[:1] == generate(short, prompts[:1], samplings[:1], 40)


def test_the_compiled_step_leaves_the_process_its_subnormal_numbers(shipped: LoadedModel) -> None:
    assert (
        isinstance(shipped.backend.engine.decoder, CompiledDecoder) or shutil.which("g++") is None
    )
    assert sys.float_info.min / 2 > 0


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32])
def test_the_compiled_step_changes_no_weight(random_model: Any, kind: torch.dtype) -> None:
    folder, _ = random_model("Llama")
    native = NativeDecoder.load(folder, read_config(folder), torch.float32)
    matrices = [m for layer in native.layers for m in layer if m is not None and m.dim() == 2]
    for matrix in (native.head, *matrices):
        matrix.mul_(1 + 3 * torch.finfo(kind).eps)
        matrix.copy_(matrix.to(kind))
    compiled = CompiledDecoder.build(native)
    assert compiled is not None
    assert compiled.weights is kind
    context = Context.given([5, 9, 70])
    ((expected,), (got,)) = (
        drain(engine, [engine.open(Segment(context), Sampling(), limit=40)]).values()
        for engine in (Engine(native), Engine(compiled))
    )
    assert [token for token, _ in got] == [token for token, _ in expected]
    assert [p for _, p in got] == pytest.approx([p for _, p in expected], abs=2e-4)


def test_a_thread_stops_at_the_end_token(random_model: Any) -> None:
    folder, _ = random_model("Llama")
    engine = Engine.load(folder)
    for start in range(40):
        prompt = [3 + start, 4, 5]
        (got,) = generate(engine, [prompt], [Sampling()], 60)
        if 2 in got:
            assert got[-1] == 2
            assert got.count(2) == 1
            return
    pytest.fail("no prompt led to an end token")


def test_a_batch_cut_into_lanes_writes_what_it_writes_in_one(random_model: Any) -> None:
    folder, _ = random_model("Llama", eos_token_id=None)
    prompts = [[1, 3 + i % 5, 4, 5 + i] for i in range(64)]
    samplings = [Sampling(temperature=0.8 * (i % 2), seed=i) for i in range(64)]
    one, two = (
        generate(Engine.load(folder, lanes=lanes), prompts, samplings, 60) for lanes in (1, 2)
    )
    assert one == two


def test_a_thread_is_the_same_alone_and_in_a_batch_of_64(shipped: LoadedModel) -> None:
    engine, dialect = shipped.backend.engine, shipped.dialect
    rng = random.Random(3)
    contexts = [dialect.prompt(countdown.generate(rng)) for _ in range(64)]
    prompts = [context.entries[0].segment.tokens for context in contexts]
    samplings = [Sampling(temperature=0.8 * (i % 2), seed=i) for i in range(64)]
    together = generate(engine, prompts, samplings, 120)
    for index in (0, 1, 30, 63):
        (alone,) = generate(engine, [prompts[index]], [samplings[index]], 120)
        assert alone == together[index]


@pytest.mark.parametrize("length", [12, 90])
def test_samples_that_share_a_prompt_equal_samples_that_do_not(
    endless: Engine, length: int
) -> None:
    prompt = [(11 * i) % 900 for i in range(length)]
    samplings = [Sampling(temperature=1.0, seed=seed) for seed in range(10, 18)]
    context = Context.given(prompt)
    ids = [endless.open(Segment(context), s, limit=length + 24) for s in samplings]
    shared = list(drain(endless, ids).values())
    apart = []
    for sampling in samplings:
        id = start(endless, prompt, sampling, limit=length + 24)
        apart += drain(endless, [id]).values()
        endless.close(id)
    for id in ids:
        endless.close(id)
    # Rounding differs, so that a draw may rarely fall on the other side of a border.
    assert sum(map(_same_text, shared, apart)) >= 7
    for one, other in zip(shared, apart, strict=True):
        both = zip(one, other, strict=True)
        agreeing = list(itertools.takewhile(lambda pair: pair[0][0] == pair[1][0], both))
        assert all(a[1] == pytest.approx(b[1], abs=2e-4) for a, b in agreeing)
    assert len({tuple(token for token, _ in sample) for sample in shared}) > 1


def _same_text(one: list[tuple[int, float]], other: list[tuple[int, float]]) -> bool:
    return [token for token, _ in one] == [token for token, _ in other]


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others(
    endless: Engine,
) -> None:
    prompt = [1, 2, 3]
    one, again, other = (
        generate(endless, [prompt], [Sampling(temperature=1.0, seed=seed)], 40)[0]
        for seed in (5, 5, 6)
    )
    assert one == again
    assert one != other


@pytest.mark.parametrize("length", [6, 80])
def test_an_extended_thread_equals_a_fresh_one_on_the_whole_text(
    random_model: Any, length: int
) -> None:
    folder, _ = random_model("Llama")
    engine = Engine.load(folder)
    prompt = [3 + (5 * i) % 100 for i in range(length)]
    (plain,) = generate(engine, [prompt], [Sampling()], length + 20)
    stop = plain[4]
    id = start(engine, prompt, Sampling(), stop=[stop], limit=200)
    first = [token for token, _ in drain(engine, [id])[id]]
    appended = [9, 8, 7]
    engine.extend(id, appended)
    second = [token for token, _ in drain(engine, [id])[id]]
    (fresh,) = generate(
        engine, [prompt + first + appended], [Sampling()], length + len(first) + 3 + 12
    )
    shortest = min(len(second), len(fresh))
    assert first == plain[: len(first)]
    assert second[:shortest] == fresh[:shortest]
    assert shortest > 0


def test_closing_a_thread_frees_its_slot_and_leaves_the_others_unchanged(
    endless: Engine,
) -> None:
    prompts = [[i, 2, 3] for i in range(4)]
    samplings = [Sampling(temperature=1.0, seed=seed) for seed in range(4)]
    expected = generate(endless, prompts, samplings, 40)
    assert endless.running == 0
    ids = [start(endless, p, s, limit=40) for p, s in zip(prompts, samplings, strict=True)]
    out: dict[int, list[int]] = {id: [] for id in ids}
    for _ in range(5):
        for token in endless.step():
            out[token.thread].append(token.token)
    assert endless.running == 4
    endless.close(ids[1])
    assert endless.running == 3
    for id, rest in drain(endless, ids).items():
        out[id] += [token for token, _ in rest]
    assert out[ids[1]] == expected[1][:5]
    assert [out[id] for id in (ids[0], ids[2], ids[3])] == [expected[i] for i in (0, 2, 3)]
    for id in ids:
        endless.close(id)
    assert endless.running == endless.open_threads == 0


@pytest.mark.parametrize("read", [3, 5, 8])
def test_what_nobody_read_of_a_closed_thread_is_forgotten(endless: Engine, read: int) -> None:
    base = Context.given([7, 2, 3])
    (whole,) = generate(endless, [[7, 2, 3]], [Sampling()], 16)
    branch = Segment(base)
    id = endless.open(branch, Sampling(), limit=16)
    for _ in range(8):
        endless.step()
    endless.close(id, read=read)
    branch.tokens += whole[:read]
    fork = endless.open(Segment(base.after(branch)), Sampling(), limit=16)
    scored = endless.score(Segment(base.after(branch), whole[read:]))
    out = drain(endless, [fork, scored])
    endless.close(fork)
    endless.close(scored)
    assert [token for token, _ in out[fork]] == whole[read:]
    assert [p for _, p in out[scored]] == pytest.approx([p for _, p in out[fork]], abs=2e-4)


def test_an_engine_goes_on_with_other_weights_once_no_thread_is_open(random_model: Any) -> None:
    folder, model = random_model("Llama")
    engine, prompt, sampling = Engine.load(folder), [5, 6, 7], Sampling()
    before = generate(engine, [prompt], [sampling], 20)
    for parameter in model.parameters():
        parameter.data *= -1
    model.save_pretrained(folder)
    id = start(engine, prompt, sampling)
    with pytest.raises(InvalidValue, match="close them"):
        engine.replace(load_decoder(folder, torch.float32, "cpu"))
    engine.close(id)
    other = random_model("Llama", num_hidden_layers=1)[0]
    with pytest.raises(InvalidValue, match="another shape"):
        engine.replace(load_decoder(other, torch.float32, "cpu"))
    engine.replace(load_decoder(folder, torch.float32, "cpu"))
    after = generate(engine, [prompt], [sampling], 20)
    assert after == generate(Engine.load(folder), [prompt], [sampling], 20) != before


def test_more_threads_than_slots_wait_their_turn(random_model: Any) -> None:
    folder, _ = random_model("Llama")
    engine = Engine.load(folder)
    prompts = [[3 + i, 4] for i in range(9)]
    samplings = [Sampling(temperature=1.0, seed=seed) for seed in range(9)]
    expected = generate(engine, prompts, samplings, 20)
    narrow = Engine(engine.decoder, slots=2)
    assert generate(narrow, prompts, samplings, 20) == expected


def test_the_context_limit_counts_the_prompt(endless: Engine) -> None:
    id = start(endless, [1, 2, 3, 4], Sampling(), limit=10)
    tokens = [step for _ in range(20) for step in endless.step()]
    endless.close(id)
    assert len(tokens) == 6
    assert tokens[-1].reason == "length"


@pytest.mark.parametrize(
    ("prompt", "limit", "message"),
    [([], 10, "empty"), ([1] * 10, 10, "shorten"), ([1] * 600, None, "shorten")],
)
def test_a_prompt_that_does_not_fit_is_refused(
    endless: Engine, prompt: list[int], limit: int | None, message: str
) -> None:
    with pytest.raises(InvalidValue, match=message):
        start(endless, prompt, Sampling(), limit=limit)
    assert endless.running == 0


def test_a_thread_that_ended_cannot_be_extended(endless: Engine) -> None:
    id = start(endless, [1, 2], Sampling(), limit=6)
    drain(endless, [id])
    with pytest.raises(InvalidValue, match="can't be extended"):
        endless.extend(id, [3])
    endless.close(id)


@dataclass
class Trace:
    """A thread of the fuzz test: where it started, what was appended, and what it wrote."""

    prompt: list[int]
    seed: int
    appended: list[int] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    stopped: bool = False


STOP = list(range(0, 1024, 6))


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from(["open", "step", "step", "close", "extend"]), st.integers(0, 99)),
        max_size=60,
    )
)
def test_whatever_happens_around_it_a_thread_writes_what_it_writes_alone(
    endless: Engine, operations: list[tuple[str, int]]
) -> None:
    alive: dict[int, Trace] = {}
    traces: list[Trace] = []
    for kind, number in operations:
        id = list(alive)[number % len(alive)] if alive else -1
        if kind == "open":
            trace = Trace([number, 2, 3] if number % 2 else [number + i for i in range(70)], number)
            sampling = Sampling(temperature=1.0, seed=number)
            alive[start(endless, trace.prompt, sampling, stop=STOP, limit=100)] = trace
            traces.append(trace)
        elif kind == "step":
            for token in endless.step():
                alive[token.thread].written.append(token.token)
                alive[token.thread].stopped = token.reason == "stop"
        elif kind == "close" and alive:
            endless.close(id)
            del alive[id]
        elif kind == "extend" and alive and alive[id].stopped:
            endless.extend(id, [number])
            alive[id].appended.append(number)
            alive[id].stopped = False
    for id in alive:
        endless.close(id)
    assert endless.running == endless.open_threads == 0
    for trace in traces:
        assert _alone(endless, trace) == trace.written


def _alone(engine: Engine, trace: Trace) -> list[int]:
    sampling = Sampling(temperature=1.0, seed=trace.seed)
    id = start(engine, trace.prompt, sampling, stop=STOP, limit=100)
    appended = list(trace.appended)
    out: list[int] = []
    while len(out) < len(trace.written):
        (token,) = engine.step()
        out.append(token.token)
        if token.reason == "stop" and appended:
            engine.extend(id, [appended.pop(0)])
    engine.close(id)
    return out


@pytest.mark.parametrize(
    ("kind", "extra", "reason"),
    [
        ("Gemma2", {"head_dim": 16}, "soft-capped"),
    ],
)
def test_an_architecture_that_is_not_exact_is_refused_by_name(
    random_model: Any, kind: str, extra: dict[str, Any], reason: str
) -> None:
    folder, _ = random_model(kind, **extra)
    with pytest.raises(ModelUnusable, match=reason):
        Engine.load(folder)


def test_an_architecture_without_rotary_positions_is_refused(tmp_path: Path) -> None:
    config = transformers.GPT2Config(
        vocab_size=64, n_embd=32, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(ModelUnusable, match="rotary"):
        Engine.load(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_hidden_layers", "two"),
        ("num_hidden_layers", 0),
        ("max_position_embeddings", None),
        ("num_attention_heads", 0),
        ("num_key_value_heads", 3),
        ("rms_norm_eps", "x"),
        ("hidden_size", 48),
        ("eos_token_id", "x"),
        ("quantization_config", {"quant_method": "fp8"}),
    ],
)
def test_a_config_that_does_not_fit_is_refused_when_loading(
    random_model: Any, tmp_path: Path, field: str, value: Any
) -> None:
    folder, _ = random_model("Llama")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {field: value}))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(ModelUnusable):
        Engine.load(tmp_path)


def test_a_model_folder_runs_no_code_of_its_own(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    maps = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    config = {**SIZES, "model_type": "evil", "auto_map": maps}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelUnusable):
        Engine.load(tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize("temperature", [1e-40, 1e-3, 10.0])
def test_any_temperature_above_zero_samples(endless: Engine, temperature: float) -> None:
    (tokens,) = generate(endless, [[1, 2]], [Sampling(temperature=temperature)], 8)
    (greedy,) = generate(endless, [[1, 2]], [Sampling()], 8)
    assert len(tokens) == 6
    assert temperature > 1e-3 or tokens == greedy


@pytest.mark.parametrize(
    "damage",
    [
        "cut",
        "missing tensor",
        "no weights",
        "config not json",
        "identities cut",
        "vectors of a layer missing",
        "vectors of another shape",
        "vectors of another layer",
        "vectors and a file",
        "others' identities",
    ],
)
def test_a_broken_folder_is_refused_with_what_to_do(
    random_model: Any, tmp_path: Path, damage: str
) -> None:
    from safetensors.torch import load_file, save_file

    folder, _ = random_model("Llama")
    weights = folder / "model.safetensors"
    broken = tmp_path / "model.safetensors"
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    if damage == "cut":
        broken.write_bytes(weights.read_bytes()[:1000])
    elif damage == "missing tensor":
        tensors = load_file(weights)
        del tensors["model.norm.weight"]
        save_file(tensors, broken)
    elif damage == "config not json":
        (tmp_path / "config.json").write_text("{")
    elif "identities" in damage:
        broken.write_bytes(weights.read_bytes())
        save_file({"path_identity": torch.zeros(99, 8, 4)}, tmp_path / PATHS_FILE)
        if damage == "identities cut":
            (tmp_path / PATHS_FILE).write_bytes((tmp_path / PATHS_FILE).read_bytes()[:50])
    elif "vectors" in damage:
        tensors = load_file(weights)
        for layer in range(1 if "missing" in damage else 4 if "another layer" in damage else 3):
            tensors[VECTORS.format(layer)] = torch.zeros(32, 15 if "shape" in damage else 16)
        save_file(tensors, broken)
        if "file" in damage:
            save_file({"path_identity": torch.zeros(3, 8, 16)}, tmp_path / PATHS_FILE)
    named = (
        PATHS_FILE if "and a file" in damage else "seg_embeddings" if "vectors" in damage else ""
    )
    with pytest.raises(ModelUnusable, match=f"{named}.*(download|remove)"):
        Engine.load(tmp_path)
