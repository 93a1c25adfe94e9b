"""When a task is called again, and when it has taken too long."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestrator.errors import InvalidValue
from orchestrator.options import check_kind, strict

Kind = str | type[BaseException] | Callable[[Any], bool]
"""Errors of a class, of a class of this name, or for which a function says yes."""


@strict
@dataclass(frozen=True, kw_only=True)
class Retry:
    """Call a failed task again, up to ``times`` more times.

    The wait before retry ``k`` (from 1) is ``delay * factor**(k-1)`` seconds, at most
    ``longest``, times a random factor in ``1 ± jitter``; longer if the error says so (a
    ``retry_after``, or a ``Retry-After`` header of its ``response``).

    Attributes:
        on: The errors to retry, one or a tuple of: a class, or its name (which survives JSON),
            each meant with its subclasses, such as ``("TimeoutError", ConnectionError)``; or a
            function that is given the error and says whether, such as `transient`.
    """

    times: int = 2
    delay: float = 0.5
    factor: float = 2.0
    longest: float = 60.0
    jitter: float = 0.1
    on: tuple[Kind, ...] | Kind = ("Exception",)

    def __post_init__(self) -> None:
        check_kind("retry", "times", self.times, (int,), "a whole number")
        for field in ("delay", "factor", "longest", "jitter"):
            check_kind("retry", field, getattr(self, field), (int, float), "a number")
        for field in ("times", "delay", "factor", "longest", "jitter"):
            if not getattr(self, field) >= 0:
                raise InvalidValue(f"retry {field} is {getattr(self, field)}; give 0 or more")
        if self.jitter > 1:
            raise InvalidValue(f"retry jitter is {self.jitter}; give 0 to 1")
        if isinstance(self.on, (str, list)):
            raise InvalidValue(f"retry on is {self.on!r}; give a tuple of classes or names")
        for kind in self._kinds:
            error = isinstance(kind, type) and issubclass(kind, BaseException)
            if not (error or isinstance(kind, str) or (callable(kind) and type(kind) is not type)):
                raise InvalidValue(
                    f"retry on has {kind!r}; give classes of errors, their names, or functions "
                    "that are given the error"
                )

    @property
    def _kinds(self) -> tuple[Kind, ...]:
        return self.on if isinstance(self.on, tuple) else (self.on,)

    def covers(self, error: BaseException) -> bool:
        """Whether this error is to be retried; whatever a function of ``on`` raises is raised."""
        names = {kind.__name__ for kind in type(error).__mro__}
        return any(
            kind in names
            if isinstance(kind, str)
            else isinstance(error, kind)
            if isinstance(kind, type)
            else bool(kind(error))
            for kind in self._kinds
        )

    def wait(self, retry: int, rng: random.Random, error: BaseException | None = None) -> float:
        """Seconds before the given retry, counted from 1, after an error."""
        try:
            wait = min(self.longest, self.delay * self.factor ** (retry - 1))
        except OverflowError:
            wait = self.longest
        wait *= rng.uniform(1 - self.jitter, 1 + self.jitter)
        return max(wait, retry_after(error) or 0.0)


@strict
@dataclass(frozen=True, kw_only=True)
class Hedge:
    """Call a slow function once more beside itself, and take what succeeds first.

    The others are cancelled.  If all fail, the first error counts.  The calls are one attempt: they
    share its slot, its resources and its time limit.  For functions that may be called twice, and
    that add no tasks.

    Attributes:
        after: Seconds until each further call.
        most: How many calls there may be at once.
    """

    after: float
    most: int = 2

    def __post_init__(self) -> None:
        check_kind("hedge", "after", self.after, (int, float), "a number of seconds")
        check_kind("hedge", "most", self.most, (int,), "a whole number of calls, 2 or more")
        if not 0 <= self.after < math.inf or self.most < 2:
            raise InvalidValue(
                f"hedge has after={self.after}, most={self.most}; give seconds, and 2 or more calls"
            )


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


# ---- what errors of HTTP clients say -----------------------------------------------------------


def status_of(error: object) -> int | None:
    """The HTTP status of an error of httpx, openai, requests, aiohttp or urllib, if it has one."""
    response = getattr(error, "response", None)
    for found in (error, response):
        for name in ("status_code", "status", "code"):
            status = getattr(found, name, None)
            if type(status) is int and 100 <= status < 600:
                return status
    return None


def transient(error: BaseException) -> bool:
    """Whether an error may be gone the next time: for ``Retry(on=transient)``.

    Such are time limits, lost connections, and the HTTP status 408, 425, 429 and 500 or more.
    """
    status = status_of(error)
    if status is not None:
        return status >= 500 or status in (408, 425, 429)
    names = ("ConnectError", "ReadError", "RemoteProtocolError", "TimeoutException", "Timeout")
    return isinstance(error, (TimeoutError, ConnectionError)) or any(
        kind.__name__ in (*names, "APIConnectionError") for kind in type(error).__mro__
    )


def retry_after(error: object) -> float | None:
    """For how many seconds an error asks not to try again, if it does.

    It is a ``retry_after`` of the error (seconds), or the ``Retry-After`` header of its response
    (seconds, or a date: RFC 9110).
    """
    headers: Any = getattr(getattr(error, "response", error), "headers", None)
    told: Any = getattr(error, "retry_after", None)
    if told is None and hasattr(headers, "get"):
        told = headers.get("Retry-After") or headers.get("retry-after")
    try:
        seconds = float(told)
    except (TypeError, ValueError):
        return _until(told)
    return seconds if 0 <= seconds < math.inf else None


def _until(date: object) -> float | None:
    """Seconds until a date of HTTP; None for anything else."""
    from email.utils import parsedate_to_datetime  # needed by few

    try:
        at = parsedate_to_datetime(date)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
