"""How a task is to be run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.scheduler.retries import Retry, Timeout

if TYPE_CHECKING:
    from orchestrator.executors.processes import Executor

SPECIAL = frozenset({"executor", "priority", "reserve", "resources", "retry", "timeout"})


class Settings:
    """How a task is to be run; shared by all tasks that say nothing special."""

    __slots__ = ("executor", "priority", "reserve", "resources", "retry", "timeout")

    def __init__(
        self,
        retry: Retry | None = None,
        timeout: Timeout | None = None,
        priority: int = 0,
        resources: Mapping[str, int] | None = None,
        executor: Executor | None = None,
        reserve: Mapping[str, float] | None = None,
    ) -> None:
        self.retry = retry
        self.timeout = timeout
        self.priority = priority
        self.resources = tuple(sorted(resources.items())) if resources else ()
        self.executor = executor
        self.reserve = reserve

    def changed(self, fields: Mapping[str, Any]) -> Settings:
        """A copy in which these fields are new."""
        old = {name: getattr(self, name) for name in SPECIAL} | {"resources": dict(self.resources)}
        return Settings(**{**old, **fields})
