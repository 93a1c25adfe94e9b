"""Our strategies as the provider ``reason`` of Inspect (inspect_ai)::

inspect eval task.py --model reason/MODEL --model-base-url URL -M strategy=self-consistency:n=8
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import anyio
import anyio.to_thread
from inspect_ai.model import (
    ChatMessage,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    messages_to_openai,
    model_output_from_openai,
)
from inspect_ai.tool import ToolChoice, ToolFunction, ToolInfo

from orchestrator.errors import InvalidValue
from reasoning.integrations.strategy_model import Chat, StrategyArguments, StrategyModel

_DEFAULT = "default"
_FIELDS = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "stop_seqs": "stop",
    "num_choices": "n",
    "parallel_tool_calls": "parallel_tool_calls",
}
"""What Inspect and a chat request call the same."""
_NOT_DONE = ("logprobs", "logit_bias", "best_of", "prompt_logprobs")
_MOST_WAITING = 1000


class StrategyAPI(ModelAPI):
    """A strategy on any model that `reason` can load."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        **model_args: Any,
    ) -> None:
        """``model_args`` are those of `StrategyArguments.of`; the key is read as `reason` does.

        Raises:
            ReasonError: by its leaf, what can't be loaded or does not exist.
        """
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        model = None if model_name == _DEFAULT else model_name
        url = {} if base_url is None else {"base_url": base_url}
        self._model = StrategyModel(StrategyArguments.of({"model": model, **url, **model_args}))
        self._waiting = anyio.CapacityLimiter(_MOST_WAITING)

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """What the chosen branch says or calls; the usage is that of all branches.

        Raises:
            ReasonError: the request can't be answered.
        """
        refused = [name for name in _NOT_DONE if getattr(config, name, None)]
        if refused:
            raise InvalidValue(f"{', '.join(refused)}: a strategy can't do this; leave it out")
        body: Chat = {"messages": await messages_to_openai(input)}
        for theirs, ours in _FIELDS.items():
            value = getattr(config, theirs, None)
            body |= {} if value is None else {ours: value}
        if tools:
            body |= {"tools": [_tool(tool) for tool in tools], "tool_choice": _choice(tool_choice)}
        return await model_output_from_openai(await self._waited(self._model.chat(body)))

    async def _waited(self, future: Future[Chat]) -> Chat:
        try:
            return await anyio.to_thread.run_sync(
                future.result, abandon_on_cancel=True, limiter=self._waiting
            )
        except anyio.get_cancelled_exc_class():
            future.cancel()
            raise

    def connection_key(self) -> str:
        """What shares a limit of connections."""
        return self._model.name

    def close(self) -> None:
        """Let the model go."""
        self._model.close()


def _tool(tool: ToolInfo) -> dict[str, Any]:
    parameters = tool.parameters.model_dump(exclude_none=True)
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice) -> Any:
    if isinstance(choice, ToolFunction):
        return {"type": "function", "function": {"name": choice.name}}
    return "required" if choice == "any" else choice
