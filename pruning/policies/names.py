"""Policies by name: ``NAME``, ``NAME:param=value,param=value``, ``LEADER with RIDER``."""

from __future__ import annotations

from dataclasses import fields
from math import isfinite
from typing import Any

from pruning.policies import POLICIES
from pruning.policies.compose import Combined
from pruning.policy import Policy, PolicyError

WITH = " with "


def parse_policy(text: str) -> Policy[Any]:
    """The policy that ``text`` names, with its parameters; `Policy.label` is the inverse.

    Raises:
        PolicyError: no such policy or parameter, or a value that it can't have.
    """
    leader, *riders = map(_single, text.split(WITH))
    return Combined(leader=leader, riders=tuple(riders)) if riders else leader


def _single(text: str) -> Policy[Any]:
    name, colon, rest = text.partition(":")
    if name not in POLICIES:
        raise PolicyError(f"policy {name!r} does not exist; choose {', '.join(POLICIES)}")
    kind = POLICIES[name]
    if colon and not rest:
        raise PolicyError(f"policy {text!r} ends in a colon; give {name} or {name}:param=value")
    defaults = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for part in rest.split(",") if rest else ():
        key, equals, value = part.partition("=")
        if not equals or key not in defaults:
            known = ", ".join(defaults)
            raise PolicyError(
                f"policy {name!r} has no parameter {part!r}; give {known} as param=value"
            )
        if key in values:
            raise PolicyError(f"{key}: given twice; give it once")
        values[key] = _value(key, value, defaults[key])
    return kind(**values)


def _value(key: str, text: str, default: object) -> object:
    """The value of the default's type."""
    if isinstance(default, str):
        return text
    try:
        value = int(text) if isinstance(default, int) else float(text)
    except ValueError:
        kind = "whole number" if isinstance(default, int) else "number"
        raise PolicyError(f"{key}: {text!r} is no {kind}; give one") from None
    if not isfinite(value):
        raise PolicyError(f"{key}: {text!r} is not finite; give a number")
    return value
