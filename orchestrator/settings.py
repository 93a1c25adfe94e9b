"""How a task is to be run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from orchestrator.errors import InvalidValue
from orchestrator.options import check_amounts, check_kind
from orchestrator.scheduler.retries import Hedge, Retry, Timeout

if TYPE_CHECKING:
    from orchestrator.executors.processes import Executor
    from orchestrator.journal.cache import ResultCache


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """How a task is to be run; shared by all tasks that say nothing special.

    Attributes:
        retry: Whether and when to call a failed function again.
        timeout: Limits for queueing, for an attempt, and for going without progress.
        priority: What is ready and has the highest goes first.
        resources: Named resources held while it runs, with their amounts, sorted by name.
        executor: Where the function runs; here by default.
        reserve: What its budgets hold back for it before it starts.
        key: Names it among its siblings when a run is resumed.
        version: Stands for its function's code when a run is resumed.
        cache: Where its result is kept, and found by its function and arguments.
        hedge: Whether and when to call a slow function once more beside itself.
    """

    retry: Retry | None = None
    timeout: Timeout | None = None
    priority: int = 0
    resources: tuple[tuple[str, int], ...] = ()
    executor: Executor | None = None
    reserve: Mapping[str, float] | None = None
    key: str | None = None
    version: str | None = None
    cache: ResultCache | None = None
    hedge: Hedge | None = None

    def changed(self, **options: Any) -> TaskSettings:
        """A copy with these options of `TaskGraph.add`; those that are None stay as they are.

        Raises:
            InvalidValue: an option is of the wrong kind; the message names it.
        """
        given = {name: value for name, value in options.items() if value is not None}
        for name, value in given.items():
            if name in _CHECKS:
                _CHECKS[name](value)
        if "resources" in given:
            given["resources"] = tuple(sorted(given["resources"].items()))
        if "cache" in given:
            from orchestrator.journal.cache import cache_of  # SQLite and pydantic, for few

            given["cache"] = cache_of(given["cache"])
        return replace(self, **given) if given else self

    def described(self) -> dict[str, Any]:
        """What is not as by default, as plain values."""
        found: dict[str, Any] = _described(self)
        return found


def _described(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): _described(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_described(item) for item in value]
    if isinstance(value, (TaskSettings, Retry, Timeout, Hedge)):
        given = ((field.name, getattr(value, field.name), field.default) for field in fields(value))
        return {name: _described(item) for name, item, default in given if item != default}
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}:{named.__qualname__}"


def _check_executor(executor: object) -> None:
    if not callable(getattr(executor, "call", None)):
        raise InvalidValue(f"option executor is {executor!r}; give one such as Processes(2)")


_CHECKS: dict[str, Callable[[Any], None]] = {
    "retry": lambda value: check_kind("option", "retry", value, (Retry,), "Retry(...)"),
    "timeout": lambda value: check_kind("option", "timeout", value, (Timeout,), "Timeout(...)"),
    "priority": lambda value: check_kind("option", "priority", value, (int,), "a whole number"),
    "resources": lambda value: check_amounts("option", "resources", value),
    "executor": _check_executor,
    "reserve": lambda value: check_amounts("option", "reserve", value),
    "key": lambda value: check_kind("option", "key", value, (str,), "a text"),
    "version": lambda value: check_kind("option", "version", value, (str,), "a text"),
    "hedge": lambda value: check_kind("option", "hedge", value, (Hedge,), "Hedge(...)"),
}
PLAIN = TaskSettings()
"""What all tasks share that say nothing special."""
