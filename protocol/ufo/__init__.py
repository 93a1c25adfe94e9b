"""UFO³ interop: its device clients as workers of a hub, its Galaxy clients as submitters."""

from __future__ import annotations

from protocol.ufo.pilots import CommandListPilot, Pilot, SteeredDevice
from protocol.ufo.secrets import SecretStore
from protocol.ufo.server import UfoServer, UfoSettings

__all__ = [
    "CommandListPilot",
    "Pilot",
    "SecretStore",
    "SteeredDevice",
    "UfoServer",
    "UfoSettings",
]
