"""How a function says what it is, in place of its code."""

IDENTITY = "__orchestrator_identity__"
"""An attribute of a function: a tuple of what kind it is, what it calls, and with what."""
