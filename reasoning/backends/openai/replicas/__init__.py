"""Several servers of one model: which they are, who of them is asked, and who is out."""

from reasoning.backends.openai.replicas.addresses import Addresses
from reasoning.backends.openai.replicas.choice import (
    LEAST_TOKENS,
    Replica,
    Replicas,
    asked_to_wait,
)
from reasoning.backends.openai.replicas.hedging import Hedging
from reasoning.backends.openai.replicas.membership import Membership

__all__ = [
    "LEAST_TOKENS",
    "Addresses",
    "Hedging",
    "Membership",
    "Replica",
    "Replicas",
    "asked_to_wait",
]
