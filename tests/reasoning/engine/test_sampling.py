"""How tokens are drawn: what is cut off, what is taken off, and that others don't matter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reasoning.engine.sampling import Sampler, sample
from reasoning.values.sampling import Sampling

ROW = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0])


def drawn(count: int = 400, **knobs: Any) -> set[int]:
    """The tokens that are drawn from `ROW`."""
    sampler = Sampler(Sampling(**{"temperature": 1.0, **knobs}))
    return {sample(ROW[None], [sampler])[0][0] for _ in range(count)}


@pytest.mark.parametrize(
    ("knobs", "tokens"),
    [
        ({}, {0, 1, 2, 3, 4}),
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 0}, {0, 1, 2, 3, 4}),
        ({"top_k": 99}, {0, 1, 2, 3, 4}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.6}, {0, 1}),
        ({"top_p": 0.001}, {0}),
        ({"min_p": 0.3}, {0, 1}),
        ({"min_p": 1.0}, {0}),
        ({"top_k": 3, "top_p": 0.9}, {0, 1, 2}),
        ({"logit_bias": {0: -100, 4: 100}}, {4}),
        ({"temperature": 0.0, "logit_bias": {3: 50}}, {3}),
    ],
)
def test_only_the_tokens_that_are_left_are_drawn(knobs: dict[str, Any], tokens: set[int]) -> None:
    assert drawn(**knobs) == tokens


def test_penalties_fall_on_what_was_written_and_repetition_on_what_was_seen() -> None:
    greedy = {"temperature": 0.0}
    presence = Sampler(Sampling(**greedy, presence_penalty=1.5))
    assert [sample(ROW[None], [presence])[0][0] for _ in range(3)] == [0, 1, 0]
    frequency = Sampler(Sampling(**greedy, frequency_penalty=0.8))
    assert [sample(ROW[None], [frequency])[0][0] for _ in range(4)] == [0, 0, 1, 2]
    seen = Sampler(Sampling(**greedy, repetition_penalty=3.0))
    seen.see([0])
    assert [sample(ROW[None], [seen])[0][0] for _ in range(2)] == [1, 0]
    unseen = Sampler(Sampling(**greedy, presence_penalty=2.0))
    unseen.see([0, 1])
    assert sample(ROW[None], [unseen])[0] == [0]


def test_log_probabilities_are_the_models_own() -> None:
    sampler = Sampler(Sampling(temperature=0.5, top_k=1, logit_bias={1: 9.0}))
    tokens, logprobs = sample(ROW[None], [sampler])
    assert tokens == [1]
    assert logprobs == pytest.approx([float(torch.log_softmax(ROW, -1)[1])])


knobs = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.0, 0.5, 1.0]),
        "top_p": st.sampled_from([0.3, 0.9, 1.0]),
        "top_k": st.integers(0, 6),
        "min_p": st.sampled_from([0.0, 0.2]),
        "repetition_penalty": st.sampled_from([0.8, 1.0, 1.3]),
        "presence_penalty": st.sampled_from([-1.0, 0.0, 0.7]),
        "frequency_penalty": st.sampled_from([0.0, 0.4]),
        "logit_bias": st.sampled_from([{}, {2: 1.5}]),
        "seed": st.integers(0, 9),
    },
)


@given(st.lists(knobs, min_size=1, max_size=4), st.integers(0, 99))
def test_a_threads_tokens_depend_on_nobody_elses(rows: list[dict[str, Any]], seed: int) -> None:
    logits = torch.randn(6, len(rows), 5, generator=torch.Generator().manual_seed(seed))
    together = [Sampler(Sampling(**row)) for row in rows]
    alone = [Sampler(Sampling(**row)) for row in rows]
    for step in logits:
        single = [sample(step[n][None], [one])[0][0] for n, one in enumerate(alone)]
        assert sample(step, together)[0] == single
