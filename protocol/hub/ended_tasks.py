"""The latest tasks that ended, for whoever asks for them again."""

from __future__ import annotations

from collections import OrderedDict

from protocol.hub.task_handles import TaskHandle
from protocol.wire.messages import Cancelled, Code, Result

MOST = 4096
MOST_BYTES = 64 << 20
"""Of their arguments and values."""

_PASSING: frozenset[Code] = frozenset({"no-worker", "worker-lost", "deadline", "bad-payload"})
"""Failures of the moment: asked for again, the task may go better."""


class EndedTasks:
    """Handles of tasks that ended, by id; the oldest are forgotten first."""

    def __init__(self) -> None:
        self._handles: OrderedDict[str, tuple[TaskHandle, int]] = OrderedDict()
        self._bytes = 0

    def __contains__(self, id: str) -> bool:
        return id in self._handles

    def get(self, id: str) -> TaskHandle | None:
        """The handle of a task that ended, unless it is forgotten."""
        found = self._handles.get(id)
        return None if found is None else found[0]

    def add(self, handle: TaskHandle, result: Result | Cancelled) -> None:
        """Remember how a task ended, unless it may end otherwise when it is asked for again."""
        if isinstance(result, Cancelled) or (
            result.failure is not None and result.failure.code in _PASSING
        ):
            return
        value = result.value if isinstance(result.value, str) else ""
        size = len(value) + len(handle.request.arguments)
        self._handles[handle.id] = handle, size
        self._bytes += size
        while self._bytes > MOST_BYTES or len(self._handles) > MOST:
            _, (_, oldest) = self._handles.popitem(last=False)
            self._bytes -= oldest
