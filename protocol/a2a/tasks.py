"""A2A tasks with numbered events, so that a client that comes back misses none."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncGenerator
from typing import Any

import anyio
from a2a.types.a2a_pb2 import (
    Artifact,
    Message,
    Part,
    Role,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from google.protobuf.json_format import MessageToDict

EXTENSION = "urn:parallel-reason:a2a:reasoning:1"
"""The key in metadata; it is the extension's URI (A2A 1.0, 4.6.2), and fields are in camelCase."""
MOST_EVENTS = 4096
"""Events that are kept of a task; a client that missed more gets the task as it is."""
MOST_HISTORY, MOST_HISTORY_BYTES = 256, 2 << 20
"""Messages of a task's history; the oldest are forgotten first, and the newest is always kept."""
MOST_LOG_BYTES = 2 << 20
"""Bytes of the events that are kept of a task."""
MOST_TASKS, MOST_BYTES = 1000, 32 << 20
"""Tasks that are kept, and their bytes."""
TERMINAL = frozenset(
    {
        TaskState.TASK_STATE_COMPLETED,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_CANCELED,
        TaskState.TASK_STATE_REJECTED,
    }
)
SETTLED = TERMINAL | {TaskState.TASK_STATE_INPUT_REQUIRED}

TaskEvent = Task | TaskStatusUpdateEvent | TaskArtifactUpdateEvent


class AgentTask:
    """One task: what it is now, and its events, numbered from 1.

    Attributes:
        owner: The name of the key that it was sent with.
        value: The task as A2A writes it.
        number: The number of its last event.
        scope: Cancels the run that works for it; None while there is none.
    """

    def __init__(self, owner: str, message: Message) -> None:
        self.owner = owner
        self.value = Task(id=str(uuid.uuid4()), context_id=message.context_id or str(uuid.uuid4()))
        self.scope: anyio.CancelScope | None = None
        self.number = 0
        self._log: list[TaskEvent] = []
        self._log_bytes = 0
        self._news = anyio.Event()
        self.hear(message)

    @property
    def state(self) -> TaskState:
        return self.value.status.state

    def hear(self, message: Message) -> None:
        """Add a message of the user to the history, and begin again."""
        heard = self.value.history.add()
        heard.CopyFrom(message)
        heard.task_id, heard.context_id = self.value.id, self.value.context_id
        self._shorten_history()
        self.become(TaskState.TASK_STATE_SUBMITTED)

    def become(
        self, state: TaskState, text: str | None = None, extension: dict[str, Any] | None = None
    ) -> None:
        """Publish a new state, with a message of the agent."""
        status = TaskStatus(state=state)
        status.timestamp.GetCurrentTime()
        if text is not None:
            status.message.CopyFrom(self._message(text))
        event = TaskStatusUpdateEvent(
            task_id=self.value.id, context_id=self.value.context_id, status=status
        )
        if state in SETTLED and text is not None:
            self.value.history.add().CopyFrom(status.message)
            self._shorten_history()
        self.value.status.CopyFrom(status)
        if extension is not None:
            self.value.metadata.update({EXTENSION: extension})
        self._publish(event, extension or {})

    def give(self, text: str, extension: dict[str, Any]) -> None:
        """Publish the whole answer as an artifact."""
        artifact = Artifact(
            artifact_id="answer", name="answer", parts=[_text(text)], extensions=[EXTENSION]
        )
        artifact.metadata.update({EXTENSION: extension})
        self.value.artifacts.add().CopyFrom(artifact)
        event = TaskArtifactUpdateEvent(
            task_id=self.value.id,
            context_id=self.value.context_id,
            artifact=artifact,
            last_chunk=True,
        )
        self._publish(event, {})

    @property
    def size(self) -> int:
        """Its bytes, events included."""
        return self.value.ByteSize() + self._log_bytes

    def _shorten_history(self) -> None:
        history = self.value.history
        size = sum(message.ByteSize() for message in history)
        while len(history) > 1 and (len(history) > MOST_HISTORY or size > MOST_HISTORY_BYTES):
            size -= history[0].ByteSize()
            del history[0]
        fresh = Task()  # what protobuf deletes, it frees with the whole message only
        fresh.CopyFrom(self.value)
        self.value = fresh

    def snapshot(self) -> Task:
        """The task as it is, with the number of its last event."""
        copy = Task()
        copy.CopyFrom(self.value)
        _number(copy, self.number, {})
        return copy

    async def settled(self) -> None:
        """Wait until it has ended or waits for its user."""
        while self.state not in SETTLED:
            await self._news.wait()

    async def follow(
        self, after: int, until: frozenset[TaskState] = TERMINAL
    ) -> AsyncGenerator[TaskEvent, None]:
        """The events after number ``after``, up to the first that reaches a state of ``until``."""
        while True:
            first = self.number - len(self._log) + 1
            if after + 1 < first:
                after = self.number
                yield self.snapshot()
            for event in self._log[max(0, after + 1 - first) :]:
                after += 1
                yield event
                if isinstance(event, TaskStatusUpdateEvent) and event.status.state in until:
                    return
            if after >= self.number:
                if self.state in TERMINAL:
                    return
                await self._news.wait()

    def _publish(self, event: TaskEvent, extension: dict[str, Any]) -> None:
        self.number += 1
        _number(event, self.number, extension)
        self._log.append(event)
        self._log_bytes += event.ByteSize()
        if len(self._log) > 2 * MOST_EVENTS or self._log_bytes > 2 * MOST_LOG_BYTES:
            while len(self._log) > MOST_EVENTS or self._log_bytes > MOST_LOG_BYTES:
                self._log_bytes -= self._log.pop(0).ByteSize()
        self._news.set()
        self._news = anyio.Event()

    def _message(self, text: str) -> Message:
        return Message(
            message_id=str(uuid.uuid4()),
            role=Role.ROLE_AGENT,
            task_id=self.value.id,
            context_id=self.value.context_id,
            parts=[_text(text)],
        )


def _text(text: str) -> Part:
    return Part(text=text, media_type="text/plain")


def _number(event: TaskEvent, number: int, extension: dict[str, Any]) -> None:
    held = MessageToDict(event.metadata).get(EXTENSION, {})
    event.metadata.update({EXTENSION: {**held, **extension, "event": number}})


class AgentTasks:
    """The tasks of an agent, by owner; of those that have ended, the oldest are forgotten first.

    A message that comes again gets the task that it began, until its sender cancels that task or
    sends it another message: the answer has then arrived, and the same message is a new task.
    """

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], AgentTask] = {}
        self._sent: dict[tuple[str, bytes], AgentTask] = {}
        self._last_message: dict[AgentTask, tuple[str, bytes]] = {}

    def find(self, owner: str, id: str) -> AgentTask | None:
        return self._tasks.get((owner, id))

    def of(self, owner: str) -> list[AgentTask]:
        return [task for task in self._tasks.values() if task.owner == owner]

    def sent(self, owner: str, message: Message) -> AgentTask | None:
        """The task that the same message, by its id and content, came to before."""
        return self._sent.get((owner, _digest(message)))

    def keep(self, task: AgentTask, message: Message) -> None:
        """Remember a task, and that this message is the last that came to it."""
        self.answered(task)
        self._tasks[task.owner, task.value.id] = task
        self._last_message[task] = task.owner, _digest(message)
        self._sent[self._last_message[task]] = task
        settled = [old for old in self._tasks.values() if old.state in SETTLED and old is not task]
        size = sum(old.size for old in self._tasks.values())
        for old in sorted(settled, key=lambda old: old.owner != task.owner):  # its own first
            if len(self._tasks) <= MOST_TASKS and size <= MOST_BYTES:
                return
            size -= old.size
            self._forget(old)

    def answered(self, task: AgentTask) -> None:
        """Forget the last message that came to a task, as its sender has got the answer."""
        message = self._last_message.pop(task, None)
        if message is not None:
            del self._sent[message]

    def _forget(self, task: AgentTask) -> None:
        if task.state not in TERMINAL:
            task.become(TaskState.TASK_STATE_CANCELED, "nobody answered for too long")
        del self._tasks[task.owner, task.value.id]
        self.answered(task)


def _digest(message: Message) -> bytes:
    """Equal for messages with the same content."""
    return hashlib.sha256(message.SerializeToString(deterministic=True)).digest()
