"""What the policy gradient promises, on models of a few thousand weights."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from reasoning.training.batches import Batch
from reasoning.training.markup.task import initialise
from reasoning.training.model import TrainableModel
from reasoning.training.recipe import SHAPES
from reasoning.training.reinforce.learner import (
    Learner,
    learnable,
    logprobs,
    policy_batches,
    surrogate,
)
from reasoning.training.reinforce.recipe import ReinforceRecipe
from reasoning.training.reinforce.rollouts import Group, Rollout, SampledThread, centred

SHAPE = replace(SHAPES["reason-1m"], hidden=32, layers=1, heads=2, intermediate=64)
ALONE = ReinforceRecipe(anchor=0.0, certain=0.0, batches=1, epochs=1, rate=0.01, warmup=1)
PROMPT = [1001, 7, 8]


def small_model() -> TrainableModel:
    torch.manual_seed(0)
    model = TrainableModel(SHAPE)
    initialise(model.model.embed_tokens.weight)
    return model


def no_demonstrations(step: int) -> Batch:
    raise AssertionError("an anchor of 0 needs none")


def thread_of(given: list[int], sampled: list[int], logprob: float = -1.0) -> SampledThread:
    thread = SampledThread()
    thread.give(given)
    for token in sampled:
        thread.take(token, logprob)
    return thread


def rollout_of(reward: float, *threads: SampledThread) -> Rollout:
    return Rollout([*threads], reward, reward > 0, span=1, work=1)


def test_an_advantage_is_the_reward_less_the_groups_mean() -> None:
    group = centred([rollout_of(reward) for reward in (1.2, 0.0, 1.0, 0.0)])
    assert [one.advantage for one in group] == pytest.approx([0.65, -0.55, 0.45, -0.55])


def test_all_threads_of_a_run_share_its_advantage_and_equal_groups_teach_nothing() -> None:
    one, other = thread_of(PROMPT, [3]), thread_of(PROMPT, [4])
    group = Group(centred([rollout_of(1.0, one, other), rollout_of(0.0, thread_of(PROMPT, [5]))]))
    equal = Group(group.rollouts, "equal")
    found = learnable([group, equal], ALONE, random.Random(0))
    assert [weight for _, weight in found] == [0.5, 0.5, -0.5]


def test_a_thread_that_hardly_surprised_is_taken_by_chance_and_weighs_more() -> None:
    sure = thread_of(PROMPT, [3], logprob=-0.05)
    group = Group(centred([rollout_of(1.0, *[sure] * 400), rollout_of(0.0)]))
    recipe = ReinforceRecipe(certain=0.2)
    found = [weight for _, weight in learnable([group], recipe, random.Random(0))]
    assert 60 <= len(found) <= 140
    assert set(found) == {2.0}  # half, by four


def by_hand(now: float, weight: float) -> tuple[float, float]:
    """A token's objective and its slope, where it was sampled with log-probability 0."""
    value = torch.tensor([now], requires_grad=True)
    gain = surrogate(value, torch.zeros(1), torch.tensor([weight]), 0.2)
    slope = 0.0
    if gain.requires_grad:
        slope = float(torch.autograd.grad(gain, value)[0])
    return float(gain.detach()), slope


@pytest.mark.parametrize(
    ("ratio", "weight", "gain", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (1.1, 2.0, 2.2, 2.2),
        (1.5, 2.0, 2.4, 0.0),  # enough was gained
        (0.5, 2.0, 1.0, 1.0),
        (0.5, -2.0, -1.6, 0.0),  # enough was taken off
        (1.5, -2.0, -3.0, -3.0),
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_a_token_gains_no_more_once_its_ratio_left_the_trusted_range(
    ratio: float, weight: float, gain: float, slope: float
) -> None:
    found = by_hand(float(torch.tensor(ratio).log()), weight)
    assert found == pytest.approx((gain, slope), abs=1e-5)


def gradient(model: TrainableModel, loss: Tensor) -> Tensor:
    return torch.autograd.grad(loss, model.model.embed_tokens.weight)[0]


def test_only_sampled_tokens_have_a_gradient_and_padding_changes_nothing() -> None:
    model = small_model()
    long, short = thread_of(PROMPT, [3, 4]), thread_of(PROMPT, [5])
    short.give([6, 9])
    long.give([2, 2, 2])
    for thread in (long, short):  # sampled by these very weights, so that each ratio is 1
        now = logprobs(model, torch.tensor([thread.tokens]))[0].tolist()
        thread.logprobs[1:] = [
            None if old is None else new for old, new in zip(thread.logprobs[1:], now, strict=True)
        ]
    (batch,) = policy_batches([(long, 0.5), (short, -0.5)])
    now = logprobs(model, batch.tokens)
    gain = surrogate(now, batch.before[:, 1:], batch.weights[:, 1:], 0.2)
    one = logprobs(model, torch.tensor([long.tokens[:5]]))[0, 2:]
    other = logprobs(model, torch.tensor([short.tokens[:4]]))[0, 2:]
    mine = 0.5 * one.sum() - 0.5 * other.sum()
    theirs = gradient(model, gain)
    assert torch.allclose(theirs, gradient(model, mine), atol=2e-3)
    assert theirs.abs().max() > 0.01


def test_the_reward_of_a_bandit_rises() -> None:
    """One of twenty tokens is sampled after a prompt; the five least likely ones are worth 1."""
    model = small_model()
    model.model.embed_tokens.weight.data *= 5  # it is not trained, and must tell tokens apart
    learner = Learner(model, ALONE, no_demonstrations)
    draw = torch.Generator().manual_seed(1)
    means: list[float] = []
    good: set[int] = set()
    for _ in range(40):
        with torch.no_grad():
            every = torch.tensor([[*PROMPT, token] for token in range(20)])
            chances = logprobs(model, every)[:, -1].softmax(0)
        good = good or set(chances.argsort()[:5].tolist())
        tokens = torch.multinomial(chances, 64, replacement=True, generator=draw).tolist()
        runs = [
            rollout_of(
                float(token in good),
                thread_of(PROMPT, [token], float(chances[token].log())),
            )
            for token in tokens
        ]
        means.append(sum(one.reward for one in runs) / len(runs))
        learner.learn([Group(centred(runs))])
    assert means[0] < 0.5
    assert means[-1] > 0.9


def test_what_was_learned_from_a_step_too_old_does_not_run_away() -> None:
    """Learning from one sample again and again stops once its ratio has left the range."""
    model = small_model()
    learner = Learner(model, ReinforceRecipe(**{**vars(ALONE), "rate": 1e-3}), no_demonstrations)
    with torch.no_grad():
        before = float(logprobs(model, torch.tensor([[*PROMPT, 3]]))[0, -1])
    group = Group(centred([rollout_of(1.0, thread_of(PROMPT, [3], before)), rollout_of(0.0)]))
    for _ in range(40):
        learner.learn([group])
    with torch.no_grad():
        after = float(logprobs(model, torch.tensor([[*PROMPT, 3]]))[0, -1])
    assert 0.18 < after - before < 2.0  # the optimizer's momentum carries it on a little
