"""A strategy on a model that answers chats in this process, for programs of any kind of loop."""

from __future__ import annotations

import atexit
import json
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from orchestrator.errors import InvalidValue, importing
from reasoning.models.loading import load_model
from reasoning.registry import nearest
from reasoning.serving import ReasoningService

with importing("serve", "a strategy in an evaluation program"):
    from protocol.http.openai.chat import ChatInterface, ChatRequest
    from protocol.http.openai.common_fields import parse

Chat = dict[str, Any]
"""The body of a chat request or of its response, as OpenAI's interface has them."""
_SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty"),
    *("repetition_penalty", "seed", "max_tokens", "chat_template_kwargs"),
)
_RUN = ("n", "budget", "context", "timeout")
_MODEL = ("model", "base_url", "backend", "strategy", "policy")


@dataclass(frozen=True, kw_only=True)
class StrategyArguments:
    """What an evaluation program was told of a model.

    Attributes:
        model: A shipped model, a folder, or a name on a server; None is the backend's choice.
        base_urls: An OpenAI-compatible server, or its replicas.
        strategy: With settings, as ``self-consistency:n=8``; empty for one sample.
        policy: What steers its samples, as ``async:k=8``.
        fields: More of each request, which go before what the program asks for.
    """

    model: str | None = None
    base_urls: tuple[str, ...] = ()
    backend: str | None = None
    strategy: str = ""
    policy: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> StrategyArguments:
        """What ``key=value`` pairs say; ``;`` parts settings where programs split at commas.

        Raises:
            InvalidValue: there is no such key.
        """
        known = (*_MODEL, *_SAMPLING, *_RUN)
        for name in given:
            if name not in known:
                near = nearest(name, known)
                raise InvalidValue(f"{name}: no argument; {near}give {', '.join(known)}")
        urls = given.get("base_url")
        return cls(
            model=given.get("model"),
            base_urls=tuple(urls if isinstance(urls, list) else filter(None, [urls])),
            backend=given.get("backend"),
            strategy=_settings(given.get("strategy")),
            policy=_settings(given.get("policy")),
            fields={
                **{name: given[name] for name in _SAMPLING if name in given},
                "x_reason": {name: given[name] for name in _RUN if name in given},
            },
        )


def _settings(value: Any) -> str:
    """Settings that a program may have parted at their commas."""
    return ",".join(map(str, value if isinstance(value, list) else [value or ""])).replace(";", ",")


class StrategyModel:
    """A loaded model under one strategy, which answers chats from a thread of its own.

    The thread starts with the first chat; `close` ends it for good, at the latest when the program
    ends.
    """

    def __init__(self, arguments: StrategyArguments) -> None:
        """Load the model.

        Raises:
            ReasonError: by its leaf, what can't be loaded, or is no strategy.
        """
        self._model = load_model(
            arguments.model, backend=arguments.backend, base_urls=arguments.base_urls
        )
        self._fields = arguments.fields
        self._service = ReasoningService([self._model])
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        strategy, policy = arguments.strategy, arguments.policy
        if policy:
            begin = strategy or "self-consistency"
            strategy = f"{begin}{',' if ':' in begin else ':'}policy={policy}"
        self.name = f"{self._model.name}/{strategy}" if strategy else self._model.name
        probe = {"messages": [{"role": "user", "content": "?"}]}
        self._service.check(self._asked(probe).request()[0])

    @property
    def alone(self) -> bool:
        """Whether one sample is all, so that it may be greedy."""
        return "/" not in self.name.removeprefix(self._model.name) or self.name.endswith("/single")

    def chat(self, body: Chat) -> Future[Chat]:
        """Answer the body of a chat request with that of its response.

        The future raises a `ReasonError`, or a `protocol.http.errors.Refusal`, for what can't be
        done.
        """
        asked = self._asked(body)
        if self._portal is None:
            self._portal = self._stack.enter_context(start_blocking_portal())
            self._stack.enter_context(self._portal.wrap_async_context_manager(self._service))
            atexit.register(self.close)  # else the thread may be waited for when it can't run
        return self._portal.start_task_soon(self._answer, asked)

    def _asked(self, body: Chat) -> ChatRequest:
        fields = {**body, **self._fields, "model": self.name}
        fields["x_reason"] = {"thoughts": "chosen", **fields.get("x_reason", {})}
        return parse(ChatRequest, json.dumps(fields).encode())

    async def _answer(self, asked: ChatRequest) -> Chat:
        request, ignored = asked.request()
        writer = ChatInterface().writer(asked, ignored, "")
        result = await self._service.answer(request, lambda event: None)
        return writer.whole(result)

    def close(self) -> None:
        """End the thread and let the model go."""
        atexit.unregister(self.close)
        self._stack.close()
