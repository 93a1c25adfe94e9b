"""Settings of a backend: values that are checked, and can't be changed afterwards."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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
