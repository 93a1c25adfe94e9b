"""The HTTP backend: any OpenAI-compatible server, through the ``openai`` client library.

Each thread is a request of its own, never one of ``n`` choices, so that leaving it closes its
connection, which aborts it on the server.  A request that is lost is sent again with what was
written so far, to another replica where there is one.
"""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

import anyio

from orchestrator.errors import InvalidValue, UnknownName
from reasoning.backends.base import Token
from reasoning.backends.openai import reasoning_fields as fields
from reasoning.backends.openai import scoring
from reasoning.backends.openai.connection import connect, unreachable
from reasoning.backends.openai.event_stream import (
    ErrorEvent,
    Event,
    EventParser,
    Malformed,
    is_framed,
)
from reasoning.backends.openai.known_servers import KnownServers
from reasoning.backends.openai.parameters import (
    ASKED,
    BOUNDS,
    Parameters,
    is_passing,
    smaller_bound,
    words_of,
)
from reasoning.backends.openai.profile import ServerProfile
from reasoning.backends.openai.replicas import (
    LEAST_TOKENS,
    Addresses,
    Hedging,
    Membership,
    Replica,
    asked_to_wait,
)
from reasoning.backends.openai.settings import Mode, OpenaiSettings
from reasoning.backends.prompted import PromptedBackend, PromptedGeneration
from reasoning.backends.text_tokens import FILLER, AnotherAnswer, behind, chat_messages, text_of
from reasoning.errors import BackendLost, CapabilityMissing
from reasoning.values.context import Segment
from reasoning.values.sampling import Constraint, Sampling, StopReason

logger = logging.getLogger(__name__)

MOST_STOPS = 4
"""So many stop texts OpenAI's interface takes; all are looked for here as well."""
LATE_S = 5.0
"""How long the usage may come after the end of an answer."""
READ_OUT_S = 0.05
"""How long the end of a stream may come after its last event, before its connection is given up."""
NO_HEADERS: Mapping[str, str] = {}
MOST_LESSONS = 8
"""So many refusals of one request are learnt from."""


class RequestLost(BackendLost):
    """One request failed in a way that another try may mend."""

    def __init__(self, replica: Replica, what: str, wait_s: float | None = None) -> None:
        cure = "" if "; " in what else "; see its log, or add a replica with --base-url"
        super().__init__(f"{replica.url} {what}{cure}")
        self.replica = replica
        self.wait_s = wait_s


class RequestRefused(BackendLost, InvalidValue):
    """One request was refused, or its answer withheld: only its own thread is lost.

    Attributes:
        said: The server's words.
        field: The field of the request that it names beside them.
    """

    def __init__(self, what: str, *, said: str = "", field: str | None = None) -> None:
        super().__init__(what)
        self.said = said
        self.field = field


class Patience:
    """How long an answer's next bytes may take."""

    def __init__(
        self, settings: OpenaiSettings, answer: fields.AnswerReader, *, whole: bool = False
    ) -> None:
        self._answer = answer
        self._first = settings.answer_timeout if whole else settings.first_token_timeout
        self._next = settings.token_timeout
        self._since = time.monotonic()
        self._given_up = False
        self._scope: anyio.CancelScope | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A block that waits for bytes.

        Raises:
            TimeoutError: it takes too long, or was given up.
        """
        if self._given_up:
            raise TimeoutError
        with anyio.move_on_after(self.seconds) as self._scope:
            yield
        if self._scope.cancelled_caught:
            raise TimeoutError

    def give_up(self) -> None:
        """Have who waits, or is about to, see it over."""
        self._given_up = True
        if self._scope is not None:
            self._scope.cancel()

    def meet_token(self) -> None:
        """A token came."""
        self._since = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether the answer is whole, and only its usage may be missing."""
        return self._answer.finish is not None and self._answer.written > 0

    @property
    def seconds(self) -> float:
        left = self._since + self._first - time.monotonic()
        if self._answer.written:
            left = min(left, self._next)
        if self.over and self._answer.finish in fields.ENDED:  # other words may mean nothing
            left = min(left, LATE_S)
        return max(0.0, left)

    @property
    def silent_s(self) -> float:
        """For how long no token came."""
        return time.monotonic() - self._since

    @property
    def waited(self) -> str:
        return f"{self.silent_s:.0f} s"


@dataclass(eq=False)
class OpenRequest:
    """One request at one replica, and what is read of its answer.

    Attributes:
        second: Whether another one of the thread was sent before, and is open.
    """

    generation: PromptedGeneration
    replica: Replica
    body: Event
    answer: fields.AnswerReader
    patience: Patience
    second: bool = False

    @property
    def whole(self) -> bool:
        """Whether its answer comes at once."""
        return not self.body["stream"]

    def give_up(self) -> None:
        """Have whoever reads its answer see it lost."""
        self.patience.give_up()


class OpenaiBackend(PromptedBackend):
    """OpenAI-compatible servers behind the `Backend` interface; used with ``async with``.

    Attributes:
        profile: What the servers can do; several replicas are taken to be equal to the first.
        mode: How they are talked to.
    """

    def __init__(
        self,
        settings: OpenaiSettings,
        profile: ServerProfile,
        *,
        mode: Mode,
        eos: Collection[int] = (),
        context: int = 8192,
    ) -> None:
        super().__init__(context=context, eos=eos)
        self.settings = settings
        self.profile = profile
        self.mode = mode
        self.exact = mode == "tokens"
        self.addresses = settings.base_urls
        self.capabilities = profile.capabilities(mode)
        if settings.adapters:
            self.capabilities |= {"adapters"}
        most = 1 if profile.one_at_a_time else settings.max_connections
        self._membership = Membership(
            Addresses(settings.base_urls),
            lambda url: connect(url, settings),
            lambda *call: self._tasks.start_soon(*call),
            most=most,
        )
        self.replicas = self._membership.replicas
        self._hedging = Hedging(
            self.replicas,
            self._answer,
            self._again,
            lambda *call: self._tasks.start_soon(*call),
            exact=self.exact,
        )
        self._parameters = Parameters(profile.refused)
        self._parameters.most = profile.most_tokens
        self._known = KnownServers()
        self._excess: WeakKeyDictionary[Segment, int] = WeakKeyDictionary()
        self._threads: WeakKeyDictionary[Segment | PromptedGeneration, str] = WeakKeyDictionary()

    async def start(self) -> None:
        await self._membership.begin()

    async def stop(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._membership.close()
        learnt = self.profile.model_copy(
            update={
                "refused": tuple(sorted(self._parameters.refused)),
                "most_tokens": self._parameters.most,
            }
        )
        if self._parameters.proven and learnt != self.profile:
            self._known.keep(learnt)

    def request(
        self, generation: PromptedGeneration, prompt: list[int]
    ) -> AsyncGenerator[Token, None]:
        if not generation.repeats:
            return self._sent(generation, prompt)
        start = len(prompt) - generation.repeats
        said = text_of(prompt[start:])
        return behind(self._sent(generation, prompt[:start]), said, loss=generation.loss)

    async def _sent(
        self, generation: PromptedGeneration, prompt: list[int]
    ) -> AsyncGenerator[Token, None]:
        entries = generation.segment.context.entries
        prefix = entries[0].segment if entries else generation.segment
        key = repr(prefix.tokens[: prefix.given]).encode()
        headers = self._headers(generation, key)
        begun = False
        for lesson in range(MOST_LESSONS):
            async with self.replicas.borrow(generation.segment, key) as replica:
                whole = self._whole(generation.sampling, replica)
                body = self._body(generation, prompt, prefix, stream=not whole)
                body["extra_headers"] = headers
                try:
                    request = self._opened(generation, replica, body)
                    async with aclosing(self._first(request)) as stream:
                        async for token in stream:
                            begun = True
                            yield token
                    return
                except RequestRefused as error:
                    if begun or lesson + 1 == MOST_LESSONS:
                        raise
                    if not self._learn(error, body, generation, prefix):
                        if not self._parameters.proven:  # not as it was known
                            self._known.forget(self.profile)
                        raise

    def _learn(
        self, error: RequestRefused, body: Event, generation: PromptedGeneration, prefix: Segment
    ) -> bool:
        """Whether a refused request may be sent again, in another form."""
        sent = body["extra_body"]
        ours = sent.keys() - self.settings.extra_body.keys()
        if self._parameters.learn(ours, error.said, error.field):
            return True
        bound = next((sent[name] for name in BOUNDS if name in ours), 0)
        most, with_prompt = smaller_bound(error.said, bound) or (0, False)
        if with_prompt:
            excess = generation.context_room - most
            self._excess[prefix] = max(excess, self._excess.get(prefix, 0))
        elif most:
            self._parameters.most = most
        return most > 0

    def _opened(self, generation: PromptedGeneration, replica: Replica, body: Event) -> OpenRequest:
        answer = fields.AnswerReader(in_text=not self.exact, k=generation.sampling.confidence)
        patience = Patience(self.settings, answer, whole=not body["stream"])
        return OpenRequest(generation, replica, body, answer, patience)

    def _first(self, request: OpenRequest) -> AsyncGenerator[Token, None]:
        """The answer to a request, or to the one that was sent elsewhere because it was late."""
        if not self.settings.hedge:
            return self._answer(request)
        return self._hedging.answer(request, request.generation.discard)

    def _again(self, late: OpenRequest, other: Replica) -> OpenRequest:
        """The same request for another replica."""
        self._draw_again(late.generation)
        return replace(self._opened(late.generation, other, late.body), second=True)

    async def _answer(self, request: OpenRequest) -> AsyncGenerator[Token, None]:
        """The tokens of one answer, the last one with the reason.

        It is held back until the usage is there, which comes behind the reason.  Where no token is
        left for the reason, the end token is added.  In text the last that was asked for is held
        back: behind it none ends an answer that is cut.
        """
        generation, answer = request.generation, request.answer
        sent = request.body["extra_body"]
        most = next((sent[name] for name in BOUNDS if name in sent), None)
        last: Token | None = None
        async with aclosing(self._chunks(request)) as chunks:
            async for tokens in chunks:
                if last is not None and tokens:
                    yield last
                    last = None
                ended = answer.finish is not None if self.exact else answer.written == most
                if ended and tokens:
                    last = tokens.pop()
                for token in tokens:
                    yield token
        generation.tool_calls = answer.tool_calls
        reason = self._reason(request.replica, answer)
        found = answer.usage
        if not request.second:
            self._note(generation, found)
        if not self.exact and found is not None:
            unseen = (found.completion or 0) - answer.written - (last is None)
            for _ in range(min(unseen, generation.room - 1)):
                yield Token(FILLER, answer.remainder)
        if last is None and self.eos:
            last = Token(min(self.eos), 0.0 if self.exact else answer.remainder)
        if last is not None:
            yield last._replace(reason=reason)

    def _note(self, generation: PromptedGeneration, found: fields.ServerUsage | None) -> None:
        """Note the server's counts of a prompt, as far as it says them."""
        if found is None:
            return
        if found.prompt is not None and not self.exact:
            generation.found_prompt(found.prompt)
        if found.cached is not None:
            generation.found_cached(found.cached)

    def _reason(self, replica: Replica, answer: fields.AnswerReader) -> StopReason:
        """Why an answer ended.

        Raises:
            RequestLost: it broke off.
            RequestRefused: the server withholds it.
        """
        finish = (answer.finish or "").lower()
        if finish in fields.WITHHELD:
            raise RequestRefused(f"{replica.url} withheld an answer ({finish}); ask otherwise")
        if finish in fields.BROKEN_OFF:
            raise RequestLost(replica, f"ended an answer with {finish!r}")
        if not finish and self.profile.one_at_a_time:
            raise RequestLost(replica, "broke off an answer for another request")
        if not finish and not (answer.complete and answer.written):
            raise RequestLost(replica, "ended an answer without a reason")
        return "length" if finish in fields.CUT else "stop"

    async def _chunks(self, request: OpenRequest) -> AsyncGenerator[list[Token], None]:
        """What each block of one stream brings; leaving it early closes its connection."""
        generation, replica = request.generation, request.replica
        answer, patience, body = request.answer, request.patience, request.body
        parser = EventParser()
        create = _creator(replica.client, self.mode)
        began, noted = time.monotonic(), float(LEAST_TOKENS)
        async with self._explained(replica, patience), AsyncExitStack() as stack:
            stack.enter_context(self._membership.waiting(replica, patience))
            with patience.waiting():
                response = await stack.enter_async_context(create(**body))
            if not request.second:
                self.running[generation] = response.close
                stack.callback(self.running.pop, generation, None)
            self._parameters.proven = True
            blocks = response.iter_bytes()
            async for data in _in_time(blocks, patience):
                events = parser.end() if data is None else parser.feed(data)
                tokens: list[Token] = []
                failure: Exception | None = None
                try:
                    for event in events:
                        tokens += answer.read(event)
                except (Malformed, ErrorEvent) as error:
                    failure = error
                if tokens:
                    patience.meet_token()
                    if answer.size >= noted and not request.whole:
                        noted = 2 * answer.size
                        replica.wrote(answer.size, time.monotonic() - began)
                    yield tokens
                if failure is not None:
                    raise failure
                if parser.done:
                    await _read_out(blocks)
                    break
            answer.complete = parser.done or is_framed(response.headers)
            if request.whole:
                told = answer.usage.completion if answer.usage is not None else None
                replica.wrote(max(answer.size, told or 0), time.monotonic() - began)

    @asynccontextmanager
    async def _explained(self, replica: Replica, patience: Patience) -> AsyncIterator[None]:
        """Whatever may go wrong with a request as what it means to its thread."""
        import httpx2
        from openai import APIConnectionError, APIStatusError

        try:
            yield
        except Malformed as error:
            raise RequestLost(replica, str(error)) from error
        except ErrorEvent as error:
            raise self._failed(replica, error.status, str(error)) from error
        except TimeoutError as error:
            if not patience.over:
                raise RequestLost(replica, f"was silent for {patience.waited}") from error
        except APIStatusError as error:
            said, headers = words_of(error), error.response.headers
            raise self._failed(replica, error.status_code, said, headers, error.param) from error
        except APIConnectionError as error:
            why = await unreachable(replica.url, error, self.settings)
            raise RequestLost(replica, why) from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            if not patience.over:
                raise RequestLost(replica, f"broke off ({type(error).__name__})") from error

    def _failed(
        self,
        replica: Replica,
        status: int,
        said: str,
        headers: Mapping[str, str] = NO_HEADERS,
        field: str | None = None,
    ) -> BackendLost:
        """What a status means: lost for now, or refused for good."""
        short = " ".join(said.split())[:200]
        if is_passing(status, said):
            wait = asked_to_wait(headers)
            return RequestLost(replica, f"answered {status} ({short})", wait)
        what = f"refuses the request ({short}); see reason doctor"
        if status in (401, 403):
            what = f"refuses the key ({short}); set {self.settings.api_key_env} to a valid one"
        if status == 404:
            what = f"does not know {short}; see reason doctor"
        return RequestRefused(f"{replica.url} {what}", said=said, field=field)

    async def score(self, segment: Segment) -> list[float]:
        """See `Backend.score`; where tokens are runs of text, those of the server are scored.

        Raises:
            BackendLost: the server is lost, or refuses.
        """
        seen, own = segment.context.tokens, segment.tokens
        prompt: list[int] | str = [*seen, *own] if self.exact else text_of([*seen, *own])
        body = {"model": self.profile.model, **scoring.echo_request(prompt)}
        async with self.replicas.borrow(segment) as replica:
            patience = Patience(self.settings, fields.AnswerReader(in_text=False, k=0))
            async with self._explained(replica, patience):
                answer = await replica.client.post("/completions", body=body, cast_to=object)
        if self.exact:
            return scoring.of_tokens(answer, len(own))
        return scoring.of_text(answer, len(text_of(seen)))

    @property
    def one_cache(self) -> bool:
        return len(self.replicas.members) == 1

    async def recover(
        self, generation: PromptedGeneration, error: BackendLost, failures: int
    ) -> bool:
        if failures > self.settings.retries:
            return False
        if isinstance(error, (RequestRefused, AnotherAnswer)):
            return False
        if not self.profile.continues(self.mode):
            if generation.turn or generation.segment.given:
                return False
            generation.repeats, generation.loss = len(generation.segment), str(error)
        if isinstance(error, RequestLost):
            self._membership.lose(error.replica, error.wait_s)
            if error.wait_s:
                logger.warning("%s asks to wait for %.0f s", error.replica.url, error.wait_s)
        logger.info("a request was lost and is sent again: %s", error)
        if not isinstance(error, RequestLost) or error.wait_s is None:
            await anyio.sleep(self.replicas.pause(failures, self.settings.backoff))
        self.recovered += 1
        self._draw_again(generation)
        return True

    def _draw_again(self, generation: PromptedGeneration) -> None:
        """Note that a thread is asked for again, which may be another draw without a seed."""
        unseeded = self.profile.seeds is False or "seed" in self._parameters.refused
        if unseeded and generation.sampling.temperature != 0:
            generation.timing_dependent = True

    def _whole(self, sampling: Sampling, replica: Replica) -> bool:
        """Whether an answer comes at once."""
        if self.settings.stream or not sampling.whole:
            return False
        return not (self.settings.hedge and self._hedging.measures(replica))

    def _body(
        self, generation: PromptedGeneration, prompt: list[int], prefix: Segment, *, stream: bool
    ) -> Event:
        """The arguments of the client's call; what is not OpenAI's own goes to ``extra_body``."""
        sampling, given = generation.sampling, self.settings.extra_body
        extra: Event = {"stream_options": {"include_usage": True}} if stream else {}
        extra |= self._drawing(sampling)
        if not (given.keys() | sampling.extra.keys()) & set(BOUNDS):
            extra["max_tokens"] = generation.bounded(
                max(1, generation.context_room - self._excess.get(prefix, 0))
            )
        if sampling.priority:
            extra["priority"] = sampling.priority
        if sampling.constraint is not None:
            extra |= self._form(sampling.constraint)
        if self.mode != "chat" and self.profile.logprobs:
            extra["logprobs"] = sampling.confidence
        elif self.mode == "chat" and sampling.logprobs:
            extra["logprobs"] = True
        if self.mode == "tokens":
            extra |= {
                "return_token_ids": True,
                "skip_special_tokens": False,
                "stop_token_ids": list(generation.stop),
            }
        extra |= sampling.extra
        lost = self._parameters.refused & extra.keys() & {*ASKED, "seed"}
        generation.ignored = frozenset(lost)
        extra = self._parameters.fit(extra) | given
        body: Event = {
            "model": self._model(sampling.adapter),
            "stream": stream,
            "extra_body": extra,
        }
        if self.mode == "chat":
            return body | self._messages(prompt, extra)
        return body | {"prompt": text_of(prompt) if self.mode == "text" else prompt}

    def _headers(self, generation: PromptedGeneration, prompt: bytes) -> dict[str, str]:
        """What routers are told: the thread's name, which its later turns have as well."""
        problem = f"{zlib.crc32(prompt):08x}"
        known = self._threads.get(generation) or self._threads.get(generation.segment)
        name = known or uuid4().hex[:12]
        self._threads[generation] = self._threads[generation.segment] = name
        thread = f"{problem}-{name}"
        return {
            name: value.replace("{thread}", thread).replace("{problem}", problem)
            for name, value in self.settings.headers.items()
        }

    def _drawing(self, sampling: Sampling) -> Event:
        """How tokens are drawn, as far as that was said; the rest is the server's own."""
        told: Event = {"temperature": sampling.temperature, **sampling.knobs}
        told["seed"] = None if sampling.temperature == 0 else sampling.seed
        told["logit_bias"] = {str(id): by for id, by in sampling.logit_bias.items()} or None
        if self.mode != "tokens":
            told["stop"] = list(sampling.stop[:MOST_STOPS]) or None
        if self.profile.server == "transformers" and sampling.temperature != 0:
            told["generation_config"] = self._generation_config(sampling)
        return {name: value for name, value in told.items() if value is not None}

    def _generation_config(self, sampling: Sampling) -> str | None:
        """The form in which ``transformers serve`` is made to draw; else it is greedy at any heat.

        What the model's own configuration says is left out then.
        """
        if sampling.temperature is None:
            return None
        return json.dumps(
            {"do_sample": True, "temperature": sampling.temperature, **sampling.knobs}
        )

    def _form(self, constraint: Constraint) -> Event:
        if constraint.kind == "json" and self.mode == "chat" and self.profile.json_schema:
            return {"response_format": constraint.response_format}
        return {"structured_outputs": constraint.options}

    def _messages(self, prompt: list[int], extra: Event) -> Event:
        messages = chat_messages(prompt)
        if messages[-1]["role"] == "assistant":
            if not self.profile.chat_continuation:
                raise CapabilityMissing(
                    f"{self.profile.url} can't go on with a partial answer in chat; "
                    "use --engine mode=text where it has completions, or another strategy"
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


async def _read_out(blocks: AsyncIterator[bytes]) -> None:
    """Read a stream's end, which follows its last event at once, so that its connection is kept."""
    with anyio.move_on_after(READ_OUT_S):
        async for _ in blocks:
            pass


async def _in_time(
    blocks: AsyncIterator[bytes], patience: Patience
) -> AsyncGenerator[bytes | None, None]:
    """A stream's bytes, as long as they come in time, and None at its end.

    Raises:
        TimeoutError: they do not.
    """
    data: bytes | None = b""
    while data is not None:
        with patience.waiting():
            data = await anext(blocks, None)
        yield data
