"""Whom to believe and when to stop: pure policies, without engines, graphs or I/O."""

from pruning.voting import Tally, majority

__all__ = ["Tally", "majority"]
