"""The devices that a planner can use, and whether one of them could do what it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pydantic_core

from orchestrator.errors import InvalidValue
from protocol import Offer, Profile, TaskNeeds

Kind = Literal["tool", "function"]


@dataclass(frozen=True, kw_only=True)
class PlannedCall:
    """What a planned task calls, and where it may run."""

    tool: str
    arguments: Mapping[str, Any]
    device: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def needs(self) -> TaskNeeds:
        return TaskNeeds(worker=self.device, tags=frozenset(self.tags))

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
        """Check a call, and say whether it calls a tool or a function.

        Raises:
            InvalidValue: no device can run it, or its arguments have other names.
        """
        having = {id: self.offers(id)[call.tool] for id in self.profiles if self._has(id, call)}
        if not having:
            names = ", ".join(sorted({name for id in self.profiles for name in self.offers(id)}))
            raise InvalidValue(f"tool: no device offers {call.tool!r} (there are: {names or '-'})")
        if call.device is not None:
            if call.device not in self.profiles:
                known = ", ".join(self.profiles)
                raise InvalidValue(f"device: {call.device!r} is not here (there are: {known})")
            if call.device not in having:
                raise InvalidValue(
                    f"device: {call.device} does not offer {call.tool} ({', '.join(having)} does)"
                )
            having = {call.device: having[call.device]}
        able = [id for id in having if self.profiles[id].tags.issuperset(call.tags)]
        if not able:
            raise InvalidValue(
                f"tags: none of {', '.join(having)} has all of {', '.join(call.tags)}"
            )
        kind, offer = having[able[0]]
        check_names(call.arguments, offer)
        return kind

    def _has(self, device: str, call: PlannedCall) -> bool:
        return call.tool in self.offers(device)


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
