"""Choosing the next token: greedy, or seeded sampling that does not depend on the batch."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from orchestrator.errors import InvalidValue
from reasoning.values.sampling import Sampling


class Sampler:
    """One thread's stream of uniform numbers, its temperature, and what it does to logits.

    Attributes:
        shaped: Whether it changes logits by what was seen and written.
        truncated: Whether it never draws some tokens.
    """

    def __init__(self, sampling: Sampling) -> None:
        self.temperature = sampling.temperature or 0.0
        self.confidence = sampling.confidence
        self.shaped = sampling.shaped
        self.truncated = sampling.truncated and self.temperature > 0
        self._sampling = sampling
        self._random = random.Random(sampling.seed)
        for _ in range(sampling.drawn):
            self._random.random()
        self._seen: set[int] = set()
        self._written: Counter[int] = Counter()

    def uniform(self) -> float:
        return self._random.random()

    def see(self, tokens: Iterable[int]) -> None:
        """Take note of tokens that its thread was given."""
        if self.shaped:
            self._seen.update(tokens)

    def shape(self, logits: Tensor) -> Tensor:
        """A row's logits ``[V]`` after biases and penalties, in vLLM's order."""
        how, out = self._sampling, logits.clone()
        if how.logit_bias:
            out[_index(how.logit_bias, out)] += out.new_tensor([*how.logit_bias.values()])
        if how.repetition_penalty not in (None, 1):
            place = _index(self._seen | self._written.keys(), out)
            found, by = out[place], float(how.repetition_penalty or 1)
            out[place] = torch.where(found > 0, found / by, found * by)
        if self._written and (how.frequency_penalty or how.presence_penalty):
            counts = out.new_tensor([*self._written.values()])
            taken = (how.frequency_penalty or 0) * counts + (how.presence_penalty or 0)
            out[_index(self._written, out)] -= taken
        return out

    def wrote(self, token: int) -> None:
        """Take note of a token that was chosen."""
        if self.shaped:
            self._written[token] += 1

    def truncate(self, mass: Tensor) -> Tensor:
        """A row's probabilities ``[V]``, with 0 for what is never drawn: min_p, top_k, top_p."""
        how = self._sampling
        if how.min_p:
            mass = mass.masked_fill(mass < how.min_p * mass.max(), 0.0)
        if how.top_k and how.top_k < len(mass):
            mass = mass.masked_fill(mass < mass.topk(how.top_k).values[-1], 0.0)
        if how.top_p not in (None, 1):
            ordered, places = mass.sort(descending=True, stable=True)
            before = ordered.cumsum(-1) - ordered
            kept = before < float(how.top_p or 1) * mass.sum()
            mass = torch.zeros_like(mass).scatter(0, places[kept], ordered[kept])
        return mass


def check_biases(sampling: Sampling, vocabulary: int) -> None:
    """Refuse a bias for a token that a model does not have.

    Raises:
        InvalidValue: naming the token.
    """
    if beyond := [token for token in sampling.logit_bias if token >= vocabulary]:
        raise InvalidValue(
            f"logit-bias: the model has no token {beyond[0]}; give 0 to {vocabulary - 1}"
        )


def _index(tokens: Iterable[int], logits: Tensor) -> Tensor:
    """Where tokens stand in a vocabulary."""
    return torch.tensor([*tokens], dtype=torch.long, device=logits.device)


def sample(logits: Tensor, samplers: Sequence[Sampler]) -> tuple[list[int], list[float]]:
    """One token for each row of ``logits [rows, V]``, with its log-probability at temperature 1."""
    raw = logits
    if shaped := [row for row, sampler in enumerate(samplers) if sampler.shaped]:
        logits = logits.clone()
        for row in shaped:
            logits[row] = samplers[row].shape(logits[row])
    tokens = logits.argmax(-1)
    drawn = [row for row, sampler in enumerate(samplers) if sampler.temperature > 0]
    if drawn:
        draws = [(samplers[row].temperature, samplers[row].uniform()) for row in drawn]
        drawing = torch.tensor(draws, dtype=torch.float64, device=logits.device)
        heat, uniform = drawing[:, :1], drawing[:, 1:].contiguous()
        rows = slice(None) if len(drawn) == len(samplers) else drawn
        # Double precision: the cumulative sum of a large vocabulary must still reach one.
        shifted = (logits[rows] - logits[rows].amax(-1, keepdim=True)).double()
        mass = torch.softmax(shifted / heat, -1)
        for place, row in enumerate(drawn):
            if samplers[row].truncated:
                mass[place] = samplers[row].truncate(mass[place])
        mass = mass.cumsum(-1)
        found = torch.searchsorted(mass, uniform * mass[:, -1:]).squeeze(-1)
        tokens[rows] = found.clamp(max=logits.shape[-1] - 1)
    chosen = raw.gather(-1, tokens[:, None]).squeeze(-1)
    logprobs = chosen - torch.logsumexp(raw, -1)
    found_tokens = tokens.tolist()
    for row in shaped:
        samplers[row].wrote(found_tokens[row])
    return found_tokens, logprobs.tolist()


def confidences(logits: Tensor, samplers: Sequence[Sampler]) -> list[float | None]:
    """How confident each row of ``logits [rows, V]`` is, where its sampler asks for it.

    C = -(1/k) Σ log P(j), j the k most probable tokens: DeepConf (arXiv 2508.15260).
    """
    found: list[float | None] = [None] * len(samplers)
    for most in {sampler.confidence for sampler in samplers} - {0}:
        rows = [row for row, sampler in enumerate(samplers) if sampler.confidence == most]
        top = logits[rows].topk(min(most, logits.shape[-1])).values
        means = torch.logsumexp(logits[rows], -1) - top.mean(-1)
        for row, mean in zip(rows, means.tolist(), strict=True):
            found[row] = mean
    return found
