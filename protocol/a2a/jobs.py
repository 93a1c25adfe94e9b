"""A2A tasks with their numbered events, so that nobody misses one who comes back."""

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
"""The key in metadata is the extension's URI (A2A 1.0, 4.6.2), its fields are in camelCase."""
MOST_EVENTS = 4096
"""Events that are kept of a task; who was away for longer gets the task as it is."""
MOST_TASKS = 1000
TERMINAL = frozenset(
    {
        TaskState.TASK_STATE_COMPLETED,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_CANCELED,
        TaskState.TASK_STATE_REJECTED,
    }
)
SETTLED = TERMINAL | {TaskState.TASK_STATE_INPUT_REQUIRED}

Event = Task | TaskStatusUpdateEvent | TaskArtifactUpdateEvent


class Job:
    """One task: what it is now, and what happened to it, numbered from 1.

    Attributes:
        number: Of its last event.
        scope: Cancels what runs for it; None while nothing does.
    """

    def __init__(self, owner: str, message: Message) -> None:
        self.owner = owner
        self.task = Task(id=str(uuid.uuid4()), context_id=message.context_id or str(uuid.uuid4()))
        self.scope: anyio.CancelScope | None = None
        self.number = 0
        self._log: list[Event] = []
        self._news = anyio.Event()
        self.hear(message)

    @property
    def state(self) -> TaskState:
        return self.task.status.state

    def hear(self, message: Message) -> None:
        """Take a message of the user's into the history, and go back to the start."""
        heard = self.task.history.add()
        heard.CopyFrom(message)
        heard.task_id, heard.context_id = self.task.id, self.task.context_id
        self.become(TaskState.TASK_STATE_SUBMITTED)

    def become(
        self, state: TaskState, text: str | None = None, extension: dict[str, Any] | None = None
    ) -> None:
        """Publish a new state, with words of the agent's."""
        status = TaskStatus(state=state)
        status.timestamp.GetCurrentTime()
        if text is not None:
            status.message.CopyFrom(self._words(text))
        event = TaskStatusUpdateEvent(
            task_id=self.task.id, context_id=self.task.context_id, status=status
        )
        if state in SETTLED and text is not None:
            self.task.history.add().CopyFrom(status.message)
        self.task.status.CopyFrom(status)
        if extension is not None:
            self.task.metadata.update({EXTENSION: extension})
        self._publish(event, extension or {})

    def give(self, text: str, extension: dict[str, Any]) -> None:
        """Publish the answer, whole."""
        artifact = Artifact(
            artifact_id="answer", name="answer", parts=[_text(text)], extensions=[EXTENSION]
        )
        artifact.metadata.update({EXTENSION: extension})
        self.task.artifacts.add().CopyFrom(artifact)
        event = TaskArtifactUpdateEvent(
            task_id=self.task.id,
            context_id=self.task.context_id,
            artifact=artifact,
            last_chunk=True,
        )
        self._publish(event, {})

    def snapshot(self) -> Task:
        """The task as it is, with the number of its last event."""
        copy = Task()
        copy.CopyFrom(self.task)
        _number(copy, self.number, {})
        return copy

    async def settled(self) -> None:
        """Wait until it has ended or waits for its user."""
        while self.state not in SETTLED:
            await self._news.wait()

    async def follow(
        self, after: int, until: frozenset[TaskState] = TERMINAL
    ) -> AsyncGenerator[Event, None]:
        """Its events after the one with this number, to the one that reaches a state of these."""
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

    def _publish(self, event: Event, extension: dict[str, Any]) -> None:
        self.number += 1
        _number(event, self.number, extension)
        self._log.append(event)
        if len(self._log) > 2 * MOST_EVENTS:
            del self._log[:MOST_EVENTS]
        self._news.set()
        self._news = anyio.Event()

    def _words(self, text: str) -> Message:
        return Message(
            message_id=str(uuid.uuid4()),
            role=Role.ROLE_AGENT,
            task_id=self.task.id,
            context_id=self.task.context_id,
            parts=[_text(text)],
        )


def _text(text: str) -> Part:
    return Part(text=text, media_type="text/plain")


def _number(event: Event, number: int, extension: dict[str, Any]) -> None:
    held = MessageToDict(event.metadata).get(EXTENSION, {})
    event.metadata.update({EXTENSION: {**held, **extension, "event": number}})


class Jobs:
    """The tasks of an agent, by owner; of those that have ended, the oldest make room.

    A message that comes again gets the task that it came to. Who cancels a task or sends it another
    message has had the answer, so what led to it is remembered no longer: the same again is new.
    """

    def __init__(self, most: int = MOST_TASKS) -> None:
        self._most = most
        self._jobs: dict[tuple[str, str], Job] = {}
        self._sent: dict[tuple[str, bytes], Job] = {}
        self._message: dict[Job, tuple[str, bytes]] = {}

    def find(self, owner: str, id: str) -> Job | None:
        return self._jobs.get((owner, id))

    def of(self, owner: str) -> list[Job]:
        return [job for job in self._jobs.values() if job.owner == owner]

    def sent(self, owner: str, message: Message) -> Job | None:
        """What this message, by its id and content, came to before."""
        return self._sent.get((owner, _digest(message)))

    def keep(self, job: Job, message: Message) -> None:
        """Remember a task, and that this message is the last that came to it."""
        self.answered(job)
        self._jobs[job.owner, job.task.id] = job
        self._message[job] = job.owner, _digest(message)
        self._sent[self._message[job]] = job
        for old in [old for old in self._jobs.values() if old.state in SETTLED and old is not job]:
            if len(self._jobs) <= self._most:
                return
            self._forget(old)

    def answered(self, job: Job) -> None:
        """Forget the last message that came to a task, as its sender has got the answer."""
        message = self._message.pop(job, None)
        if message is not None:
            del self._sent[message]

    def _forget(self, job: Job) -> None:
        if job.state not in TERMINAL:
            job.become(TaskState.TASK_STATE_CANCELED, "nobody answered for too long")
        del self._jobs[job.owner, job.task.id]
        self.answered(job)


def _digest(message: Message) -> bytes:
    """Equal for messages with the same content."""
    return hashlib.sha256(message.SerializeToString(deterministic=True)).digest()
