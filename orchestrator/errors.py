"""The root of every error of `reason`, and the errors of a task graph.

::

    ReasonError
    ├── UnknownName         (LookupError)   a strategy, model or option that does not exist
    ├── InvalidValue        (ValueError)    a field whose value can't be used
    ├── ExtraMissing        (ImportError)   an optional dependency that is not installed
    ├── TimeLimitReached    (TimeoutError)  a run or a task stopped by its time limit
    ├── JournalUnusable     a journal that is damaged, foreign or can't be written
    │   └── JournalFenced   a journal that a later process has taken over
    ├── BudgetExhausted     a budget that has too little left for what was asked
    ├── AlreadyCompleted    a value from outside that somebody has given before
    ├── PatchRefused        an edit of a graph that conflicts with what it is now
    ├── QuorumMissed        a join of which too few tasks succeeded
    ├── TaskAborted         a task that raised SystemExit or a cancellation of its own
    ├── TaskCancelled       the result of a cancelled task was asked for
    └── TaskStalled         a task that could never end, since it waited for its own waiter

The builtin in brackets catches the error too.  Each message says what is wrong and ends with what
to do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.editing.patches import Conflict


DISTRIBUTION = "parallel-reason"
"""What this package is called where packages are installed from."""


class ReasonError(Exception):
    """The root of all errors that `reason` raises on purpose.

    Attributes:
        exit_code: What the command line exits with: 2 for usage, 1 for the rest.
        http_status: What a server answers a request with that ends in this error.
    """

    exit_code = 1
    http_status = 500

    @property
    def code(self) -> str:
        """The error's name for machines, as printed by ``--json``."""
        return type(self).__name__


class UnknownName(ReasonError, LookupError):
    """Raised when a strategy, model or option does not exist."""

    exit_code = 2
    http_status = 404


class InvalidValue(ReasonError, ValueError):
    """Raised when the value of a named field can't be used."""

    exit_code = 2
    http_status = 400


class ExtraMissing(ReasonError, ImportError):
    """Raised when an optional dependency is not installed."""


@contextmanager
def importing(extra: str, who: str) -> Iterator[None]:
    """A block that imports what an extra installs, which ``who`` needs.

    Raises:
        ExtraMissing: one of the packages is not there.
    """
    try:
        yield
    except ImportError as error:
        raise ExtraMissing(f"{who} needs {error.name}; {install_hint(extra)}") from error


def install_hint(extra: str) -> str:
    """The command that adds an extra to this installation.

    It is right for a clone, for what was installed from a folder or an archive, and for what
    came from an index; and for environments of pip, uv, ``uv tool`` and pipx.
    """
    flag, source = _source(extra)
    return f"{_installer()} {flag}'{source}'"


def _installer() -> str:
    environment, pip = Path(sys.prefix), Path(sys.executable).parent / "pip"
    python = sys.executable if " " not in sys.executable else f"'{sys.executable}'"
    if (environment / "uv-receipt.toml").exists():
        return "uv tool install"
    if (environment / "pipx_metadata.json").exists():
        return "pipx install --force"
    if not (pip.exists() or pip.with_suffix(".exe").exists()):
        return f"uv pip install --python {python}"
    on_path = str(pip.parent) in os.environ.get("PATH", "").split(os.pathsep)
    return "pip install" if on_path else f"{python} -m pip install"


def _source(extra: str) -> tuple[str, str]:
    """An option, and what to install."""
    clone = Path(__file__).parents[1]
    if (clone / "pyproject.toml").exists():
        return "-e ", f"{'.' if clone == Path.cwd() else clone}[{extra}]"
    url = _came_from()
    if url.startswith("file:"):
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        if (folder := Path(url2pathname(urlsplit(url).path))).is_dir():
            return "", f"{folder}[{extra}]"
    return "", f"{DISTRIBUTION}[{extra}]" + (f" @ {url}" if url else "")


def _came_from() -> str:
    """The address that this package was installed from (PEP 610); empty where an index had it."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        told = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        return ""
    return str(json.loads(told)["url"]) if told else ""


class TimeLimitReached(ReasonError, TimeoutError):
    """Raised when a run or a task is stopped by its time limit."""


class TaskCancelled(ReasonError):
    """Raised to whoever waits for a task that was cancelled."""


class TaskAborted(ReasonError):
    """Raised for a task that raised SystemExit, GeneratorExit, or a cancellation of its own."""


class QuorumMissed(ReasonError):
    """Raised by a join of which too few tasks succeeded."""


class JournalUnusable(ReasonError):
    """Raised when a journal can't be read or written, or is not of this graph."""


class JournalFenced(JournalUnusable):
    """Raised when a later process has taken over the journal."""


class BudgetExhausted(ReasonError):
    """Raised when a budget has too little left, or its time is over."""

    http_status = 429


class AlreadyCompleted(ReasonError):
    """Raised when a value from outside is given a second time; the first one counts."""

    http_status = 409


class PatchRefused(ReasonError):
    """Raised when a patch can't be applied as a whole.

    Attributes:
        conflicts: Why, for each operation concerned.
    """

    def __init__(self, message: str, conflicts: tuple[Conflict, ...] = ()) -> None:
        super().__init__(message)
        self.conflicts = conflicts


class TaskStalled(ReasonError):
    """Raised when a task waits, directly or not, for a task that waits for it."""


def unwrapped(error: Exception) -> Exception:
    """The error inside groups of one, which task groups wrap around it; a true group stays."""
    found: BaseException = error
    while isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1:
        found = found.exceptions[0]
    return found if isinstance(found, Exception) else error


def told(value: object, most: int | None = None) -> str:
    """How a value shows itself, cut to so many characters; what can't, by its class."""
    try:
        text = repr(value)
    except BaseException:  # whatever it raises is no affair of ours
        text = f"<{class_of(value)}>"
    return text if most is None or len(text) <= most else text[: most - 3] + "..."


def text_of(error: BaseException) -> str:
    """The error's text; the name of its class if it can't be made."""
    try:
        return str(error)
    except BaseException:  # whatever it raises is no affair of ours
        return class_of(error)


def class_of(value: object) -> str:
    """The name of a value's class, also where a metaclass has another idea of it."""
    return str(_NAME(type(value)))


_NAME = type.__dict__["__name__"].__get__


def with_note(error: BaseException, note: str) -> None:
    """Add a note to an error, once."""
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def leaf(error: Exception) -> Exception:
    """The first error inside nested exception groups, which task groups wrap around errors."""
    found: BaseException = error
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, Exception) else error
