"""Strategies by name, with settings: ``hogwild:n=2,layout=contiguous``."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from orchestrator.errors import InvalidValue, UnknownName
from reasoning.strategies.base import Strategy


def read(text: str, known: dict[str, type[Strategy]]) -> tuple[type[Strategy], dict[str, Any]]:
    """The kind and the settings that ``NAME[:[n=]N][:key=value,...]`` stands for.

    Raises:
        UnknownName: there is no such strategy.
        InvalidValue: it has no such setting, or the value does not fit.
    """
    name, _, rest = text.partition(":")
    if name not in known:
        raise UnknownName(f"strategy {name!r} does not exist; choose {', '.join(known)}")
    kind = known[name]
    hints = get_type_hints(kind)
    takes = {field.name: hints[field.name] for field in fields(kind)}
    settings: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, given, value = part.partition("=")
        if not given:
            key, value = ("n", key) if key.isdigit() else (key, "true")
        if key not in takes:
            raise InvalidValue(
                f"strategy: {name} has no setting {key!r}; it has {', '.join(takes)}"
            )
        settings[key] = _value(f"strategy: {key}", value, takes[key])
    n = settings.get("n")
    if n is not None and not 1 <= n <= kind.most_n:
        raise InvalidValue(f"n: {n} is out of range; {name} takes 1 to {kind.most_n}")
    return kind, settings


def _value(field: str, text: str, kind: Any) -> Any:
    if kind is bool and text in ("true", "false"):
        return text == "true"
    if kind is int and re.fullmatch(r"\d{1,6}", text):
        return int(text)
    if text in get_args(kind):
        return text
    allowed = {bool: "true or false", int: "a whole number"}.get(kind, ", ".join(get_args(kind)))
    raise InvalidValue(f"{field}: {text!r} does not fit; give {allowed}")
