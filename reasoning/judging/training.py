"""Training a judge with a focal loss and oversampling, then fitting its probabilities.

Questions are split into three parts: to train the encoder, to fit scale and bias, and held out.
The card marks the first two parts, which evaluation and calibration never use.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from orchestrator.errors import InvalidValue
from pruning import Cut, Pair, Question, pairs
from pruning.evaluation.statistics import mean
from pruning.judge.pairs import balanced, mark, oversampled, split
from reasoning.judging.base_encoders import MINILM, SCRATCH, find_encoder
from reasoning.judging.card import CARD, EncoderForm, JudgeCard, weights_hash
from reasoning.judging.judge import LearnedJudge
from reasoning.judging.pair_encoders import PAIR_ENCODERS, PairEncoder, Texts

MOST_TAUS = 24

Progress = Callable[[int, int, float], None]
"""Called with the steps done, all steps, and the mean loss of the epoch so far."""


@dataclass(frozen=True, kw_only=True)
class JudgeRecipe:
    """How to train a judge.

    Attributes:
        encoder: ``minilm``, ``scratch`` or a folder.
        max_length: The encoder's tokens for each text; a cross-encoder reads both at once.
        oversample: "within" takes as many pairs that agree as pairs that don't from each question,
            so that difficulty predicts nothing; "pooled", as in the paper, takes the rarer class
            of all pairs twice.
        most: The most pairs of a question.
        frozen: Train the head only.
        holdout: The share of the questions to leave for evaluation and calibration.
        validation: The share of the other questions on which scale and bias are fitted.
    """

    form: EncoderForm = "bi"
    encoder: str = MINILM
    cut: Cut = field(default_factory=Cut)
    max_length: int = 250
    epochs: int = 2
    batch: int = 16
    lr: float | None = None
    gamma: float = 2.0
    alpha: float = 0.5
    oversample: Literal["within", "pooled"] = "within"
    most: int = 24
    frozen: bool = False
    holdout: float = 0.5
    validation: float = 0.25
    seed: int = 0

    @property
    def rate(self) -> float:
        """The learning rate: ``lr``, or a default for what is trained."""
        if self.lr is not None:
            return self.lr
        return 1e-2 if self.frozen else 5e-4 if self.encoder == SCRATCH else 5e-5


def train(
    questions: Sequence[Question], recipe: JudgeRecipe, on_step: Progress = lambda *progress: None
) -> LearnedJudge:
    """Train a judge on some of the questions; `save` writes it to a folder.

    Raises:
        InvalidValue: the questions lack texts, or have too few pairs of either kind.
        ExtraMissing, ModelUnusable: as for the encoder.
    """
    check_texts(questions)
    used, _ = split(questions, recipe.holdout, seed=recipe.seed)
    fitted, validated = split(used, recipe.validation, seed=recipe.seed + 1)
    drawn = _draw(fitted, recipe, of=len(questions))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as workspace:
        folder = find_encoder(recipe.encoder, Path(workspace), seed=recipe.seed)
        torch.manual_seed(recipe.seed)
        form = PAIR_ENCODERS[recipe.form].load(folder, max_length=recipe.max_length)
        loss = _fit(form, drawn, recipe, on_step)
    card = _card(recipe, used, len(drawn), loss)
    judge = LearnedJudge(card=card, form=form)
    scale, bias = _platt(judge, validated)
    scaled = LearnedJudge(card=card.model_copy(update={"scale": scale, "bias": bias}), form=form)
    update = {"taus": _taus(scaled, validated), "seconds": round(time.monotonic() - started, 1)}
    return LearnedJudge(card=scaled.card.model_copy(update=update), form=form)


def check_texts(questions: Sequence[Question]) -> None:
    """Check that every trace has a text.

    Raises:
        InvalidValue: a trace has no text.
    """
    for question in questions:
        if not all(trace.text for trace in question.traces):
            raise InvalidValue(
                f"traces: {question.id!r} has a trace without text; store the field text"
            )


def save(judge: LearnedJudge, folder: Path) -> LearnedJudge:
    """Write a judge to ``folder`` as a whole; replaces a judge that is there.

    Raises:
        InvalidValue: the folder can't be written, or holds something else.
    """
    check_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".judge-") as workspace:
            made = Path(workspace) / "judge"
            made.mkdir()
            judge.form.save(made / "encoder")
            card = judge.card.model_copy(update={"weights": weights_hash(made / "encoder")})
            (made / CARD).write_text(card.model_dump_json(by_alias=True, indent=2) + "\n")
            if folder.exists():
                os.replace(folder, Path(workspace) / "old")
            os.replace(made, folder)
    except OSError as error:
        raise InvalidValue(f"output: {folder}: {error.strerror}; give another folder") from error
    return LearnedJudge.load(folder)


def check_folder(folder: Path) -> None:
    """Check that ``folder`` is new, empty or a judge, so that nothing else is overwritten.

    Raises:
        InvalidValue: it holds something else.
    """
    taken = folder.exists() and not (folder / CARD).is_file()
    if taken and not (folder.is_dir() and not any(folder.iterdir())):
        raise InvalidValue(f"output: {folder} is there and no judge; give a new folder")


def _draw(questions: Sequence[Question], recipe: JudgeRecipe, *, of: int) -> list[Pair]:
    """Pairs of both kinds, from what is left ``of`` all questions for training."""
    if recipe.oversample == "within":
        drawn = [pair for q in questions for pair in balanced(q, recipe.most, seed=recipe.seed)]
    else:
        some = [pair for q in questions for pair in pairs(q, recipe.most, seed=recipe.seed)]
        drawn = oversampled(some)
    if len({pair.same for pair in drawn}) < 2:
        raise InvalidValue(
            f"traces: no pairs of both kinds in {len(questions)} of {of} questions, for holdout "
            f"{recipe.holdout:g} and the fit of probabilities take the others; give more questions"
        )
    return drawn


def _fit(form: PairEncoder, drawn: Sequence[Pair], recipe: JudgeRecipe, on_step: Progress) -> float:
    """Train the encoder in place; returns the mean loss of the last epoch."""
    cut = recipe.cut
    texts: list[Texts] = [(cut.of(pair.one), cut.of(pair.other)) for pair in drawn]
    labels = torch.tensor([float(pair.same) for pair in drawn])
    parameters = form.parameters(frozen=recipe.frozen)
    total = -(-len(drawn) // recipe.batch) * recipe.epochs
    optimizer, schedule = _optimizer(parameters, recipe.rate, total)
    logits = _batcher(form, texts, cached=recipe.frozen and recipe.form == "bi")
    order = torch.Generator().manual_seed(recipe.seed)
    form.train(not recipe.frozen)
    done, losses = 0, [0.0]
    for _ in range(recipe.epochs):
        losses = []
        shuffled = torch.randperm(len(drawn), generator=order).tolist()
        for start in range(0, len(drawn), recipe.batch):
            batch = shuffled[start : start + recipe.batch]
            loss = focal_loss(logits(batch), labels[batch], gamma=recipe.gamma, alpha=recipe.alpha)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            done += 1
            losses.append(loss.item())
            on_step(done, total, mean(losses))
    form.train(False)
    return mean(losses)


def focal_loss(logits: Tensor, same: Tensor, *, gamma: float = 2.0, alpha: float = 0.5) -> Tensor:
    """FL(p_t) = -α_t (1 - p_t)^γ log p_t, mean over a batch (Lin et al., arXiv 1708.02002).

    It takes logits and labels (1 where the pair agrees), both of shape ``(n,)``.  p_t is the
    probability given to the true class; α_t is ``alpha`` for pairs that agree and ``1 - alpha`` for
    those that don't.  γ = 0 and α = ½ is half the cross-entropy.  The DeepPrune paper uses the loss
    without stating α and γ; γ = 2 is its source's.
    """
    log_p = functional.logsigmoid((2 * same - 1) * logits)
    weights = torch.where(same > 0.5, alpha, 1 - alpha)
    return -(weights * (1 - log_p.exp()) ** gamma * log_p).mean()


def _optimizer(
    parameters: list[torch.nn.Parameter], rate: float, total: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW whose learning rate rises over a tenth of the steps and then falls to zero."""
    warm = max(1, total // 10)
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (total - step) / max(1, total - warm))
    )
    return optimizer, schedule


def _batcher(
    form: PairEncoder, texts: Sequence[Texts], *, cached: bool
) -> Callable[[Sequence[int]], torch.Tensor]:
    """The logits of pairs by index; with ``cached`` each text is encoded only once."""
    if not cached:
        return lambda batch: form.logits([texts[index] for index in batch])
    items = list(dict.fromkeys(item for pair in texts for item in form.items(pair)))
    values = {item: reading.value.clone() for item, reading in form.read(items)}

    def logits(batch: Sequence[int]) -> torch.Tensor:
        pairs = [form.items(texts[index]) for index in batch]
        return form.combine([tuple(values[item] for item in pair) for pair in pairs])

    return logits


def _platt(judge: LearnedJudge, questions: Sequence[Question]) -> tuple[float, float]:
    """Fit scale and bias of the logit, with equal weight for each question.

    Without pairs of both kinds, or where the fit would invert the judge, they are 1 and 0.
    """
    from sklearn.linear_model import LogisticRegression

    drawn = [(pair, len(some)) for q in questions if (some := _sample(q)) for pair in some]
    same = [pair.same for pair, _ in drawn]
    if len(set(same)) < 2:
        return 1.0, 0.0
    texts = [judge.texts(pair.one, pair.other) for pair, _ in drawn]
    judge.judge(texts)
    logits = [[judge.logit(pair)] for pair in texts]
    weights = [1 / count for _, count in drawn]
    fitted = LogisticRegression(C=1e4).fit(logits, same, sample_weight=weights)
    scale, bias = float(fitted.coef_[0][0]), float(fitted.intercept_[0])
    return (round(scale, 4), round(bias, 4)) if scale > 0 else (1.0, 0.0)


def _sample(question: Question) -> list[Pair]:
    """The pairs of a question on which scale and bias are fitted."""
    return pairs(question, 60)


def _taus(judge: LearnedJudge, questions: Sequence[Question]) -> tuple[float, ...]:
    """Thresholds between the probabilities of the judge, from the highest down."""
    drawn = [pair for question in questions for pair in _sample(question)]
    said = judge.judge([judge.texts(pair.one, pair.other) for pair in drawn])
    said = sorted({round(same, 3) for same in said}, reverse=True)
    borders = [round((one + other) / 2, 4) for one, other in itertools.pairwise(said)]
    return tuple(borders[:: max(1, len(borders) // MOST_TAUS)])


def _card(recipe: JudgeRecipe, used: Sequence[Question], count: int, loss: float) -> JudgeCard:
    shared = JudgeCard.model_fields.keys() & {field.name for field in fields(recipe)} - {"encoder"}
    encoder = recipe.encoder
    return JudgeCard(
        **{name: getattr(recipe, name) for name in shared},
        encoder=encoder if encoder in (MINILM, SCRATCH) else Path(encoder).name,
        scale=1.0,
        bias=0.0,
        taus=(),
        seen=tuple(sorted(map(mark, used))),
        questions=len(used),
        pairs=count,
        loss=round(loss, 5),
        seconds=0.0,
        weights="",
    )
