"""Settings of a backend: values that are checked, and can't be changed afterwards."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import InvalidValue
from reasoning.registry import nearest


class BackendSettings(BaseModel):
    """Values that are checked, and can't be changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: Any) -> None:
        """Check the values by name.

        Raises:
            InvalidValue: a setting does not exist, or its value does not fit.
        """
        for name in values.keys() - type(self).model_fields.keys():
            raise InvalidValue(
                f"{type(self).__name__} has no setting {name!r}; "
                f"{nearest(name, type(self).model_fields)}it has "
                f"{', '.join(type(self).model_fields)}"
            )
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            why = first["msg"].removeprefix("Value error, ")
            mend = "" if "; " in why else "; give another value"
            raise InvalidValue(f"{OPTIONS.get(field, field)}: {why}{mend}") from error


OPTIONS = {"base_urls": "base-url"}
"""Settings that have an option of their own, which messages name."""


class GeneratingSettings(BackendSettings):
    """Of what generates.

    Attributes:
        dialect: The tongue in which the model forks and joins, by name or file; ``none`` is a chat
            model's.  By default it is recognised.
    """

    dialect: str | None = None


class EmbeddedSettings(GeneratingSettings):
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
