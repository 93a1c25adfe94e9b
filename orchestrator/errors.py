"""Every error of `reason`, in one tree.

::

    ReasonError
    ├── UnknownName         a strategy, model or option that does not exist
    ├── InvalidValue        a field whose value can't be used
    ├── ProblemRefused      a problem that is impossible or that the model can't do
    ├── ModelUnusable       a model folder that is missing, broken or unsupported
    ├── CapabilityMissing   a strategy that needs what the backend lacks
    ├── ExtraMissing        an optional dependency that is not installed
    ├── BackendLost         an engine or a server that died, stalled or answered with nonsense
    ├── PoolFull            an engine without room for another thread's keys and values
    ├── TimeLimitReached    a run stopped by its time limit
    ├── JournalUnusable     a journal that is damaged, foreign or can't be written
    │   └── JournalFenced   a journal that a later process has taken over
    ├── BudgetExhausted     a budget that has too little left for what was asked
    ├── PatchRefused        an edit of a graph that conflicts with what it is now
    ├── QuorumMissed        a join of which too few tasks succeeded
    ├── TaskCancelled       the result of a cancelled task was asked for
    └── TaskStalled         a task that could never end, since it waited for its own waiter

Each message says what is wrong and ends with what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.editing.patches import Conflict


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


class BackendLost(ReasonError):
    """Raised when an engine or a server dies, can't be reached, stalls or answers with nonsense."""


class PoolFull(ReasonError):
    """Raised when an engine has no room for the keys and values of a thread."""


class TimeLimitReached(ReasonError):
    """Raised when a run is stopped by its time limit."""


class TaskCancelled(ReasonError):
    """Raised to whoever waits for a task that was cancelled."""


class QuorumMissed(ReasonError):
    """Raised by a join of which too few tasks succeeded."""


class JournalUnusable(ReasonError):
    """Raised when a journal can't be read or written, or is not of this graph."""


class JournalFenced(JournalUnusable):
    """Raised when a later process has taken over the journal."""


class BudgetExhausted(ReasonError):
    """Raised when a budget has too little left, or its time is over."""


class PatchRefused(ReasonError):
    """Raised when a patch can't be applied as a whole.

    Attributes:
        conflicts: Why, for each operation concerned.
    """

    def __init__(self, message: str, conflicts: tuple[Conflict, ...]) -> None:
        super().__init__(message)
        self.conflicts = conflicts


class TaskStalled(ReasonError):
    """Raised when a task waits, directly or not, for a task that waits for it."""


def leaf(error: Exception) -> Exception:
    """The first error inside nested exception groups, which task groups wrap around errors."""
    found: BaseException = error
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, Exception) else error
