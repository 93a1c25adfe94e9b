"""The names of what a backend and its model can do."""

from __future__ import annotations

from typing import Literal

Capability = Literal[
    "token-prompts",
    "logprobs",
    "prefix-sharing",
    "kv-join",
    "live-contexts",
    "spawn-join",
    "shared-threads",
    "words",
    "continuing",
    "priorities",
    "structured-output",
    "json-schema",
    "adapters",
    "confidence",
    "holding",
    "scoring",
    "native-format",
]
"""What a backend and its model can do; a strategy declares what it needs."""
