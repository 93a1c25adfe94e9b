"""The policy gradient: what the sampled tokens of a round say about the weights."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import backward
from torch.nn import functional

from reasoning.training.batches import Batch
from reasoning.training.model import TrainableModel
from reasoning.training.reinforce.recipe import ReinforceRecipe
from reasoning.training.reinforce.rollouts import Group, SampledThread

MOST_TOKENS = 4096
"""Of one forward pass, padding included."""

LearnableThread = tuple[SampledThread, float]
"""A thread, and what each of its sampled tokens weighs."""


class PolicyBatch(NamedTuple):
    """Threads as rows, padded at their ends; all but ``positions`` ``[rows, length]``.

    Attributes:
        before: Log-probabilities when the tokens were sampled.
        weights: The advantage of each sampled token; 0 for what was given, and for padding.
    """

    tokens: Tensor
    before: Tensor
    weights: Tensor


class Learnt(NamedTuple):
    """What one optimizer step came to.

    Attributes:
        tokens: Sampled tokens that it learned from.
        clipped: The share of the sampled tokens whose ratio had left the trusted range.
        drift: Their mean of ratio - 1 - log ratio: the KL from the policy that sampled them.
        norm: The gradient's.
    """

    tokens: int
    clipped: float
    drift: float
    norm: float


def learnable(
    groups: Sequence[Group], recipe: ReinforceRecipe, rng: random.Random
) -> list[LearnableThread]:
    """The threads from which something is learned: all of a run share its advantage.

    A thread that surprised less than ``certain`` has as small a gradient.  It is taken with the
    probability of its surprise over ``certain``, and weighs as much more.
    """
    found = []
    for group in groups:
        for rollout in () if group.unlearnable else group.rollouts:
            for thread in rollout.threads:
                chance = min(1.0, -sum(thread.sampled) / recipe.certain) if recipe.certain else 1.0
                if rng.random() < chance:
                    found.append((thread, rollout.advantage / chance))
    return found


def policy_batches(threads: Sequence[LearnableThread]) -> Iterator[PolicyBatch]:
    """All threads, those of like length together, in batches of at most `MOST_TOKENS`."""
    waiting = sorted(threads, key=lambda one: len(one[0].tokens))
    while waiting:
        length = len(waiting[-1][0].tokens)
        count = max(1, MOST_TOKENS // length)
        yield _padded(waiting[-count:], length)
        del waiting[-count:]


def _padded(threads: Sequence[LearnableThread], length: int) -> PolicyBatch:
    batch = PolicyBatch(
        torch.zeros(len(threads), length, dtype=torch.long),
        torch.zeros(len(threads), length),
        torch.zeros(len(threads), length),
    )
    for row, (thread, advantage) in enumerate(threads):
        end = len(thread.tokens)
        sampled = [one is not None for one in thread.logprobs]
        batch.tokens[row, :end] = torch.tensor(thread.tokens)
        batch.before[row, :end] = torch.tensor([one or 0.0 for one in thread.logprobs])
        batch.weights[row, :end] = advantage * torch.tensor(sampled)
    return batch


def logprobs(model: TrainableModel, tokens: Tensor) -> Tensor:
    """The log-probability of each token but the first, ``[rows, length - 1]``."""
    rows, length = tokens.shape
    positions = torch.arange(length, dtype=torch.float32).expand(rows, length)
    mask = torch.ones(length, length, dtype=torch.bool).tril().expand(rows, length, length)
    x = model.model(tokens, positions, torch.zeros_like(tokens), mask)[:, :-1]
    logits = functional.linear(x, model.model.embed_tokens.weight).float().transpose(1, 2)
    return -functional.cross_entropy(logits, tokens[:, 1:], reduction="none")


def surrogate(now: Tensor, before: Tensor, weights: Tensor, clip: float) -> Tensor:
    """PPO's clipped objective (arXiv 1707.06347), summed; a weight of 0 takes a token out."""
    ratio = (now - before).exp()
    held = ratio.clamp(1 - clip, 1 + clip)
    return torch.minimum(ratio * weights, held * weights)[weights != 0].sum()


class Learner:
    """A model and its optimizer."""

    def __init__(
        self, model: TrainableModel, recipe: ReinforceRecipe, anchor: Callable[[int], Batch]
    ) -> None:
        """``anchor`` gives the demonstrations of an optimizer step, by its number."""
        self.model = model
        self.recipe = recipe
        self.steps = 0
        self._rate = recipe.rate
        self._anchor = anchor
        # Most numbers' embeddings get more noise than signal from a few hundred runs, and AdamW
        # moves all alike; the numbers' meaning is in their fine structure.
        self._trained = list(model.model.layers.parameters())
        self.optimizer = torch.optim.AdamW(
            self._trained, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.0
        )

    def learn(self, groups: Sequence[Group], progress: float = 0.0) -> list[Learnt]:
        """Take the optimizer steps of a round, each on its share of the groups.

        ``progress`` is the share of the rounds that is done, by which the rate falls.
        """
        self._rate = self.recipe.rate * (1 - progress)
        torch.set_num_threads(self.recipe.threads)
        shares = [groups[first :: self.recipe.batches] for first in range(self.recipe.batches)]
        steps = shares * self.recipe.epochs
        return [learnt for share in steps if (learnt := self._step(share)) is not None]

    def _step(self, groups: Sequence[Group]) -> Learnt | None:
        """One optimizer step; None where there is nothing to learn from."""
        threads = learnable(groups, self.recipe, random.Random(self.steps))
        if not threads:
            return None
        runs = sum(len(group.rollouts) for group in groups if not group.unlearnable)
        clipped = drift = sampled = 0.0
        for batch in policy_batches(threads):
            with torch.autocast("cpu", torch.bfloat16):
                now = logprobs(self.model, batch.tokens)
            before, weights = batch.before[:, 1:], batch.weights[:, 1:]
            # By runs and a constant, not by tokens, so that a short run counts as much in each of
            # its tokens as a long one (Dr. GRPO, arXiv 2503.20783).
            gain = surrogate(now, before, weights, self.recipe.clip)
            backward(-gain / (runs * self.recipe.context))
            moved = (now.detach() - before)[weights != 0]
            sampled += len(moved)
            clipped += float(((moved.exp() - 1).abs() > self.recipe.clip).sum())
            drift += float((moved.exp() - 1 - moved).sum())
        self._hold_on()
        norm = self._descend()
        share = max(1.0, sampled)
        return Learnt(int(sampled), clipped / share, drift / share, norm)

    def _hold_on(self) -> None:
        """Add the gradient of the demonstrations."""
        if self.recipe.anchor:
            with torch.autocast("cpu", torch.bfloat16):
                loss, _ = self.model(*self._anchor(self.steps))
            backward(self.recipe.anchor * loss)

    def _descend(self) -> float:
        norm = torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        if not norm.isfinite():
            raise FloatingPointError(f"the gradient is {norm.item()}; lower the rate")
        self.steps += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate * min(1.0, self.steps / self.recipe.warmup)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.model.zero_grad(set_to_none=True)
        return float(norm)
