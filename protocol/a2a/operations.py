"""A2A's operations over a `Service`, the same for both bindings."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
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
from protocol.a2a.tasks import EXTENSION, SETTLED, TERMINAL, AgentTask, AgentTasks, TaskEvent
from protocol.http.errors import Refusal, invalid_body
from protocol.http.openai.common_fields import RunFields, Temperature
from protocol.http.runs import CheckedRequest, RequestRunner, texts_by_branch
from protocol.http.service import ReasoningRequest

PROGRESS_S = 0.05
"""Thoughts are collected for so long before they are sent on."""
NO_PUSH = "there are no push notifications; subscribe to the task"
SHORT = "x_reason"
"""The extension's name in a message's metadata, for those who write it by hand."""
MODES = frozenset({"text/plain", "text/*", "text", "*/*"})


class SkillOptions(RunFields):
    """What a message's metadata may say of our extension; None takes the default."""

    skill: str | None = None
    """The skill that is to answer; by default the first of the card."""
    temperature: Temperature = None
    seed: int = Field(default=0, ge=-(1 << 53), le=1 << 53)
    budget: int | None = Field(default=None, ge=1)


class AgentOperations(RequestHandler):
    """One agent; its tasks outlive the connections that follow them."""

    def __init__(self, runner: RequestRunner) -> None:
        self._runner = runner
        self._tasks = AgentTasks()
        self._group: TaskGroup | None = None

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncIterator[None]:
        """Run tasks while the application does, and cancel them at its end."""
        async with anyio.create_task_group() as self._group:
            yield
            self._group.cancel_scope.cancel()

    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Task:
        task = self._accept(params, context)
        if not params.configuration.return_immediately:
            await task.settled()
        return apply_history_length(task.snapshot(), params.configuration)

    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[TaskEvent, None]:
        task = self._accept(params, context)
        after, first = task.number, task.snapshot()
        yield apply_history_length(first, params.configuration)
        if first.status.state not in SETTLED or _last_seen(context) is not None:
            async for event in task.follow(_last_seen(context) or after, SETTLED):
                yield event

    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[TaskEvent, None]:
        validate_proto_required_fields(params)
        task = self._find(params.id, context)
        seen = _last_seen(context)
        if task.state in TERMINAL and seen is None:
            raise UnsupportedOperationError(
                f"task {params.id} has ended; get it, or say by Last-Event-ID what you have seen"
            )
        after = task.number
        yield task.snapshot()
        async for event in task.follow(after if seen is None else seen):
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
        store = InMemoryTaskStore()  # it filters and pages
        for task in self._tasks.of(context.user.user_name):
            await store.save(task.snapshot(), context)
        page = await store.list(params, context)
        for found in page.tasks:
            if not params.include_artifacts:
                found.ClearField("artifacts")
            found.CopyFrom(apply_history_length(found, params))
        return page

    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task:
        validate_proto_required_fields(params)
        task = self._find(params.id, context)
        if task.state in TERMINAL:
            raise TaskNotCancelableError(f"task {params.id} has ended")
        self._tasks.answered(task)
        if task.scope is None:
            task.become(TaskState.TASK_STATE_CANCELED)
        else:
            task.scope.cancel()
            await task.settled()
        return task.snapshot()

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

    def _find(self, id: str, context: ServerCallContext) -> AgentTask:
        task = self._tasks.find(context.user.user_name, id)
        if task is None:
            raise TaskNotFoundError(f"task {id} does not exist; list those that do")
        return task

    def _accept(self, params: SendMessageRequest, context: ServerCallContext) -> AgentTask:
        """The task of a message: a new one, the one that waited for it, or the same as before."""
        validate_proto_required_fields(params)
        validate_history_length(params.configuration)
        if params.configuration.HasField("task_push_notification_config"):
            raise PushNotificationNotSupportedError(NO_PUSH)
        message, owner = params.message, context.user.user_name
        before = self._tasks.sent(owner, message)
        if before is not None:
            return before
        _readable(params)
        request = self._request(params)
        task = self._waiting(message, context) if message.task_id else AgentTask(owner, message)
        self._tasks.keep(task, message)
        assert self._group is not None
        task.scope = anyio.CancelScope()
        self._group.start_soon(self._work, task, task.scope, request)
        return task

    def _waiting(self, message: Message, context: ServerCallContext) -> AgentTask:
        task = self._find(message.task_id, context)
        if message.context_id and message.context_id != task.value.context_id:
            why = f"contextId: task {message.task_id} belongs to {task.value.context_id}"
            raise InvalidParamsError(why)
        if task.state != TaskState.TASK_STATE_INPUT_REQUIRED:
            raise UnsupportedOperationError(
                f"task {message.task_id} takes no message now; leave taskId out for a new task"
            )
        task.hear(message)
        return task

    def _request(self, params: SendMessageRequest) -> ReasoningRequest:
        """What a message asks for.

        Raises:
            InvalidParamsError: its metadata can't be read, or names no skill of ours.
        """
        metadata = {**MessageToDict(params.metadata), **MessageToDict(params.message.metadata)}
        key = EXTENSION if EXTENSION in metadata else SHORT
        try:
            given = SkillOptions.model_validate(metadata.get(key, {}), strict=False)
        except ValidationError as error:
            raise InvalidParamsError(f"metadata.{key}: {invalid_body(error)}") from error
        skill = given.skill or self._runner.service.variants[0].id
        options = given.model_dump(exclude={"skill"})
        text = "\n".join(part.text for part in params.message.parts)
        request = ReasoningRequest.ask(skill, text, **options)
        try:
            self._runner.check(request)
        except UnknownName as error:
            raise InvalidParamsError(f"metadata.{key}.skill: {error}") from error
        except ReasonError:
            pass  # the task waits with the reason, so that its user may ask otherwise
        return request

    async def _work(
        self, task: AgentTask, scope: anyio.CancelScope, request: ReasoningRequest
    ) -> None:
        """Run the request of a task, and publish how it ended."""
        with scope:
            try:
                with self._runner.counted("a2a"):
                    await self._run(task, self._runner.check(request))
            except Refusal as problem:
                _end(task, problem)
        task.scope = None
        if scope.cancelled_caught:
            task.become(TaskState.TASK_STATE_CANCELED)

    async def _run(self, task: AgentTask, request: CheckedRequest) -> None:
        """Publish the thoughts of a run while it runs, and then its result."""
        async with self._runner.running(request) as run:
            task.become(TaskState.TASK_STATE_WORKING)
            async for events in run.events.batches(PROGRESS_S):
                for branch, text in texts_by_branch(events).items():
                    task.become(TaskState.TASK_STATE_WORKING, text, {"branch": branch})
        result = run.result
        found = {to_camel(name): value for name, value in result.details().items()}
        if not result.text or result.best.source == "unsolved":
            task.become(TaskState.TASK_STATE_FAILED, result.no_answer, found)
        else:
            task.give(result.text, found)
            task.become(TaskState.TASK_STATE_COMPLETED, None, found)


def _end(task: AgentTask, problem: Refusal) -> None:
    """End a task that was refused; where the question is at fault, its user may ask again."""
    if problem.status in (429, 503):
        state = TaskState.TASK_STATE_REJECTED
    elif problem.status < 500:
        state = TaskState.TASK_STATE_INPUT_REQUIRED
    else:
        state = TaskState.TASK_STATE_FAILED
    task.become(state, str(problem), {"code": problem.code})


def _readable(params: SendMessageRequest) -> None:
    """Refuse a message that is not text, or whose sender can't read text."""
    for part in params.message.parts:
        if not part.HasField("text") or (part.media_type or "text/plain") not in MODES:
            kind = part.media_type or part.WhichOneof("content")
            raise ContentTypeNotSupportedError(f"{kind} is not read here; send text/plain")
    wanted = params.configuration.accepted_output_modes
    if wanted and not MODES.intersection(wanted):
        raise ContentTypeNotSupportedError(f"the answer is text/plain, not {', '.join(wanted)}")
    if params.message.role != Role.ROLE_USER:
        raise InvalidParamsError("message.role: send the user's messages, as ROLE_USER")


def _last_seen(context: ServerCallContext) -> int | None:
    """The number of the last event that a client says it has seen."""
    given = context.state.get("headers", {}).get("last-event-id", "")
    return int(given) if given.isdecimal() and len(given) < 16 else None
