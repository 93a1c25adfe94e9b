"""The devices that a planner can use, and whether one of them can run a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pydantic_core

from orchestrator.errors import InvalidValue
from protocol import Offer, Profile

Kind = Literal["tool", "function"]


@dataclass(frozen=True, kw_only=True)
class PlannedCall:
    """What a planned task calls, and where it may run."""

    tool: str
    arguments: Mapping[str, Any]
    device: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its function's name in the graph: the tool, and where it may run."""
        where = [] if self.device is None else [f"on {self.device}"]
        where += [f"with {', '.join(self.tags)}"] if self.tags else []
        return " ".join([self.tool, *where])


class DevicePool:
    """Devices and what they offer."""

    def __init__(self, profiles: Mapping[str, Profile]) -> None:
        self.profiles = dict(profiles)

    def offers(self, device: str) -> dict[str, tuple[Kind, Offer]]:
        """What a device offers, by name."""
        profile = self.profiles[device]
        found: dict[str, tuple[Kind, Offer]] = {o.name: ("function", o) for o in profile.functions}
        return found | {offer.name: ("tool", offer) for offer in profile.tools}

    def kind(self, call: PlannedCall) -> Kind:
        """Check a call, and return whether it is one of a tool or of a function.

        Raises:
            InvalidValue: no device can run it, or its arguments have other names.
        """
        offering = self._offering(call)
        able = [id for id in offering if self.profiles[id].tags.issuperset(call.tags)]
        if not able:
            raise InvalidValue(
                f"tags: none of {', '.join(offering)} has all of {', '.join(call.tags)}"
            )
        kind, offer = offering[able[0]]
        check_names(call.arguments, offer)
        return kind

    def _offering(self, call: PlannedCall) -> dict[str, tuple[Kind, Offer]]:
        """What is called, by the device that offers it: by any device, or by the one named.

        Raises:
            InvalidValue: there is none.
        """
        offers = {id: self.offers(id) for id in self.profiles}
        found = {id: offers[id][call.tool] for id in offers if call.tool in offers[id]}
        if not found:
            names = ", ".join(sorted({name for offered in offers.values() for name in offered}))
            raise InvalidValue(f"tool: no device offers {call.tool!r} (there are: {names or '-'})")
        if call.device is None:
            return found
        if call.device not in offers:
            known = ", ".join(offers)
            raise InvalidValue(f"device: {call.device!r} is not here (there are: {known})")
        if call.device not in found:
            raise InvalidValue(
                f"device: {call.device} does not offer {call.tool} ({', '.join(found)} does)"
            )
        return {call.device: found[call.device]}


def check_names(arguments: Mapping[str, Any], offer: Offer) -> None:
    """Check the names of arguments; their values are checked by the device.

    Raises:
        InvalidValue: one is unknown or missing.
    """
    schema = pydantic_core.from_json(offer.parameters)
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        return
    known = schema["properties"]
    closed = schema.get("additionalProperties") is False
    unknown = sorted(set(arguments) - set(known)) if closed else []
    missing = sorted(set(schema.get("required", ())) - set(arguments))
    if unknown or missing:
        what = f"{unknown[0]!r} is unknown" if unknown else f"{missing[0]!r} is missing"
        raise InvalidValue(f"arguments: {what}; {offer.name} takes {', '.join(known) or 'none'}")
