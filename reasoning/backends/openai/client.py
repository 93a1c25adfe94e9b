"""The HTTP backend: any OpenAI-compatible server, through the ``openai`` client library.

Each thread is a request of its own, never one of ``n`` choices, so that leaving it closes its
connection, which aborts it on the server.  A request that is lost is sent again with what was
written so far, to another replica where there is one.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import anyio

from orchestrator.errors import ExtraMissing, InvalidValue, UnknownName
from reasoning.backends.base import Token
from reasoning.backends.openai import reasoning_fields as fields
from reasoning.backends.openai.replicas import Replica, Replicas
from reasoning.backends.openai.server_probe import ServerProfile
from reasoning.backends.openai.settings import Mode, OpenaiSettings
from reasoning.backends.prompted import PromptedBackend, PromptedGeneration
from reasoning.backends.text_tokens import TextTokens
from reasoning.errors import BackendLost, CapabilityMissing
from reasoning.values.sampling import Constraint, StopReason

logger = logging.getLogger(__name__)

AGAIN = (408, 409, 425, 429)
"""Statuses below 500 that are worth another try."""
CLOSE_S = 1.0

Event = dict[str, Any]


class RequestLost(BackendLost):
    """One request failed in a way that another try may mend."""

    def __init__(self, replica: Replica, what: str, wait_s: float | None = None) -> None:
        super().__init__(f"{replica.url} {what}; see its log, or add a replica with --base-url")
        self.replica = replica
        self.wait_s = wait_s


class OpenaiBackend(PromptedBackend):
    """OpenAI-compatible servers behind the `Backend` interface; used with ``async with``.

    Attributes:
        profile: What the servers can do; several replicas are taken to be equal to the first.
        mode: How they are talked to.
        text_tokens: What stands for tokens in the modes ``text`` and ``chat``.
    """

    def __init__(
        self,
        settings: OpenaiSettings,
        profile: ServerProfile,
        *,
        mode: Mode,
        eos: Collection[int] = (),
        context: int = 8192,
        text_tokens: TextTokens | None = None,
    ) -> None:
        super().__init__(context=context, eos=eos)
        self.settings = settings
        self.profile = profile
        self.mode = mode
        self.text_tokens = text_tokens or TextTokens()
        self.capabilities = profile.capabilities(mode)
        if settings.adapters:
            self.capabilities |= {"adapters"}
        self.replicas = Replicas([])
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        async with AsyncExitStack() as stack:
            members = []
            for url in self.settings.base_urls:
                client = await stack.enter_async_context(connect(url, self.settings))
                members.append(Replica(url, client))
            self.replicas = Replicas(members)
            self._slots = anyio.Semaphore(self.settings.max_connections)
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()

    async def request(
        self, generation: PromptedGeneration, prompt: list[int]
    ) -> AsyncGenerator[Token, None]:
        body = self._body(generation, prompt)
        entries = generation.segment.context.entries
        read = self._ids if self.mode == "tokens" else self._texts
        async with self._slots:
            with self.replicas.borrow(entries[0].segment if entries else None) as replica:
                async with aclosing(read(generation, replica, body)) as stream:
                    async for token in stream:
                        yield token

    async def _ids(
        self, generation: PromptedGeneration, replica: Replica, body: Event
    ) -> AsyncGenerator[Token, None]:
        """Tokens from a stream of token ids.

        The last one is held back until the usage is there, which comes behind the reason.
        """
        last: Token | None = None
        async with aclosing(self._events(generation, replica, body)) as events:
            async for event in events:
                self._note(generation, event)
                for choice in event.get("choices") or ():
                    found = fields.tokens(choice, generation.sampling.confidence)
                    reason = self._reason(replica, choice)
                    if reason is not None and found:
                        last = found.pop()._replace(reason=reason)
                    for token in found:
                        yield token
        if last is not None:
            yield last

    async def _texts(
        self, generation: PromptedGeneration, replica: Replica, body: Event
    ) -> AsyncGenerator[Token, None]:
        """Tokens from a stream of text: one for each chunk, and empty ones up to the count."""
        thinking, written, counted = False, 0, None
        reason: StopReason | None = None
        async with aclosing(self._events(generation, replica, body)) as events:
            async for event in events:
                found = self._note(generation, event)
                counted = found.completion if found else counted
                for choice in event.get("choices") or ():
                    thought, said = fields.text(choice)
                    if thought and not thinking:
                        thought, thinking = f"{fields.OPEN}{thought}", True
                    elif said and thinking and not thought:
                        said, thinking = f"{fields.CLOSE}{said}", False
                    if thought or said:
                        written += 1
                        logprobs = fields.text_logprobs(choice)
                        yield Token(
                            self.text_tokens.id(thought + said),
                            sum(logprobs) if logprobs else math.nan,
                        )
                    reason = self._reason(replica, choice) or reason
        if reason is None:
            return
        for _ in range((counted or 0) - written - 1):
            yield Token(self.text_tokens.filler, math.nan)
        yield Token(self.text_tokens.end, math.nan, reason)

    def _note(self, generation: PromptedGeneration, event: Event) -> fields.ServerUsage | None:
        found = fields.usage(event)
        if found is not None and found.cached is not None:
            generation.found_cached(found.cached)
        return found

    def _reason(self, replica: Replica, choice: Event) -> StopReason | None:
        match choice.get("finish_reason"):
            case None:
                return None
            case "stop" | "eos" | "tool_calls":
                return "stop"
            case "length":
                return "length"
            case other:
                raise RequestLost(replica, f"ended an answer with {other!r}")

    async def _events(
        self, generation: PromptedGeneration, replica: Replica, body: Event
    ) -> AsyncGenerator[Event, None]:
        """The events of one request's stream; leaving it early closes its connection."""
        import httpx2
        from openai import APIConnectionError, APIStatusError

        limit = self.settings.first_token_timeout
        create = _creator(replica.client, self.mode)
        async with AsyncExitStack() as stack:
            try:
                with anyio.fail_after(limit):
                    response = await stack.enter_async_context(create(**body))
                self.running[generation] = response.close
                lines = response.iter_lines()
                while (line := await _next(lines, limit)) is not None:
                    event = fields.event(line)
                    if event is not None:
                        limit = self.settings.token_timeout
                        yield event
            except fields.Malformed as error:
                raise RequestLost(replica, str(error)) from error
            except TimeoutError as error:
                raise RequestLost(replica, f"was silent for {limit:g} s") from error
            except APIStatusError as error:
                raise self._refused(replica, error) from error
            except APIConnectionError as error:
                raise RequestLost(replica, "can't be reached") from error
            except (httpx2.HTTPError, httpx2.StreamError) as error:
                raise RequestLost(replica, f"broke off ({type(error).__name__})") from error
            finally:
                self.running.pop(generation, None)

    def _refused(self, replica: Replica, error: Any) -> Exception:
        """What a status means: lost for now, or wrong for good."""
        status, said = error.status_code, " ".join(str(error.message).split())[:200]
        if status in AGAIN or status >= 500:
            wait = error.response.headers.get("retry-after", "")
            seconds = float(wait) if wait.replace(".", "", 1).isdigit() else None
            return RequestLost(replica, f"answered {status} ({said})", seconds)
        if status in (401, 403):
            return InvalidValue(
                f"{replica.url} refuses the key; set {self.settings.api_key_env} to a valid one"
            )
        if status == 404:
            return UnknownName(f"{replica.url} does not know {said}; see reason doctor")
        return InvalidValue(f"{replica.url} refuses the request ({said}); see reason doctor")

    async def recover(
        self, generation: PromptedGeneration, error: BackendLost, failures: int
    ) -> bool:
        if failures > self.settings.retries:
            return False
        begun = bool(generation.segment.tokens)
        if begun and not self.profile.continues(self.mode):
            return False
        wait = error.wait_s if isinstance(error, RequestLost) else None
        if isinstance(error, RequestLost):
            error.replica.rest()
        logger.info("a request was lost and is sent again: %s", error)
        await anyio.sleep(self.replicas.pause(failures, self.settings.backoff, wait))
        self.recovered += 1
        return True

    def _body(self, generation: PromptedGeneration, prompt: list[int]) -> Event:
        """The arguments of the client's call; what is not OpenAI's own goes to ``extra_body``."""
        sampling = generation.sampling
        extra: Event = {
            "temperature": sampling.temperature,
            "max_tokens": generation.limit - len(prompt),
            "stream_options": {"include_usage": True},
            **self.settings.extra_body,
        }
        if sampling.temperature > 0:
            extra["seed"] = sampling.seed
        if sampling.priority:
            extra["priority"] = sampling.priority
        if sampling.constraint is not None:
            extra |= self._form(sampling.constraint)
        body: Event = {"model": self._model(sampling.adapter), "stream": True, "extra_body": extra}
        if self.mode == "chat":
            return body | self._messages(prompt, extra)
        if self.profile.logprobs:
            extra["logprobs"] = sampling.confidence
        if self.mode == "text":
            return body | {"prompt": self.text_tokens.text(prompt)}
        extra |= {
            "return_token_ids": True,
            "skip_special_tokens": False,
            "stop_token_ids": list(generation.stop),
        }
        return body | {"prompt": prompt}

    def _form(self, constraint: Constraint) -> Event:
        if constraint.kind == "json" and self.mode == "chat" and self.profile.json_schema:
            return {"response_format": constraint.response_format}
        return {"structured_outputs": constraint.options}

    def _messages(self, prompt: list[int], extra: Event) -> Event:
        messages = self.text_tokens.messages(prompt)
        if messages[-1]["role"] == "assistant":
            if not self.profile.chat_continuation:
                raise CapabilityMissing(
                    f"{self.profile.url} can't go on with a partial answer in chat; "
                    "use a server with completions"
                )
            extra |= {"continue_final_message": True, "add_generation_prompt": False}
        return {"messages": messages}

    def _model(self, adapter: str | None) -> str:
        if adapter is not None and adapter not in self.settings.adapters:
            known = ", ".join(self.settings.adapters)
            raise UnknownName(f"adapter {adapter!r} does not exist; choose {known}")
        return adapter or self.profile.model


def _creator(client: Any, mode: Mode) -> Any:
    endpoint = client.chat.completions if mode == "chat" else client.completions
    return endpoint.with_streaming_response.create


async def _next(lines: AsyncIterator[str], limit: float) -> str | None:
    with anyio.fail_after(limit):
        return await anext(lines, None)


@asynccontextmanager
async def connect(url: str, settings: OpenaiSettings) -> AsyncIterator[Any]:
    """A client of the ``openai`` library for one server, which never retries by itself.

    Raises:
        ExtraMissing: the library is not installed.
    """
    try:
        import httpx2
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient
    except ImportError as error:
        raise ExtraMissing(
            "the openai backend needs the openai library; pip install 'parallel-reason[openai]'"
        ) from error
    most = settings.max_connections
    http = DefaultAsyncHttpxClient(
        limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most),
        timeout=httpx2.Timeout(None, connect=settings.connect_timeout),
    )
    key = os.environ.get(settings.api_key_env) or "none"
    async with AsyncOpenAI(base_url=url, api_key=key, http_client=http, max_retries=0) as client:
        yield client
