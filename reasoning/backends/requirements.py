"""What a thread asks of a backend, by the names of capabilities."""

from __future__ import annotations

from collections.abc import Collection

from reasoning.values.capabilities import Capability
from reasoning.values.context import Context, Gang, Segment
from reasoning.values.sampling import Sampling


def of_context(context: Context, gang: Gang | None, live: Collection[Segment]) -> Capability | None:
    """What it takes to generate in a context; None where that is a plain run of tokens.

    ``live`` are the segments that other threads write to; their first tokens, as many as are
    written, change no more.
    """
    grows = any(e.segment in live and e.upto is None for e in context.entries)
    if gang is not None or context.flowing or grows:
        return "live-contexts"
    return None if context.sequential else "kv-join"


def of_sampling(sampling: Sampling) -> frozenset[Capability]:
    """What it takes to draw tokens like this."""
    form = None if sampling.constraint is None else sampling.constraint.kind
    asked: dict[Capability, bool] = {
        "json-schema": form == "json",
        "structured-output": form not in (None, "json"),
        "adapters": sampling.adapter is not None,
        "priorities": sampling.priority != 0,
        "confidence": sampling.confidence != 0,
    }
    return frozenset(name for name, wanted in asked.items() if wanted)
