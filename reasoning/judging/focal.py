"""Focal loss, for pairs of which most are easy and alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class FocalLoss(nn.Module):
    """FL(p_t) = -α_t (1 - p_t)^γ log p_t, mean over a batch (Lin et al., arXiv 1708.02002).

    p_t is the probability given to the true class; α_t is ``alpha`` for pairs that agree and
    ``1 - alpha`` for those that don't.  γ = 0 and α = ½ is half the cross-entropy.

    The DeepPrune paper uses the loss without stating α and γ; γ = 2 is its source's.
    """

    def __init__(self, *, gamma: float = 2.0, alpha: float = 0.5) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha

    def forward(self, logits: Tensor, same: Tensor) -> Tensor:
        """The mean loss of logits and labels (1 where the pair agrees), both of shape ``(n,)``."""
        signs = 2 * same - 1
        log_p = functional.logsigmoid(signs * logits)
        weights = torch.where(same > 0.5, self.alpha, 1 - self.alpha)
        return -(weights * (1 - log_p.exp()) ** self.gamma * log_p).mean()
