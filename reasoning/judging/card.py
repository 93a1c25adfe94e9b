"""The card ``judge.json`` of a judge's folder, and the hash of the folder's ``encoder/``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.journal.codec import why
from pruning import Cut
from reasoning.errors import ModelUnusable

CARD = "judge.json"
EncoderForm = Literal["cross", "bi"]


class JudgeCard(BaseModel):
    """What a judge is and how it was trained.

    Attributes:
        scale, bias: Of the probability 1 / (1 + exp(-(scale · logit + bias))), fitted on questions
            that the encoder was not trained on (Platt 1999).
        taus: The thresholds that a calibration tests, strictest first.  They lie between the
            probabilities on those same questions, so that they are fixed before any calibration.
        seen: Marks of the questions that it was trained or fitted on.
        weights: The hash of all files of its encoder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal["reason.judge/1"] = Field(default="reason.judge/1", alias="schema")
    form: EncoderForm
    encoder: str
    cut: Cut
    max_length: int = Field(ge=8)
    scale: float
    bias: float
    taus: tuple[float, ...]
    gamma: float
    alpha: float
    oversample: Literal["within", "pooled"]
    frozen: bool
    seed: int
    seen: tuple[str, ...]
    questions: int
    pairs: int
    loss: float
    seconds: float
    weights: str


def weights_hash(folder: Path) -> str:
    """A hash over the names and bytes of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def read_card(folder: Path) -> tuple[JudgeCard, str]:
    """A judge's card and its fingerprint, the hash of the card, which holds that of the weights.

    Raises:
        ModelUnusable: the folder is no judge, or its weights are not those of its card.
    """
    try:
        raw = (folder / CARD).read_bytes()
        card = JudgeCard.model_validate_json(raw)
    except OSError as error:
        raise ModelUnusable(f"judge: {str(folder)!r} has no {CARD}; train one there") from error
    except ValidationError as error:
        raise ModelUnusable(f"judge: {folder / CARD}: {why(error)}; train it again") from error
    if weights_hash(folder / "encoder") != card.weights:
        raise ModelUnusable(
            f"judge: the weights in {str(folder)!r} are not those of its card; train it again"
        )
    return card, hashlib.sha256(raw).hexdigest()
