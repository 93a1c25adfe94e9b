"""Every error of `reason`, in one tree.

::

    ReasonError
    ├── UnknownName         a strategy, model or option that does not exist
    ├── InvalidValue        a field whose value can't be used
    ├── ProblemRefused      a problem that is impossible or that the model can't do
    ├── ModelUnusable       a model folder that is missing, broken or unsupported
    ├── CapabilityMissing   a strategy that needs what the backend lacks
    ├── ExtraMissing        an optional dependency that is not installed
    ├── TimeLimitReached    a run stopped by its time limit
    └── TaskCancelled       the result of a cancelled task was asked for

Each message says what is wrong and ends with what to do.
"""

from __future__ import annotations


class ReasonError(Exception):
    """The root of all errors that `reason` raises on purpose.

    Attributes:
        exit_code: What the command line exits with: 2 for usage, 1 for the rest.
    """

    exit_code = 1

    @property
    def code(self) -> str:
        """The error's name for machines, as printed by ``--json``."""
        return type(self).__name__


class UnknownName(ReasonError):
    """Raised when a strategy, model or option does not exist."""

    exit_code = 2


class InvalidValue(ReasonError):
    """Raised when the value of a named field can't be used."""

    exit_code = 2


class ProblemRefused(ReasonError):
    """Raised when a problem has no solution or lies outside what the model can do."""


class ModelUnusable(ReasonError):
    """Raised when a model folder is missing, broken or of an unsupported kind."""


class CapabilityMissing(ReasonError):
    """Raised when a strategy needs a capability that the backend lacks."""

    exit_code = 2


class ExtraMissing(ReasonError):
    """Raised when an optional dependency is not installed."""


class TimeLimitReached(ReasonError):
    """Raised when a run is stopped by its time limit."""


class TaskCancelled(ReasonError):
    """Raised to whoever waits for a task that was cancelled."""


def leaf(error: Exception) -> Exception:
    """The first error inside nested exception groups, which task groups wrap around errors."""
    found: BaseException = error
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, Exception) else error
