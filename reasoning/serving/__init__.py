"""Strategies as a service: the `protocol.http.Service` that reasons, and a server for notebooks."""

from reasoning.serving.service import ReasoningService as ReasoningService
from reasoning.serving.service import background as background

__all__ = ["ReasoningService", "background"]
