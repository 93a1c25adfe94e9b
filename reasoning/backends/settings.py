"""Settings of a backend, and how the command line states them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import InvalidValue


class BackendSettings(BaseModel):
    """Values that are checked, and can't be changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EmbeddedSettings(BackendSettings):
    """Of the embedded engine.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        dtype: bfloat16 by default on a GPU, and float32 on a CPU.
        store_gib: The most memory for keys and values.
    """

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] | None = None
    store_gib: float = Field(default=4.0, gt=0)

    @property
    def type(self) -> str:
        """The name of torch's type."""
        return self.dtype or ("float32" if self.device == "cpu" else "bfloat16")


S = TypeVar("S", bound=BackendSettings)


def parse(kind: type[S], pairs: Sequence[str], **given: Any) -> S:
    """Settings from ``NAME=VALUE`` pairs; values are JSON or plain words, names may have a dot.

    ``given`` are settings that are known otherwise, by name.

    Raises:
        InvalidValue: a pair has no such form, or its setting does not exist or is out of range.
    """
    tree: dict[str, Any] = dict(given)
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (equals and name):
            raise InvalidValue(f"engine: {pair!r} is not NAME=VALUE; try max_num_seqs=128")
        *parents, last = name.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise InvalidValue(f"engine: {parent} is given twice; give it once")
        place[last] = _value(text)
    return check(kind, tree)


def check(kind: type[S], values: dict[str, Any]) -> S:
    """Settings from values by name.

    Raises:
        InvalidValue: a setting does not exist or is out of range.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the settings"
        raise InvalidValue(
            f"engine: {field}: {first['msg']}; settings are {', '.join(kind.model_fields)}"
        ) from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
