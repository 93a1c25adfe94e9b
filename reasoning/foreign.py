"""Modules of others in the place of this package's: what a failed import then says."""

from __future__ import annotations

import sys

NAMES = ("reasoning", "orchestrator", "pruning", "protocol")
"""What this package installs at the top level, where others may have the same names."""


def in_our_place(error: ImportError) -> str | None:
    """One line that says which of our modules is another package's, or broken, and what to do.

    None for a module that is not ours: then something else is missing.
    """
    name = (error.name or "").partition(".")[0]
    if name not in NAMES:
        return None
    module = sys.modules.get(name)
    place = next(iter(getattr(module, "__path__", ())), None) or getattr(module, "__file__", None)
    return (
        f"{name} ({place or 'missing'}) is not the one of parallel-reason, or is broken: {error}; "
        "install parallel-reason into an environment of its own"
    )
