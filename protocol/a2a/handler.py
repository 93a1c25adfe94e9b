"""A2A's operations over a `Service`, whatever the binding that they came by."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from typing import Any, NoReturn

import anyio
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers import RequestHandler
from a2a.server.tasks import InMemoryTaskStore
from a2a.types.a2a_pb2 import (
    AgentCard,
    CancelTaskRequest,
    GetExtendedAgentCardRequest,
    GetTaskRequest,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    Role,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskState,
)
from a2a.utils.errors import (
    ContentTypeNotSupportedError,
    InvalidParamsError,
    PushNotificationNotSupportedError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a.utils.proto_utils import validate_proto_required_fields
from a2a.utils.task import apply_history_length, validate_history_length, validate_page_size
from anyio.abc import TaskGroup
from google.protobuf.json_format import MessageToDict
from pydantic import Field, ValidationError
from pydantic.alias_generators import to_camel

from orchestrator.errors import ReasonError, UnknownName
from protocol.a2a.jobs import EXTENSION, SETTLED, TERMINAL, Event, Job, Jobs
from protocol.http.errors import Refusal, invalid, refusal
from protocol.http.openai.chat import extension, no_answer
from protocol.http.openai.exchange import Desk, running
from protocol.http.openai.fields import Strict
from protocol.http.openai.stream import merged
from protocol.http.service import Answer, Question

PROGRESS_S = 0.05
"""Thoughts are collected for so long before they are sent on."""
NO_PUSH = "there are no push notifications; subscribe to the task"
SHORT = "x_reason"
"""What a message may call our extension in its metadata, by hand."""
MODES = frozenset({"text/plain", "text/*", "text", "*/*"})


class Wish(Strict):
    """What a message's metadata may say of our extension; what is None has a default."""

    skill: str | None = None
    """The skill that is to answer; by default the card's first."""
    n: int | None = Field(default=None, ge=1, le=1024)
    temperature: float | None = Field(default=None, ge=0, le=2)
    seed: int = Field(default=0, ge=-(1 << 53), le=1 << 53)
    budget: int | None = Field(default=None, ge=1)
    context: int | None = Field(default=None, ge=16)
    timeout: float | None = Field(default=None, gt=0)


class Handler(RequestHandler):
    """One agent: its tasks run in ``group``, and outlive the connections that follow them."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._jobs = Jobs()
        self.group: TaskGroup | None = None

    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Task:
        job = self._accept(params, context)
        if not params.configuration.return_immediately:
            await job.settled()
        return apply_history_length(job.snapshot(), params.configuration)

    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        job = self._accept(params, context)
        after, first = job.number, job.snapshot()
        yield apply_history_length(first, params.configuration)
        if first.status.state not in SETTLED or _last_seen(context) is not None:
            async for event in job.follow(_last_seen(context) or after, SETTLED):
                yield event

    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        validate_proto_required_fields(params)
        job = self._find(params.id, context)
        seen = _last_seen(context)
        if job.state in TERMINAL and seen is None:
            raise UnsupportedOperationError(
                f"task {params.id} has ended; get it, or say by Last-Event-ID what you have seen"
            )
        after = job.number
        yield job.snapshot()
        async for event in job.follow(after if seen is None else seen):
            yield event

    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> Task:
        validate_proto_required_fields(params)
        validate_history_length(params)
        return apply_history_length(self._find(params.id, context).snapshot(), params)

    async def on_list_tasks(
        self, params: ListTasksRequest, context: ServerCallContext
    ) -> ListTasksResponse:
        validate_history_length(params)
        if params.HasField("page_size"):
            validate_page_size(params.page_size)
        store = InMemoryTaskStore()  # it knows how to filter and to page
        for job in self._jobs.of(context.user.user_name):
            await store.save(job.snapshot(), context)
        page = await store.list(params, context)
        for task in page.tasks:
            if not params.include_artifacts:
                task.ClearField("artifacts")
            task.CopyFrom(apply_history_length(task, params))
        return page

    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task:
        validate_proto_required_fields(params)
        job = self._find(params.id, context)
        if job.state in TERMINAL:
            raise TaskNotCancelableError(f"task {params.id} has ended")
        self._jobs.answered(job)
        if job.scope is None:
            job.become(TaskState.TASK_STATE_CANCELED)
        else:
            job.scope.cancel()
            await job.settled()
        return job.snapshot()

    async def on_get_extended_agent_card(
        self, params: GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> AgentCard:
        raise UnsupportedOperationError("there is no extended card; the public one says all")

    async def _no_push(self, params: Any, context: ServerCallContext) -> NoReturn:
        raise PushNotificationNotSupportedError(NO_PUSH)

    on_create_task_push_notification_config = _no_push
    on_get_task_push_notification_config = _no_push
    on_list_task_push_notification_configs = _no_push
    on_delete_task_push_notification_config = _no_push

    def _find(self, id: str, context: ServerCallContext) -> Job:
        job = self._jobs.find(context.user.user_name, id)
        if job is None:
            raise TaskNotFoundError(f"task {id} does not exist; list those that do")
        return job

    def _accept(self, params: SendMessageRequest, context: ServerCallContext) -> Job:
        """The task that a message belongs to: a new one, one that waited for it, or, for a
        message that came before, the same again."""
        validate_proto_required_fields(params)
        validate_history_length(params.configuration)
        if params.configuration.HasField("task_push_notification_config"):
            raise PushNotificationNotSupportedError(NO_PUSH)
        message, owner = params.message, context.user.user_name
        before = self._jobs.sent(owner, message)
        if before is not None:
            return before
        _readable(params)
        wish = self._wish(params)
        job = self._waiting(message, context) if message.task_id else Job(owner, message)
        self._jobs.keep(job, message)
        assert self.group is not None
        job.scope = anyio.CancelScope()
        self.group.start_soon(self._work, job, job.scope, wish, _text(message))
        return job

    def _waiting(self, message: Message, context: ServerCallContext) -> Job:
        """The task that waited for this message."""
        job = self._find(message.task_id, context)
        if message.context_id and message.context_id != job.task.context_id:
            raise InvalidParamsError(
                f"contextId: task {message.task_id} belongs to {job.task.context_id}"
            )
        if job.state != TaskState.TASK_STATE_INPUT_REQUIRED:
            raise UnsupportedOperationError(
                f"task {message.task_id} takes no message now; leave taskId out for a new task"
            )
        job.hear(message)
        return job

    def _wish(self, params: SendMessageRequest) -> Wish:
        metadata = {**MessageToDict(params.metadata), **MessageToDict(params.message.metadata)}
        key = EXTENSION if EXTENSION in metadata else SHORT
        try:
            wish = Wish.model_validate(metadata.get(key, {}), strict=False)
        except ValidationError as error:
            raise InvalidParamsError(f"metadata.{key}: {invalid(error)}") from error
        if wish.skill is None:
            return wish.model_copy(update={"skill": self._desk.service.variants[0].id})
        try:
            self._desk.check(_question(wish, _text(params.message)))
        except UnknownName as error:
            raise InvalidParamsError(f"metadata.{key}.skill: {error}") from error
        except ReasonError:
            pass  # the user is told, and may ask otherwise
        return wish

    async def _work(self, job: Job, scope: anyio.CancelScope, wish: Wish, text: str) -> None:
        """Run a question for a task, to whatever end."""
        with scope, self._desk.metrics.request("a2a") as outcome:
            try:
                question = self._desk.check(_question(wish, text))
                async with self._desk.gate.enter():
                    job.become(TaskState.TASK_STATE_WORKING)
                    with self._desk.metrics.run(question.variant) as account:
                        answer = await self._follow(job, question)
                        account(answer)
                self._finish(job, answer)
            except Exception as error:
                problem = refusal(error)
                outcome(problem.status)
                _end(job, problem)
        job.scope = None
        if scope.cancelled_caught:
            job.become(TaskState.TASK_STATE_CANCELED)

    async def _follow(self, job: Job, question: Question) -> Answer:
        """Publish a run's thoughts while it runs."""
        async with running(self._desk.service, question) as run:
            while (events := await run.buffer.take(math.inf)) is not None:
                for branch, text in merged(events).items():
                    job.become(TaskState.TASK_STATE_WORKING, text, {"branch": branch})
                await run.buffer.pause(PROGRESS_S)
        return run.answer

    def _finish(self, job: Job, answer: Answer) -> None:
        found = {to_camel(name): value for name, value in extension(answer, 0, ()).items()}
        if answer.text is None:
            job.become(TaskState.TASK_STATE_FAILED, no_answer(answer), found)
        else:
            job.give(answer.text, found)
            job.become(TaskState.TASK_STATE_COMPLETED, None, found)


def _end(job: Job, problem: Refusal) -> None:
    """A question that can't be answered as it is may be asked otherwise; else it is over."""
    if problem.status in (429, 503):
        state = TaskState.TASK_STATE_REJECTED
    elif problem.status < 500:
        state = TaskState.TASK_STATE_INPUT_REQUIRED
    else:
        state = TaskState.TASK_STATE_FAILED
    job.become(state, str(problem), {"code": problem.code})


def _question(wish: Wish, text: str) -> Question:
    assert wish.skill is not None
    return Question(
        variant=wish.skill,
        text=text,
        n=wish.n,
        temperature=wish.temperature,
        seed=wish.seed,
        budget=wish.budget,
        context=wish.context,
        timeout=wish.timeout,
    )


def _readable(params: SendMessageRequest) -> None:
    """Refuse what is no text, and whoever can't read text."""
    for part in params.message.parts:
        if not part.HasField("text") or (part.media_type or "text/plain") not in MODES:
            kind = part.media_type or part.WhichOneof("content")
            raise ContentTypeNotSupportedError(f"{kind} is not read here; send text/plain")
    wanted = params.configuration.accepted_output_modes
    if wanted and not MODES.intersection(wanted):
        raise ContentTypeNotSupportedError(f"the answer is text/plain, not {', '.join(wanted)}")
    if params.message.role != Role.ROLE_USER:
        raise InvalidParamsError("message.role: send the user's messages, as ROLE_USER")


def _text(message: Message) -> str:
    return "\n".join(part.text for part in message.parts)


def _last_seen(context: ServerCallContext) -> int | None:
    """The number of the last event that a client says it has seen."""
    given = context.state.get("headers", {}).get("last-event-id", "")
    return int(given) if given.isdecimal() and len(given) < 16 else None
