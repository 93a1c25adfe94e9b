"""What a worker computes on, by which a hub knows which workers share cores."""

from __future__ import annotations

import os
import platform
from hashlib import blake2b
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")


def this_machine() -> str:
    """A name that all processes of this machine find, those in containers too; empty if none do.

    On Linux it is of the running kernel, so that a virtual machine is one; elsewhere the host's.
    """
    try:
        found = BOOT.read_text()
    except OSError:
        found = platform.node()
    return found and blake2b(found.encode(), digest_size=6).hexdigest()


def own_cores() -> frozenset[int]:
    """The cores that this process is confined to; empty if it may use all."""
    if not hasattr(os, "sched_getaffinity"):
        return frozenset()
    found = frozenset(os.sched_getaffinity(0))
    return found if len(found) < (os.cpu_count() or 0) else frozenset()
