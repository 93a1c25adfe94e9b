"""UFO³ interop: its device clients as workers of a hub, its Galaxy clients as submitters."""

from __future__ import annotations

from protocol.ufo.pilot import Hands, Listed, Pilot
from protocol.ufo.server import UfoServer

__all__ = ["Hands", "Listed", "Pilot", "UfoServer"]
