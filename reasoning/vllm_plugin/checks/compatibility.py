"""What the plugin relies on in an installed vLLM, beside what was tested."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.errors import ExtraMissing
from reasoning.vllm_plugin.checks.settings import VERSIONS
from reasoning.vllm_plugin.checks.symbols import Symbol, is_known, symbols

State = Literal["tested", "another body", "another signature", "missing"]


class SymbolReport(BaseModel):
    """One method of vLLM that the plugin calls or overrides."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: State
    parameters: str
    digest: str | None
    """Of its body, whatever its comments and layout."""


class CompatibilityReport(BaseModel):
    """What ``reason doctor --vllm --json`` prints."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    schema_: Literal["reason.vllm/1"] = Field(default="reason.vllm/1", alias="schema")
    version: str
    known: bool
    """Whether this release was tested."""
    platform: str
    runner: str
    """The model runner that vLLM chooses here; an engine's settings may choose another."""
    symbols: tuple[SymbolReport, ...]

    @property
    def usable(self) -> bool:
        """Whether the plugin starts with it."""
        return self.known and all(one.state in ("tested", "another body") for one in self.symbols)


def report() -> CompatibilityReport:
    """What is found of the installed vLLM.

    Raises:
        ExtraMissing: there is none.
    """
    try:
        import vllm
        from vllm.platforms import current_platform
    except ImportError as error:
        raise ExtraMissing(f"vllm is not installed here ({error}); see docs/backends.md") from error
    return CompatibilityReport(
        version=vllm.__version__,
        known=vllm.__version__.startswith(VERSIONS),
        platform=str(current_platform.device_name or current_platform.device_type),
        runner=_runner(),
        symbols=tuple(_reported(one) for one in symbols()),
    )


def _runner() -> str:
    from vllm import envs
    from vllm.triton_utils import HAS_TRITON

    chosen: Any = envs.VLLM_USE_V2_MODEL_RUNNER
    if chosen is not None:
        return f"V{2 if chosen else 1}, by VLLM_USE_V2_MODEL_RUNNER"
    return "V2, because Triton works" if HAS_TRITON else "V1, because Triton does not work"


def _reported(one: Symbol) -> SymbolReport:
    state: State = "tested" if is_known(one) else "another body"
    if not one.fits:
        state = "missing" if one.parameters is None else "another signature"
    parameters = ", ".join(one.parameters or ())
    name = one.name.partition(":")[2]
    return SymbolReport(name=name, state=state, parameters=parameters, digest=one.digest)
