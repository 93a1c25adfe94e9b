"""What the steps of a draft usually score with a model, kept for new runs of both."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import InvalidValue
from orchestrator.journal.codec import why

ScoredBy = Literal["model", "draft"]


class StepCalibration(BaseModel):
    """What ``reason calibrate --draft`` writes: the scores that `Atts` compares new steps with.

    Attributes:
        scored_by: Who judged the steps; the draft itself where the model can't score
            (``draft-scored``).
        chunk: Tokens of a step.
        scores: Perplexities by turn, which is the first part of each pair.
        escalated: The share of the steps that the model went on from.
        strangest: The share of these among as many strangest ones; None where it is unknown.
        auroc: P(a wrong chain was stranger than a right one); None where no verifier tells.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal["reason.step-calibration/1"] = Field(
        default="reason.step-calibration/1", alias="schema"
    )
    model: str
    draft: str
    scored_by: ScoredBy
    chunk: int = Field(ge=1)
    questions: int = Field(ge=1)
    escalated: float | None = None
    strangest: float | None = None
    auroc: float | None = None
    scores: tuple[tuple[int, tuple[float, ...]], ...]

    @classmethod
    def read(cls, path: str) -> StepCalibration:
        """A stored calibration.

        Raises:
            InvalidValue: the file can't be read, or holds something else.
        """
        again = "run reason calibrate --draft again"
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise InvalidValue(f"calibration: {path}: {error.strerror}; {again}") from error
        except ValidationError as error:
            raise InvalidValue(f"calibration: {path}: {why(error)}; {again}") from error

    def check(self, **given: object) -> None:
        """Refuse other models, or steps of another kind, than were calibrated.

        Raises:
            InvalidValue: a field has another value here.
        """
        for name, value in given.items():
            made = getattr(self, name)
            if made != value:
                raise InvalidValue(
                    f"calibration: it was made with {name} {made}, not {value}; run reason "
                    "calibrate --draft with these"
                )
