"""A remote A2A agent as a `Service`: requests run there, whoever built it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn, Self

import anyio
import httpx
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.client.client import ClientCallContext
from a2a.client.errors import A2AClientError
from a2a.types.a2a_pb2 import (
    AgentCard,
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskState,
    TaskStatus,
)
from a2a.utils.errors import A2AError, TaskNotFoundError, UnsupportedOperationError
from google.protobuf.json_format import MessageToDict

from orchestrator.errors import InvalidValue
from protocol.a2a.tasks import EXTENSION, TERMINAL
from protocol.errors import AgentLost, AgentRefused
from protocol.http.contract.results import ChosenAnswer, ReasoningResult
from protocol.http.service import (
    BranchListener,
    BranchText,
    EngineLoad,
    ModelVariant,
    ReasoningRequest,
    RunPlan,
    unknown_variant,
)

TRIES = 5
"""Connections in a row that may bring nothing new."""
FIRST_WAIT_S = 0.2
CANCEL_S = 5.0
TOLD = ("n", "temperature", "seed", "budget", "context", "timeout")
"""The options that a message has fields for."""
WAITING = frozenset({TaskState.TASK_STATE_INPUT_REQUIRED, TaskState.TASK_STATE_AUTH_REQUIRED})


@dataclass(kw_only=True)
class _FollowedTask:
    """What the events so far told of one task."""

    listen: BranchListener
    task: Task = field(default_factory=Task)
    reply: Message | None = None
    number: int | None = None
    texts: dict[str, str] = field(default_factory=dict)
    """Of artifacts, by id."""

    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.reply is not None or self.task.status.state in TERMINAL | WAITING

    def take(self, event: StreamResponse) -> None:
        """Take one event."""
        match event.WhichOneof("payload"):
            case "message":
                self.reply = event.message
            case "task":
                self._take_task(event.task)
            case "status_update":
                update = event.status_update
                self._status(update.status, _extension(update.metadata))
            case "artifact_update":
                artifact = event.artifact_update.artifact
                text = "".join(part.text for part in artifact.parts)
                before = self.texts.get(artifact.artifact_id, "")
                append = event.artifact_update.append
                self.texts[artifact.artifact_id] = before + text if append else text
                self._count(_extension(event.artifact_update.metadata))

    def _take_task(self, task: Task) -> None:
        self.task.CopyFrom(task)
        for artifact in task.artifacts:
            self.texts[artifact.artifact_id] = "".join(part.text for part in artifact.parts)
        if self.number is None:  # a later snapshot comes before what was missed
            self._count(_extension(task.metadata))

    def _status(self, status: TaskStatus, extension: dict[str, Any]) -> None:
        self._count(extension)
        self.task.status.CopyFrom(status)
        if status.state in TERMINAL:
            self.task.metadata.update({EXTENSION: extension})
        elif status.HasField("message"):
            branch = str(extension.get("branch", "1"))
            self.listen(BranchText(branch=branch, text=_said(status)))

    def _count(self, extension: dict[str, Any]) -> None:
        if "event" in extension:
            self.number = int(extension["event"])


class RemoteAgent:
    """An agent at a URL, used as ``async with RemoteAgent(url) as agent``.

    A connection that breaks is made again. At an agent that declares our extension this goes by
    the message's id and the number of the last event, so that nothing is done or told twice; at
    others, by the id of the task.
    """

    def __init__(
        self, url: str, *, key: str | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(30.0, read=60.0)
        self._http = httpx.AsyncClient(headers=headers, timeout=timeout, transport=transport)
        self.url = url.rstrip("/")
        self.card = AgentCard()
        self.variants: tuple[ModelVariant, ...] = ()
        self._client: Client | None = None
        self._running = 0

    async def __aenter__(self) -> Self:
        try:
            self.card = await A2ACardResolver(self._http, self.url).get_agent_card()
            bindings = ["JSONRPC", "HTTP+JSON"]
            config = ClientConfig(httpx_client=self._http, supported_protocol_bindings=bindings)
            self._client = ClientFactory(config).create(self.card)
        except Exception as error:  # the SDK raises what its parsers and transports do
            await self._http.aclose()
            why = str(error).partition("\n")[0]
            raise AgentLost(
                f"{self.url} has no usable A2A card ({why}); check the address"
            ) from error
        self.variants = tuple(
            ModelVariant(id=skill.id, title=skill.name, description=skill.description)
            for skill in self.card.skills
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._http.aclose()

    @property
    def ours(self) -> bool:
        """Whether the agent declares our extension."""
        return any(e.uri == EXTENSION for e in self.card.capabilities.extensions)

    @property
    def load(self) -> EngineLoad:
        return EngineLoad(threads=self._running, leaked=0)

    def check(self, request: ReasoningRequest) -> RunPlan:
        if all(variant.id != request.variant for variant in self.variants):
            raise unknown_variant(request.variant, self.variants)
        return RunPlan(model=request.variant, strategy="a2a")

    async def answer(
        self, request: ReasoningRequest, listen: BranchListener, *, width: int | None = None
    ) -> ReasoningResult:
        """Ask the agent; cancelling this cancels its task.

        Raises:
            AgentRefused: it rejects the question, or asks back.
            AgentLost: it can't be reached any more, or fails.
        """
        message = SendMessageRequest(message=_message(request))
        seen = _FollowedTask(listen=listen)
        self._running += 1
        started = anyio.current_time()
        try:
            await self._follow(message, seen)
        except anyio.get_cancelled_exc_class():
            await self._cancel(seen)
            raise
        finally:
            self._running -= 1
        return _result(seen, anyio.current_time() - started)

    async def _follow(self, message: SendMessageRequest, seen: _FollowedTask) -> None:
        """Take events until the task is over, over as many connections as that takes."""
        wait, tries = FIRST_WAIT_S, 0
        while not seen.over():
            number = seen.number
            try:
                async for event in self._connect(message, seen):
                    seen.take(event)
                problem: Exception | None = None
            except (A2AClientError, httpx.HTTPError) as error:
                problem = error
            except A2AError as error:
                self._refused(error)
            if seen.over():
                return
            progressed = seen.number != number
            wait, tries = (FIRST_WAIT_S, 0) if progressed else (min(2 * wait, 3.0), tries + 1)
            lost = not (self.ours or seen.task.id)  # to send again could do it twice
            if tries >= TRIES or (problem is not None and lost):
                raise AgentLost(f"{self.url} was lost in a task: {problem}; ask again") from problem
            await anyio.sleep(wait)

    async def _connect(
        self, message: SendMessageRequest, seen: _FollowedTask
    ) -> AsyncIterator[StreamResponse]:
        """The events from where they were left."""
        assert self._client is not None
        if not seen.task.id:
            async for event in self._client.send_message(message):
                yield event
            return
        headers = {} if seen.number is None else {"Last-Event-ID": str(seen.number)}
        context = ClientCallContext(service_parameters=headers)
        try:
            follow = SubscribeToTaskRequest(id=seen.task.id)
            first = True
            async for event in self._client.subscribe(follow, context=context):
                # What was missed comes after this snapshot, which knows of it already.
                if not (first and headers and event.HasField("task")):
                    yield event
                first = False
        except UnsupportedOperationError:  # it is over, or is not told about in a stream
            task = await self._client.get_task(GetTaskRequest(id=seen.task.id))
            yield StreamResponse(task=task)

    def _refused(self, error: A2AError) -> NoReturn:
        if isinstance(error, TaskNotFoundError):
            raise AgentLost(f"{self.url} has forgotten the task; ask again") from error
        raise InvalidValue(f"{self.url} refuses the request ({error}); change it") from error

    async def _cancel(self, seen: _FollowedTask) -> None:
        """Tell the agent to stop; it may be gone, and then there is nothing to stop."""
        if self._client is None or not seen.task.id or seen.over():
            return
        with anyio.move_on_after(CANCEL_S, shield=True):
            try:
                await self._client.cancel_task(CancelTaskRequest(id=seen.task.id))
            except (A2AClientError, A2AError, httpx.HTTPError):
                return


def _message(request: ReasoningRequest) -> Message:
    told = asdict(request.options)
    options = {name: told[name] for name in TOLD if told[name] is not None}
    message = Message(
        message_id=uuid.uuid4().hex,
        role=Role.ROLE_USER,
        parts=[Part(text=request.question, media_type="text/plain")],
        extensions=[EXTENSION],
    )
    message.metadata.update({EXTENSION: {"skill": request.variant, **options}})
    return message


def _result(seen: _FollowedTask, wall_s: float) -> ReasoningResult:
    """The result of a task that has ended; what an agent does not tell counts as zero.

    Raises:
        AgentRefused: the agent rejects the question, or asks back.
        AgentLost: the task failed or was cancelled there.
    """
    state, status = seen.task.status.state, seen.task.status
    told = _extension(seen.task.metadata)
    if state in WAITING | {TaskState.TASK_STATE_REJECTED}:
        raise AgentRefused(f"the agent does not take it: {_said(status) or 'it says no more'}")
    if state in TERMINAL - {TaskState.TASK_STATE_COMPLETED} and "workTokens" not in told:
        raise AgentLost(f"the agent failed: {_said(status) or 'it says no more'}; ask again")
    if seen.reply is not None:
        text = "".join(part.text for part in seen.reply.parts)
    else:
        text = "\n".join(filter(None, seen.texts.values()))
        text = text or (_said(status) if state == TaskState.TASK_STATE_COMPLETED else "")
    prompt = int(told.get("promptTokens", 0))
    return ReasoningResult(
        answers=(ChosenAnswer(text=text, answer=text or None),),
        status=told.get("status", "finished"),
        cut=bool(told.get("cut", False)),
        verified=told.get("verified"),
        confidence=float(told.get("confidence", 0.0)),
        strategy=str(told.get("strategy", "a2a")),
        branches=int(told.get("branches", 1)),
        prompt_tokens=prompt,
        completion_tokens=int(told.get("workTokens", 0)) - prompt,
        span_tokens=int(told.get("spanTokens", 0)),
        wall_s=wall_s,
        votes={str(k): int(v) for k, v in told.get("votes", {}).items()},
    )


def _extension(metadata: Any) -> dict[str, Any]:
    found = MessageToDict(metadata).get(EXTENSION, {})
    return found if isinstance(found, dict) else {}


def _said(status: TaskStatus) -> str:
    return "".join(part.text for part in status.message.parts)
