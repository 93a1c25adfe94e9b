"""Published families' runs against one flat forward pass with each one's mask and positions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tests.support.flat_reference import Reference
from tests.support.published import FAMILIES, Family, Laid, Writing, flat
from tests.support.watched_engine import Case, random_model

pytest.importorskip("transformers")

BOUND = 2e-4
KINDS = {
    "llama": ("Llama", {}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"num_key_value_heads": 1, "head_dim": 16}),
}


class Subject(NamedTuple):
    """A model in an engine, and an independent one of the same weights."""

    engine: Case
    reference: Reference


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Subject]:
    built: dict[tuple[str, bool], Subject] = {}

    def build(name: str, vectors: bool) -> Subject:
        if (name, vectors) not in built:
            kind, extra = KINDS[name]
            folder: Path = random_model(tmp_path_factory.mktemp(name), kind, **extra)
            reference = Reference(folder)
            if vectors:
                folder = reference.identify(folder, 3, published=True)
            engine = Case.load(folder)
            assert isinstance(engine, Case)
            built[name, vectors] = Subject(engine, reference)
        return built[name, vectors]

    return build


def written(engine: Case, family: Family) -> Writing:
    """A family's run on an engine."""
    engine.watch()
    run = Writing(lambda begun, counts: engine.write_each(begun, counts))
    family.run(run)
    return run


def difference(subject: Subject, run: Writing, layout: Callable[[Laid], None]) -> float:
    """The largest one between the engine's logits and those of a layout."""
    laid = Laid({name: segment.tokens for name, segment in run.segments.items()})
    layout(laid)
    assert laid.spans.keys() == run.segments.keys()
    own, paths, starts = flat({name: laid.spans[name] for name in run.segments})
    expected = subject.reference(own, paths)
    names = {segment: name for name, segment in run.segments.items()}
    rows = [starts[names[segment]] + index for segment, index in subject.engine.logits]
    got = torch.stack(list(subject.engine.logits.values()))
    assert len(rows) >= 20
    return float((got - expected[rows]).abs().max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_familys_run_equals_its_authors_computation(
    subject: Callable[[str, bool], Subject], name: str, kind: str
) -> None:
    family = FAMILIES[name]
    found = subject(kind, family.vectors)
    run = written(found.engine, family)
    assert difference(found, run, family.layout) < BOUND
    for other, layout in family.wrong.items():
        assert difference(found, run, layout) > 1e-2, other


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_model_has_learned_for_prompts_and_summaries_counts(
    subject: Callable[[str, bool], Subject], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    family = FAMILIES["ParaThinker, as trained"]
    found = subject(kind, True)
    run = written(found.engine, family)
    assert found.reference.identities is not None
    without = found.reference.identities.clone()
    without[:, 0] = 0
    monkeypatch.setattr(found.reference, "identities", without)
    assert difference(found, run, family.layout) > 1e-2
