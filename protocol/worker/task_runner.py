"""A worker's tasks: run, cancelled, and their ends kept until the hub has them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.abc import TaskGroup
from pydantic import ValidationError

from orchestrator.calls import is_async
from orchestrator.errors import class_of
from orchestrator.scheduler.cancellation import absorb_cancellation
from protocol.errors import BadMessage, Congested, RemoteFailure
from protocol.wire.bounded import BoundedTable
from protocol.wire.channel import Channel
from protocol.wire.checked import first_problem
from protocol.wire.messages import (
    MAX_FRAME,
    Cancel,
    Cancelled,
    Code,
    HeldTask,
    Hold,
    Input,
    PayloadPart,
    Progress,
    Result,
    TaskFailure,
    TaskMessage,
    TaskUsage,
    ThreadStart,
    TokenChunk,
)
from protocol.wire.payloads import Payloads, put_whole
from protocol.worker.registry import Callee, Registry
from protocol.worker.threads import GeneratedToken, ThreadHost, ThreadRun

KEPT = 1024
KEPT_BYTES = 64 << 20
"""Ends that are kept for a hub that has forgotten them, because it was restarted."""

MOST_LEAKED = 64
"""Blocking functions that were stopped and have not returned; with more, no other is called."""

HELD_BYTES = MAX_FRAME // 4
"""Of a hello, for what a worker still has; the newest is told of."""

CHUNK_S = 0.02
"""A thread's tokens are sent at once, or where it writes faster, every so many seconds."""

_ENDED = "null"
"""The value of a thread."""

_current: ContextVar[Callable[[str], None] | None] = ContextVar("protocol_task", default=None)


def in_function() -> bool:
    """Whether this code was called by a registered function."""
    return _current.get() is not None


def progress(text: str) -> None:
    """Say how far the task is that calls this; elsewhere it does nothing."""
    tell = _current.get()
    if tell is not None:
        tell(text)


_WHY: dict[Code, str] = {
    "deadline": "the task took too long",
    "bad-message": "a message to the task could not be read",
}


def described(error: BaseException) -> TaskFailure:
    """What a function raised, as a failure; its own words may fail as well."""
    cause = error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    try:
        message = str(cause)
    except BaseException:
        message = ""
    kind = class_of(cause)
    return TaskFailure(
        code="failed", kind=kind, message=message or f"the function raised {kind} without a word"
    )


def _checked(token: GeneratedToken) -> GeneratedToken:
    """A token that can be sent.

    Raises:
        RemoteFailure: it can't be.
    """
    told = 0.0 if token.confidence is None else token.confidence
    if 0 <= token.token < 1 << 31 and math.isfinite(token.logprob) and math.isfinite(told):
        return token
    raise RemoteFailure("failed", "", f"the model gave what is no token: {token}")


class RunningTask:
    """One task under way.

    Attributes:
        fence: Of its newest assignment.
        proof: That this worker was given it, under that fence.
        why: The code of what stops it, if it is being stopped; None for a cancellation.
    """

    def __init__(self, task: TaskMessage) -> None:
        self.task = task
        self.fence, self.proof = task.fence, task.proof
        self.scope = anyio.CancelScope()
        self.why: Code | None = None
        self.leaked = False
        self.began = time.monotonic()
        self.tokens = 0
        self.unsent: list[GeneratedToken] = []
        self.until = task.until
        self.thread: ThreadRun | None = None
        self.inputs = [*task.inputs]
        self.arrived = anyio.Event()

    def stop(self, why: Code | None) -> None:
        """Stop it where it is."""
        self.why = why
        self.scope.cancel()

    def give(self, tokens: tuple[int, ...]) -> None:
        """Hand a thread what it reads next."""
        self.inputs.append(tokens)
        self.arrived.set()
        self.arrived = anyio.Event()

    def hold(self, until: int | None) -> None:
        """Let a thread stand still after so many tokens."""
        self.until = until
        if self.thread is not None:
            self.thread.hold(until)

    def take_unsent(self) -> TokenChunk | None:
        """What its thread wrote since the last call, as it is sent."""
        if not self.unsent:
            return None
        unsent, self.unsent = self.unsent, []
        told = [token.confidence for token in unsent if token.confidence is not None]
        return TokenChunk(
            id=self.task.id,
            fence=self.fence,
            at=self.tokens - len(unsent),
            tokens=tuple(token.token for token in unsent),
            logprobs=tuple(token.logprob for token in unsent),
            confidences=tuple(told),
            reason=unsent[-1].reason,
        )


class TaskRunner:
    """Runs what a hub asks for.

    Attributes:
        draining: Whether it takes no more tasks.
    """

    def __init__(
        self,
        registry: Registry,
        hosts: Mapping[str, ThreadHost],
        threads: int,
        channel: Channel,
    ) -> None:
        """Prepare to run what ``channel`` brings; ``threads`` functions may block at once."""
        self._registry = registry
        self._hosts = hosts
        self._channel = channel
        self._limiter = anyio.CapacityLimiter(threads)
        self._payloads = Payloads()
        self._running: dict[str, RunningTask] = {}
        self._ended: BoundedTable[tuple[Result | Cancelled, str]] = BoundedTable(KEPT, KEPT_BYTES)
        self._leaked = 0
        self._pacing = False
        self._stopped: BoundedTable[int] = BoundedTable(KEPT, KEPT_BYTES)
        self.draining = False
        self._changed = anyio.Event()

    @property
    def holding(self) -> tuple[HeldTask, ...]:
        """What it has, for a hello."""
        running = [
            HeldTask(id=id, fence=one.fence, proof=one.proof)
            for id, one in self._running.items()
            if one.task.kind != "thread"  # its tokens are with the hub that was
        ]
        ended = [
            HeldTask(id=id, fence=end.fence, ended=True, proof=proof)
            for id, (end, proof) in self._ended
            if isinstance(end, Result) and end.value != _ENDED
        ]
        left, held = HELD_BYTES, []
        for one in (*running, *reversed(ended)):  # a hello is one frame
            left -= len(one.model_dump_json().encode())
            if left >= 0:
                held.append(one)
        return tuple(held)

    @property
    def busy(self) -> bool:
        """Whether anything runs."""
        return bool(self._running)

    def drain(self) -> None:
        """Take no more tasks."""
        self.draining = True
        self._changed.set()

    async def drained(self) -> None:
        """Wait until it takes no more tasks and none runs."""
        while not self.draining or self._running:
            self._changed = anyio.Event()
            await self._changed.wait()

    def handle(
        self, message: TaskMessage | Cancel | Input | Hold | PayloadPart, group: TaskGroup
    ) -> None:
        """Take what the hub says; tasks run in ``group``."""
        match message:
            case PayloadPart():
                self._payloads.add(message)
            case TaskMessage():
                self._take(message, group)
            case Input() | Hold():
                one = self._running.get(message.id)
                if one is not None and one.fence == message.fence:
                    if isinstance(message, Hold):
                        one.hold(message.until)
                    else:
                        one.give(message.tokens)
            case Cancel():
                self._cancel(message)

    def stop_all(self, *, threads_only: bool = False) -> None:
        """Stop what runs: the hub has given it to others by now, or knows nothing of it."""
        for one in self._running.values():
            if one.task.kind == "thread" or not threads_only:
                one.stop(None)

    # ---- one message ---------------------------------------------------------------------------

    def _take(self, task: TaskMessage, group: TaskGroup) -> None:
        one = self._running.get(task.id)
        end, _ = self._ended.get(task.id) or (None, "")
        stopped = self._stopped.get(task.id)
        if one is not None and task.kind != "thread" and not one.scope.cancel_called:
            one.fence, one.proof = (
                task.fence,
                task.proof,
            )  # it goes on, in the name of the newer assignment
        elif isinstance(end, Result) and task.kind != "thread":
            self._end(end.model_copy(update={"fence": task.fence}), task.proof)
        elif stopped is not None and stopped >= task.fence:
            self._channel.put_anyway(Cancelled(id=task.id, fence=task.fence))
        elif self.draining:
            failure = TaskFailure(code="draining", message="this worker is leaving")
            self._channel.put_anyway(Result(id=task.id, fence=task.fence, failure=failure))
        else:
            if one is not None:
                one.stop(None)
            new = RunningTask(task)
            self._running[task.id] = new
            group.start_soon(self._run, new, group)

    def _cancel(self, cancel: Cancel) -> None:
        one = self._running.get(cancel.id)
        if one is not None and one.fence == cancel.fence:
            one.stop(cancel.reason)
            return
        end, _ = self._ended.get(cancel.id) or (None, "")
        if end is not None and end.fence == cancel.fence:
            self._ended.drop(cancel.id)  # the hub has the end, or does not want it
            return
        self._stopped.add(cancel.id, cancel.fence, 0)  # the task itself may come later

    # ---- one task ------------------------------------------------------------------------------

    async def _run(self, one: RunningTask, group: TaskGroup) -> None:
        id = one.task.id
        end: Result | Cancelled | None = None
        try:
            with one.scope:
                end = await self._attempt(one, group)
            await absorb_cancellation()
        finally:
            if self._running.get(id) is one:
                del self._running[id]
        self._flush(one)
        if end is None:
            end = Cancelled(id=id, fence=one.fence, leaked=one.leaked)
            if one.why is not None:
                failure = TaskFailure(code=one.why, message=_WHY.get(one.why, "it was stopped"))
                end = Result(id=id, fence=one.fence, failure=failure)
        seconds = time.monotonic() - one.began
        if isinstance(end, Result):
            usage = TaskUsage(seconds=seconds, tokens=one.tokens)
            end = end.model_copy(update={"fence": one.fence, "usage": usage})
        self._end(end, one.proof)
        self._changed.set()

    async def _attempt(self, one: RunningTask, group: TaskGroup) -> Result | None:
        task = one.task
        value, failure = None, None
        try:
            with anyio.move_on_after(task.deadline_s) as limit:
                value = await self._value(one, group)
            if limit.cancelled_caught:
                one.why = "deadline"
                return None
        except RemoteFailure as error:
            message = str(error).removeprefix(f"{error.kind}: ")
            failure = TaskFailure(code=error.reason, kind=error.kind, message=message)
        except BadMessage as error:
            failure = TaskFailure(code="bad-payload", message=str(error))
        except anyio.get_cancelled_exc_class() as error:
            if anyio.current_effective_deadline() == -math.inf:
                raise  # it is stopped
            failure = described(error)
        except BaseException as error:  # whatever the function does, only this task ends
            failure = described(error)
        try:
            return Result(id=task.id, fence=one.fence, value=value, failure=failure)
        except ValidationError as error:
            why = f"{task.name} returned what can't be sent ({first_problem(error)}); return less"
            failure = TaskFailure(code="failed", message=why)
            return Result(id=task.id, fence=one.fence, failure=failure)

    async def _value(self, one: RunningTask, group: TaskGroup) -> str:
        task = one.task
        text = self._payloads.text(task.arguments)
        if task.kind == "thread":
            return await self._thread(one, text, group)
        found = self._registry.functions if task.kind == "function" else self._registry.tools
        callee = found.get(task.name)
        if callee is None:
            raise RemoteFailure("unknown-name", "", f"no {task.kind} {task.name!r} on this worker")
        return await self._call(one, callee, text)

    async def _call(self, one: RunningTask, callee: Callee, text: str) -> str:
        arguments = callee.arguments(text)
        tell = partial(self._progress, one)
        if is_async(callee.function):
            _current.set(tell)
            return callee.result(await callee.function(**arguments))
        _current.set(lambda text: anyio.from_thread.run_sync(tell, text))
        return callee.result(await self._in_thread(one, partial(callee.function, **arguments)))

    def _progress(self, one: RunningTask, text: str) -> None:
        with suppress(Congested):  # what comes later says more
            self._channel.put(Progress(id=one.task.id, fence=one.fence, text=text))

    async def _in_thread(self, one: RunningTask, function: Callable[[], Any]) -> Any:
        if self._leaked >= MOST_LEAKED:
            many = f"{self._leaked} functions of this worker do not end; start it anew"
            raise RemoteFailure("failed", "", many)
        returned = False

        def run() -> tuple[Any, BaseException | None]:
            nonlocal returned
            try:
                return function(), None
            except BaseException as error:  # as a value: it would end the event loop
                return None, error
            finally:
                returned = True
                self._leaked -= one.leaked

        try:
            value, error = await anyio.to_thread.run_sync(
                run, abandon_on_cancel=True, limiter=self._limiter
            )
        except anyio.get_cancelled_exc_class():
            one.leaked = not returned
            self._leaked += one.leaked
            raise
        if error is not None:
            raise error
        return value

    async def _thread(self, one: RunningTask, text: str, group: TaskGroup) -> str:
        """Generate until the thread is ended by an empty input; its tokens are its chunks."""
        host = self._hosts.get(one.task.name)
        if host is None:
            raise RemoteFailure("unknown-name", "", f"no model {one.task.name!r} on this worker")
        try:
            start = ThreadStart.model_validate_json(text)
        except ValueError as error:
            raise RemoteFailure("bad-arguments", "", "not the start of a thread") from error
        run = one.thread = host.open(start)
        if one.until is not None:
            run.hold(one.until)
        taken, most = 0, one.task.budget.tokens
        try:
            while True:
                async for token in run.tokens():
                    await self._channel.room()
                    one.unsent.append(_checked(token))
                    one.tokens += 1
                    self._send_tokens(one, group, ended=token.reason is not None)
                    if most is not None and one.tokens >= most and token.reason is None:
                        raise RemoteFailure("budget", "", f"the thread's {most} tokens are spent")
                while len(one.inputs) <= taken:
                    await one.arrived.wait()
                if not one.inputs[taken]:
                    return _ENDED
                run.extend(one.inputs[taken])
                taken += 1
        finally:
            run.close()

    def _send_tokens(self, one: RunningTask, group: TaskGroup, *, ended: bool) -> None:
        """Send what a thread wrote: at once if it has stopped or nothing was sent just now."""
        if ended or not self._pacing:
            self._flush(one)
        if not self._pacing:
            self._pacing = True
            group.start_soon(self._pace)

    async def _pace(self) -> None:
        """Send what threads write from time to time, as long as they do."""
        writing = True
        try:
            while writing:
                await anyio.sleep(CHUNK_S)
                wrote = [one for one in self._running.values() if one.unsent]
                for one in wrote:
                    self._flush(one)
                writing = bool(wrote)
        finally:
            self._pacing = False

    def _flush(self, one: RunningTask) -> None:
        chunk = one.take_unsent()
        if chunk is not None:
            self._channel.put_anyway(chunk)

    # ---- ends ----------------------------------------------------------------------------------

    def refuse(self, message: Any, why: str) -> None:
        """Fail the task of which a message came that can't be taken."""
        id, fence = getattr(message, "id", ""), getattr(message, "fence", 0)
        one = self._running.get(id)
        if one is not None and one.fence == fence:
            one.stop("bad-message")
        elif id and message.type == "task":
            failure = TaskFailure(code="bad-message", message=f"the hub sent {why}")
            self._channel.put_anyway(Result(id=id, fence=fence, failure=failure))

    def _end(self, end: Result | Cancelled, proof: str) -> None:
        """Send how a task ended, and keep it."""
        id = end.id
        value = end.value if isinstance(end, Result) and isinstance(end.value, str) else ""
        if isinstance(end, Result) and end.failure and end.failure.code == "bad-payload":
            self._ended.drop(id)
        else:
            self._ended.add(id, (end, proof), len(value) + 1000)
        if not (value and isinstance(end, Result) and put_whole(self._channel, end)):
            self._channel.put_anyway(end)
