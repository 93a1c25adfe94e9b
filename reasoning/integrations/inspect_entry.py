"""What Inspect finds by our entry point: the provider, imported when a model of it is asked for."""

from __future__ import annotations

from inspect_ai.model import ModelAPI, modelapi


@modelapi(name="reason")
def reason() -> type[ModelAPI]:
    """The provider's class."""
    from reasoning.integrations.inspect_provider import StrategyAPI

    return StrategyAPI
