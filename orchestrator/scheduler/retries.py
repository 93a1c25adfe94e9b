"""When a task is called again, and when it has taken too long."""

from __future__ import annotations

import random
from dataclasses import dataclass

from orchestrator.errors import InvalidValue
from orchestrator.options import check_kind, strict


@strict
@dataclass(frozen=True, kw_only=True)
class Retry:
    """Call a failed task again, up to ``times`` more times.

    The wait before retry ``k`` (from 1) is ``delay * factor**(k-1)`` seconds, at most
    ``longest``, times a random factor in ``1 ± jitter``.

    Attributes:
        on: Names of the errors to retry, each meant with its subclasses, such as
            ``("TimeoutError", "ConnectionError")``; names, so that they survive JSON.
    """

    times: int = 2
    delay: float = 0.5
    factor: float = 2.0
    longest: float = 60.0
    jitter: float = 0.1
    on: tuple[str, ...] = ("Exception",)

    def __post_init__(self) -> None:
        check_kind("retry", "times", self.times, (int,), "a whole number")
        for field in ("delay", "factor", "longest", "jitter"):
            check_kind("retry", field, getattr(self, field), (int, float), "a number")
        for field in ("times", "delay", "factor", "longest", "jitter"):
            if not getattr(self, field) >= 0:
                raise InvalidValue(f"retry {field} is {getattr(self, field)}; give 0 or more")
        if self.jitter > 1:
            raise InvalidValue(f"retry jitter is {self.jitter}; give 0 to 1")
        check_kind("retry", "on", self.on, (tuple,), "a tuple of names of errors")
        for name in self.on:
            check_kind("retry", "on", name, (str,), "a tuple of names of errors")

    def covers(self, error: BaseException) -> bool:
        """Whether this kind of error is to be retried."""
        return any(kind.__name__ in self.on for kind in type(error).__mro__)

    def wait(self, retry: int, rng: random.Random) -> float:
        """Seconds before the given retry, counted from 1."""
        wait = min(self.longest, self.delay * self.factor ** (retry - 1))
        return wait * rng.uniform(1 - self.jitter, 1 + self.jitter)


@strict
@dataclass(frozen=True, kw_only=True)
class Timeout:
    """Limits in seconds: in the queue, for each attempt, and without progress.

    Attributes:
        queue: From ready to started; the task then fails.
        run: Of one attempt.
        idle: Since the attempt's last call of `Task.progress`.
    """

    queue: float | None = None
    run: float | None = None
    idle: float | None = None

    def __post_init__(self) -> None:
        for field in ("queue", "run", "idle"):
            value = getattr(self, field)
            if value is None:
                continue
            check_kind("timeout", field, value, (int, float), "a number of seconds")
            if not value > 0:
                raise InvalidValue(f"timeout {field} is {value}; give more than 0 seconds")
