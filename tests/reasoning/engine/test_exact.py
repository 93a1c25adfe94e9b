"""The engine against a flat forward pass: forks, joins, live and flowing contexts are exact."""

from __future__ import annotations

import gc
import itertools
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from orchestrator.errors import InvalidValue
from reasoning.backends.embedded import EmbeddedBackend
from reasoning.engine import engine as engine_module
from reasoning.engine.decoders.compiled import CompiledDecoder
from reasoning.engine.decoders.loading import load_decoder
from reasoning.engine.threads import ThreadFailure
from reasoning.errors import PoolFull
from reasoning.run.run import Run
from reasoning.strategies import GroupThink, Hogwild, Multiverse, ParaThinker, Strategy
from reasoning.values.context import Context, Gang, Segment
from reasoning.values.layout import flatten
from reasoning.values.sampling import Sampling
from tests.support.flat_reference import Reference
from tests.support.reading import ReadEngine
from tests.support.sharing_tools import QUESTION, SOME, Fork, Letters, Paths, Share
from tests.support.watched_engine import ANY, VOCABULARY, Case, Watched, random_model

transformers = pytest.importorskip("transformers")

YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "rope_theta": 1e4,
    "original_max_position_embeddings": 128,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "qwen2": ("Qwen2", {}),
    "qwen3-gqa": ("Qwen3", {"num_key_value_heads": 1, "head_dim": 16}),
    "llama-yarn": ("Llama", {"rope_scaling": YARN}),
    "mistral-windowed": ("Mistral", {"sliding_window": 12}),
}


TOKEN = 2 * 3 * 2 * 16 * 4
"""Bytes of one token's keys and values."""


def prompt(length: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(3, VOCABULARY) for _ in range(length)]


def forks(engine: Case) -> list[Segment]:
    base = Context.given(prompt(20))
    paths = [Segment(base) for _ in range(3)]
    engine.close_all(engine.write(paths, 6))
    return [base.entries[0].segment, *paths]


def multiverse(engine: Case) -> list[Segment]:
    """Branches of unequal length, one with a fork of its own, joined without recomputation."""
    base = Context.given(prompt(9))
    paths = [Segment(base, [10 + i]) for i in range(3)]
    for path, length in zip(paths, (3, 6, 1), strict=True):
        engine.close_all(engine.write([path], length))
    nested_base = base.after(paths[0])
    nested = [Segment(nested_base, [20 + i]) for i in range(2)]
    engine.close_all(engine.write([nested[0]], 4) + engine.write([nested[1]], 2))
    inner = Segment(nested_base.join([nested_base.after(n) for n in nested]), [30])
    engine.close_all(engine.write([inner], 3))
    end = inner.context.after(inner)
    outer = Segment(base.join([end, base.after(paths[1]), base.after(paths[2])]), [31])
    assert outer.home == max(end.position, paths[1].home + len(paths[1]))
    engine.close_all(engine.write([outer], 4))
    return [base.entries[0].segment, *paths, *nested, inner, outer]


def thinkers(engine: Case, lag: int) -> list[Segment]:
    """Group Think: each thinker in a slot of positions of its own, all live to each other."""
    base = Context.given(prompt(10))
    slots = [Segment(Context(entries=base.entries, position=10 + 40 * i), [50]) for i in range(3)]
    for own in slots:
        others = [slot for slot in slots if slot is not own]
        own.look(own.context.seeing(*others, lag=lag))
    engine.close_all(engine.write(slots, 8, gang=Gang(size=3)))
    return [base.entries[0].segment, *slots]


def finished(engine: Case, lag: int) -> list[Segment]:
    """Thinkers that all stop in one step, each with a last token that the others see."""
    prompt_, *slots = thinkers(engine, lag)
    base = Context().after(prompt_)
    final = Segment(base.join([base.after(slot) for slot in slots]), [90])
    engine.close_all(engine.write([final], 5))
    return [prompt_, *slots, final]


def parathinker(engine: Case) -> list[Segment]:
    """Paths with an identity each, and a summary without one."""
    base = Context.given(prompt(20))
    paths = [Segment(base, [40 + i], path=i + 1) for i in range(3)]
    for path, length in zip(paths, (4, 6, 2), strict=True):
        engine.close_all(engine.write([path], length))
    final = Segment(base.join([base.after(path) for path in paths]), [50])
    engine.close_all(engine.write([final], 5))
    return [base.entries[0].segment, *paths, final]


def workers(engine: Case) -> list[Segment]:
    """Hogwild!: each worker last in its own view; finished steps move into the history."""
    head = Segment(Context(), prompt(12))
    live = [Segment(Context.flow([head]), [60 + i]) for i in range(3)]
    for own in live:
        own.look(Context.flow([head, *(one for one in live if one is not own), own][:-1]))
    ids = engine.write(live, 4, gang=Gang(size=3))
    every, history = [head, *live], [head]
    for turn in range(2):
        done = live[turn]
        history.append(done)
        live[turn] = Segment(Context.flow(history), [70 + turn])
        every.append(live[turn])
        for own in live:
            own.look(Context.flow([*history, *(one for one in live if one is not own)]))
        for id, own in zip(ids, live, strict=True):
            if own is live[turn]:
                engine.resume(id, own)
            else:
                engine.extend(id, [])
        engine.more(ids, 3)
    engine.close_all(ids)
    return every


PARADIGMS: dict[str, Callable[[Case], list[Segment]]] = {
    "fork": forks,
    "multiverse": multiverse,
    "group-think": lambda engine: thinkers(engine, 0),
    "group-think-lagging": lambda engine: thinkers(engine, 1),
    "group-think-finished": lambda engine: finished(engine, 0),
    "group-think-lagging-finished": lambda engine: finished(engine, 1),
    "hogwild": workers,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Reference]]:
    built: dict[str, tuple[Path, Reference]] = {}

    def build(name: str) -> tuple[Path, Reference]:
        if name not in built:
            kind, extra = MODELS[name]
            folder = random_model(tmp_path_factory.mktemp(name), kind, **extra)
            built[name] = folder, Reference(folder, extra.get("sliding_window"))
        return built[name]

    return build


def errors(engine: Watched, reference: Reference, segments: list[Segment]) -> Tensor:
    """The largest difference of each logit row; the likeliest tokens must be equal."""
    paths = [segment.path for segment in segments for _ in segment.steps]
    expected = reference(flatten(segments), paths)
    starts, at = {}, 0
    for segment in segments:
        starts[segment] = at
        at += len(segment.steps)
    rows = [(starts[s] + i, logits) for (s, i), logits in engine.logits.items() if s in starts]
    assert len(rows) >= 12
    got = torch.stack([logits for _, logits in rows])
    wanted = expected[[row for row, _ in rows]]
    return (got - wanted).abs().amax(-1) + (got.argmax(-1) != wanted.argmax(-1))


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_the_engine_equals_a_flat_forward_pass(
    model: Callable[[str], tuple[Path, Reference]],
    monkeypatch: pytest.MonkeyPatch,
    paradigm: str,
    name: str,
    compiled: bool,
) -> None:
    if not compiled:
        monkeypatch.setenv("REASON_COMPILE", "0")
    folder, reference = model(name)
    engine = Case.load(folder)
    assert isinstance(engine, Case)
    engine.watch()
    segments = PARADIGMS[paradigm](engine)
    assert errors(engine, reference, segments).max() < 2e-4


@pytest.mark.parametrize("published", [False, True], ids=["our file", "published"])
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3-gqa", "llama-yarn"])
def test_path_identities_equal_a_flat_forward_pass_with_them(
    model: Callable[[str], tuple[Path, Reference]],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    compiled: bool,
    published: bool,
) -> None:
    if not compiled:
        monkeypatch.setenv("REASON_COMPILE", "0")
    folder, _ = model(name)
    reference = Reference(folder, None)
    engine = Case.load(reference.identify(folder, 3, published=published))
    assert isinstance(engine, Case)
    could = compiled and shutil.which("g++") and engine.config.native
    assert isinstance(engine.decoder, CompiledDecoder) or not could
    engine.watch()
    segments = parathinker(engine)
    assert errors(engine, reference, segments).max() < 2e-4
    segments[2].path = 3
    assert errors(engine, reference, segments).max() > 1e-2
    segments[2].path = 2
    assert reference.identities is not None
    reference.identities[:, 0] = 0
    assert (errors(engine, reference, segments).max() > 1e-2) == published
    most = 31 if published else 3
    beyond = Segment(Context.given([5]), [6], path=most + 1)
    for segment in (beyond, Segment(Context().after(beyond), [7])):
        with pytest.raises(
            InvalidValue, match=f"path: {most + 1}, and the model has identities for {most}"
        ):
            engine.open(segment, Sampling())


BUILT: dict[str, Strategy] = {
    "combined": Hogwild(n=3, check_every=30),
    "contiguous": Hogwild(n=3, layout="contiguous"),
    "interleaved": Hogwild(n=3, layout="interleaved"),
    "blind": Hogwild(n=3, blind=True),
    "group-think": GroupThink(n=3),
    "group-think-lagging": GroupThink(n=3, lag=1),
    "parathinker": ParaThinker(n=3),
    "multiverse": Multiverse(n=3),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", BUILT)
async def test_what_a_strategy_builds_equals_a_flat_forward_pass(
    model: Callable[[str], tuple[Path, Reference]], name: str
) -> None:
    folder, reference = model("llama")
    engine = Watched.load(folder)
    assert isinstance(engine, Watched)
    engine.watch()
    dialect = Letters(
        fork_form=Fork(parts=3, deep=2),
        path_form=Paths(stop=SOME, any=True),
        share_form=Share(at=SOME, check="?", most=120),
    )
    async with EmbeddedBackend(engine) as backend:
        run = Run(
            problem=QUESTION,
            backend=backend,
            dialect=dialect,
            max_tokens=300,
            temperature=1.0,
            segments=cast("Any", set()),  # holds them, for us to look at
        )
        await BUILT[name].solve(run)
    assert len(run.segments) >= 4
    assert errors(engine, reference, list(run.segments)).max() < 2e-4


@pytest.mark.parametrize("damage", ["not turned", "a sibling seen", "a join unseen"])
def test_a_layout_that_is_not_the_engines_is_noticed(
    model: Callable[[str], tuple[Path, Reference]], damage: str
) -> None:
    folder, reference = model("llama")
    engine = Case.load(folder)
    assert isinstance(engine, Case)
    engine.watch()
    segments = (workers if damage == "not turned" else multiverse)(engine)
    flat = flatten(segments)
    if damage == "not turned":
        flat = flat._replace(turns=torch.zeros_like(flat.turns))
    elif damage == "a sibling seen":
        flat.mask[9 + len(segments[1].steps) :, 9 : 9 + len(segments[1].steps)] = True
    else:
        flat.mask[-3:, 9:20] = False
    expected = reference(flat)
    starts = dict(zip(segments, itertools.accumulate(len(s.steps) for s in segments), strict=True))
    wrong = [
        (logits - expected[starts[s] - len(s.steps) + i]).abs().max()
        for (s, i), logits in engine.logits.items()
    ]
    assert max(wrong) > 1e-2


def test_a_siblings_text_changes_the_conclusion_and_no_branch(
    model: Callable[[str], tuple[Path, Reference]],
) -> None:
    folder, _ = model("llama")
    engine = ReadEngine.load(folder)
    texts = []
    for other in (5, 6):
        base = Context.given(prompt(9))
        branch = Segment(base, [10])
        sibling = Segment(base, [11, other, other])
        ids = [engine.open(branch, Sampling(), limit=20)]
        while engine.running:
            engine.step()
        conclusion = Segment(base.join([base.after(branch), base.after(sibling)]), [12])
        ids.append(engine.open(conclusion, Sampling(), limit=40))
        while engine.running:
            engine.step()
        texts.append((branch.tokens, conclusion.tokens))
        for id in ids:
            engine.close(id)
    assert texts[0][0] == texts[1][0]
    assert texts[0][1] != texts[1][1]


@pytest.mark.parametrize("seed", range(12))
def test_forks_joins_and_releases_in_any_order_stay_exact_and_leak_nothing(
    model: Callable[[str], tuple[Path, Reference]], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    folder, reference = model("llama")
    if seed % 3 == 1:  # given tokens take many steps
        monkeypatch.setattr(engine_module, "FILLED_A_STEP", 3)
    # On every third the store is so full that most threads fail.
    engine = Case.load(folder, store_gib=4.0 if seed % 3 < 2 else 512 * TOKEN / 2**30)
    assert isinstance(engine, Case)
    engine.watch()
    engine.pool.poison = True
    _anything(engine, reference, random.Random(seed))
    assert bool(engine.failures) is (seed % 3 == 2)
    engine.logits.clear()
    gc.collect()
    engine.segments.sweep()
    assert engine.pool.used == 0


def _anything(engine: Case, reference: Reference, rng: random.Random) -> None:
    root = Context.given(prompt(10))
    ends, every = [root], [root.entries[0].segment]
    alone = every[:]  # what saw nobody grow
    for _ in range(24):
        kind, base = rng.choice("ffjgrc"), rng.choice(ends)
        if kind == "j":
            base = root.join(rng.sample(ends, min(2, len(ends))))
        if kind in "fj" and len(base) < 60:
            own = Segment(base, [rng.randrange(VOCABULARY)])
            engine.close_all(engine.write([own], 2))
            every.append(own)
            alone.append(own)
            ends.append(base.after(own))
        elif kind == "g" and len(base) < 60:  # they stop in the same step, and see each other
            size, lag = rng.randint(2, 3), rng.randrange(2)
            given = [[rng.randrange(VOCABULARY)] * rng.randint(1, 6) for _ in range(size)]
            cohort = [Segment(base, tokens) for tokens in given]
            for own in cohort:
                own.look(base.seeing(*(one for one in cohort if one is not own), lag=lag))
            gang = Gang(size=size, lockstep=True)
            engine.close_all(engine.write(cohort, rng.randint(1, 3), gang=gang))
            every += cohort
            ends.append(base.join([base.after(own) for own in cohort]))
        elif kind == "r":  # what is stored may go at any time; it is computed again
            engine.segments.release(rng.sample(alone, 1))
        elif kind == "c" and len(ends) > 1:
            ends.pop(rng.randrange(1, len(ends)))
    assert errors(engine, reference, every).max() < 2e-4


def test_a_gang_pauses_while_one_of_it_has_stopped_and_goes_on_with_it(
    model: Callable[[str], tuple[Path, Reference]],
) -> None:
    engine = ReadEngine.load(model("llama")[0])
    base = Context.given(prompt(10))
    one, other, gang = Segment(base), Segment(base), Gang(size=2)
    first = engine.open(one, Sampling(), stop=ANY, gang=gang)
    second = engine.open(other, Sampling(), limit=40, gang=gang)
    while engine.running:
        engine.step()
    assert (len(one), len(other)) == (1, 1)
    engine.extend(first, [])
    while engine.running:
        engine.step()
    assert (len(one), len(other)) == (2, 2)
    engine.close(first)
    while engine.running:
        engine.step()
    assert len(other) == 30
    engine.close(second)


@pytest.mark.parametrize("lockstep", [True, False])
def test_a_gang_begins_when_all_of_it_are_open(
    model: Callable[[str], tuple[Path, Reference]], lockstep: bool
) -> None:
    engine = ReadEngine.load(model("llama")[0])
    base, gang = Context.given(prompt(10)), Gang(size=3, lockstep=lockstep)
    segments = [Segment(base) for _ in range(3)]
    ids = []
    for segment in segments:
        assert not any(engine.step() for _ in range(3))
        ids.append(engine.open(segment, Sampling(), limit=15, gang=gang))
    assert len(engine.step()) == 3
    assert [len(segment) for segment in segments] == [1, 1, 1]
    for id in ids:
        engine.close(id)


def test_a_gang_in_lock_step_advances_as_a_whole_or_not_at_all(
    model: Callable[[str], tuple[Path, Reference]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "FILLED_A_STEP", 5)
    engine = ReadEngine(load_decoder(model("llama")[0], torch.float32, "cpu"), slots=4)
    base, gang = Context.given(prompt(10)), Gang(size=3, lockstep=True)
    segments = [Segment(base, [5] * (1 + 4 * i)) for i in range(3)]
    others = [engine.open(Segment(base, [i]), Sampling(), limit=30) for i in range(2)]
    ids = [engine.open(s, Sampling(), limit=60, gang=gang) for s in segments]
    lengths = set()
    for _ in range(80):
        engine.step()
        lengths.add(tuple(len(s) - 1 - 4 * i for i, s in enumerate(segments)))
        assert len(set(max(lengths, key=sum))) == 1
    assert max(lengths)[0] > 20
    engine.close(ids[0])
    for _ in range(80):  # one that has ended holds the others until it is closed
        engine.step()
    ended = max(map(len, segments[1:]))
    assert len(segments[2]) == ended == 60 - 10
    assert len(segments[1]) == ended - 4
    for id in (*ids, *others):
        engine.close(id)
    assert engine.running == 0


def test_a_full_store_makes_threads_wait_and_fails_those_that_never_fit(
    model: Callable[[str], tuple[Path, Reference]],
) -> None:
    folder, _ = model("llama")
    engine = ReadEngine.load(folder, store_gib=256 * TOKEN / 2**30)
    segments = [Segment(Context(), prompt(60, seed)) for seed in range(6)]
    ids = [engine.open(segments[i], Sampling(), limit=100) for i in range(6)]
    failed = []
    for _ in range(400):
        for item in engine.step():
            if isinstance(item, ThreadFailure):
                failed.append(item)
            if isinstance(item, ThreadFailure) or item.reason is not None:
                engine.close(item.thread)
                segments[ids.index(item.thread)] = Segment(Context())  # let go of it
    assert not engine.running
    assert all(isinstance(failure.error, PoolFull) for failure in failed)
    assert 1 <= len(failed) <= 4
