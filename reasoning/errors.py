"""The errors about models, problems and backends; their root is `orchestrator.errors.ReasonError`.

::

    ReasonError
    ├── ProblemRefused      a problem that is impossible or that the model can't do
    ├── ModelUnusable       a model folder that is missing, broken or unsupported
    ├── CapabilityMissing   a strategy that needs what the backend lacks
    ├── BackendLost         an engine or a server that died, stalled or answered with nonsense
    └── PoolFull            an engine without room for another thread's keys and values
"""

from __future__ import annotations

from orchestrator.errors import ReasonError


class ProblemRefused(ReasonError):
    """Raised when a problem has no solution or lies outside what the model can do."""

    http_status = 422


class ModelUnusable(ReasonError):
    """Raised when a model folder is missing, broken or of an unsupported kind."""


class CapabilityMissing(ReasonError):
    """Raised when a strategy needs a capability that the backend lacks."""

    exit_code = 2
    http_status = 400


class BackendLost(ReasonError, ConnectionError):
    """Raised when an engine or a server dies, can't be reached, stalls or answers with nonsense."""


class PoolFull(ReasonError):
    """Raised when an engine has no room for the keys and values of a thread."""

    http_status = 503
