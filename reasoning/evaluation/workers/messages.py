"""What an evaluation and its processes tell each other: a line of JSON each.

The evaluation sends a `WorkerStart` (pickled, in base64), then `Told` lines; a process answers with
`Heard` lines.  A record is the process's own until the evaluation says that it is kept.
"""

from __future__ import annotations

import base64
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel

from orchestrator.errors import ReasonError, leaf
from reasoning.evaluation.kept.records import EvalHeader
from reasoning.evaluation.run import EvalPlan
from reasoning.pool import PoolModel


@dataclass(frozen=True, kw_only=True)
class WorkerStart:
    """What a process is begun with."""

    plan: EvalPlan
    model: PoolModel
    draft: PoolModel | None

    def line(self) -> bytes:
        """It as a line."""
        return base64.b64encode(pickle.dumps(self)) + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """It from a line of the process that began this one."""
        found: Self = pickle.loads(base64.b64decode(line))
        return found


class ToldJob(BaseModel):
    """One job, by its question's place in the plan."""

    question: int
    sample: int
    arm: str | None


class ToldStore(BaseModel):
    """Where records are kept, for a process whose evaluation is gone before they are."""

    path: Path
    header: EvalHeader


class Told(BaseModel):
    """What the evaluation tells a process; one of its fields.

    Attributes:
        kept: The earliest record that was not, is kept now.
        end: There is no more to do.
    """

    store: ToldStore | None = None
    job: ToldJob | None = None
    kept: bool = False
    end: bool = False

    def line(self) -> bytes:
        """It as a line."""
        return _line(self)


class LoadedWorker(BaseModel):
    """A process has loaded the model."""

    name: str
    versions: dict[str, str]


class Failure(BaseModel):
    """An error that ends the evaluation."""

    code: str
    message: str
    exit_code: int

    @classmethod
    def of(cls, error: Exception) -> Self:
        """What is told of an error."""
        cause = leaf(error)
        said = str(cause) if isinstance(cause, ReasonError) else f"{type(cause).__name__}: {cause}"
        exit_code = cause.exit_code if isinstance(cause, ReasonError) else 1
        return cls(code=type(cause).__name__, message=said, exit_code=exit_code)


class Heard(BaseModel):
    """What a process tells; one of its fields."""

    loaded: LoadedWorker | None = None
    record: dict[str, Any] | None = None
    failure: Failure | None = None

    def line(self) -> bytes:
        """It as a line."""
        return _line(self)


def _line(message: BaseModel) -> bytes:
    """In ASCII, in which half a character can stand as well."""
    value = message.model_dump(mode="json", exclude_defaults=True, by_alias=True)
    return json.dumps(value).encode() + b"\n"


class WorkerFailed(ReasonError):
    """Raised where a process of an evaluation fails, by the name of its own error."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.exit_code = failure.exit_code
        self._code = failure.code

    @property
    def code(self) -> str:
        return self._code
