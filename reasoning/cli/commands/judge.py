"""``reason judge``: train and evaluate judges on stored traces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from click import Choice, FloatRange, IntRange

from reasoning.cli.options import argument, json_option, option, options, settings_class
from reasoning.cli.printing import print_object, print_tables, progress_bar, say, table

if TYPE_CHECKING:
    from rich.table import Table

    from reasoning.judging.evaluation import Evaluation
    from reasoning.judging.training import JudgeRecipe


@click.group()
def judge() -> None:
    """Train and evaluate judges: will two partial traces come to the same answer?"""


@settings_class
class TrainJudgeSettings:
    """Traces, where the judge goes, and the recipe of its training."""

    traces: tuple[str, ...] = argument(nargs=-1, required=True, metavar="TRACES...")
    output: str = option(
        "The judge's folder, new or a judge's.", "--output", "-o", required=True, metavar="FOLDER"
    )
    encoder: str = option(
        "minilm (packaged), scratch (small, reads characters) or a Hugging Face folder.",
        metavar="PATH|NAME",
        default="minilm",
    )
    form: str = option(
        "Read a pair at once, or each trace once however many pairs it is in.",
        type=Choice(["cross", "bi"]),
        default="bi",
    )
    cut: str = option(
        "Read the first tokens, or the reasoning steps among them.",
        type=Choice(["tokens", "steps"]),
        default="tokens",
    )
    prefix: int = option(
        "Tokens of a trace after which it is judged.", type=IntRange(1, 1_000_000), default=500
    )
    steps: int = option("With --cut steps: at most so many.", type=IntRange(1, 10_000), default=25)
    max_length: int = option(
        "The encoder's tokens for a side; of a longer one its middle is left out.",
        type=IntRange(8, 100_000),
        default=250,
    )
    epochs: int = option("Passes over the pairs.", type=IntRange(1, 1000), default=2)
    batch: int = option("Pairs of one step.", type=IntRange(1, 4096), default=16)
    lr: float | None = option(
        "The learning rate; by default 5e-5 or so.", type=FloatRange(0, 1, min_open=True)
    )
    gamma: float = option(
        "Focal loss: how little pairs count that are judged well already.",
        type=FloatRange(0, 10),
        default=2.0,
    )
    alpha: float = option(
        "Focal loss: the weight of pairs that agree.",
        type=FloatRange(0, 1, min_open=True, max_open=True),
        default=0.5,
    )
    oversample: str = option(
        "As many of both kinds from each question, or the rarer kind twice over all.",
        type=Choice(["within", "pooled"]),
        default="within",
    )
    most: int = option("Pairs of each question.", "--pairs", type=IntRange(2, 100_000), default=24)
    frozen: bool = option("Train the head alone.", is_flag=True)
    holdout: float = option(
        "The share of the questions to leave for eval and calibrate.",
        type=FloatRange(0, 0.95),
        default=0.5,
    )
    seed: int = option("Chooses the questions and the pairs.", default=0)

    @property
    def recipe(self) -> JudgeRecipe:
        """How the judge is trained."""
        from dataclasses import fields

        from pruning import Cut
        from reasoning.judging.training import JudgeRecipe

        cut = Cut(by=self.cut, tokens=self.prefix, steps=self.steps)  # type: ignore[arg-type]
        shared = {one.name for one in fields(JudgeRecipe)} & vars(self).keys() - {"cut"}
        return JudgeRecipe(cut=cut, **{name: getattr(self, name) for name in shared})


@judge.command()
@options(TrainJudgeSettings)
def train(settings: TrainJudgeSettings) -> None:
    """Train a judge on TRACES that have texts, JSON lines, gzipped or not.

    \b
    reason judge train traces.jsonl.gz --output judge --prefix 40
    """
    from pathlib import Path

    from reasoning.evaluation.importers import read_traces
    from reasoning.judging import training

    target = Path(settings.output)
    training.check_folder(target)
    questions = read_traces(settings.traces)
    with progress_bar("train") as update:

        def on_step(done: int, total: int, loss: float) -> None:
            update(completed=done, total=total, description=f"train, loss {loss:.3f}")

        card = training.save(training.train(questions, settings.recipe, on_step), target).card
    say(
        f"{target}: {card.form} judge of {card.pairs} pairs, loss {card.loss:.4f}, "
        f"{card.seconds:.0f} s; {card.questions} of {len(questions)} questions seen",
        err=False,
    )


@settings_class
class EvaluateJudgeSettings:
    """A judge, and the traces on which it is evaluated."""

    traces: tuple[str, ...] = argument(nargs=-1, required=True, metavar="TRACES...")
    folder: str = option("A trained judge.", "--judge", required=True, metavar="FOLDER")
    each: int = option(
        "Traces of each question; all their pairs are judged.", type=IntRange(2, 1024), default=16
    )
    tau: float = option(
        "Clustering takes two traces for one above this probability.",
        type=FloatRange(0, 1),
        default=0.5,
    )
    as_json: bool = json_option("tables")


@judge.command(name="eval")
@options(EvaluateJudgeSettings)
def evaluate(settings: EvaluateJudgeSettings) -> None:
    """Evaluate a judge on those questions of TRACES that it has not seen.

    What counts is the AUROC within questions: pooled ones are nearly all difficulty, as the oracle
    beside them shows.
    """
    from pathlib import Path

    from reasoning.evaluation.importers import read_traces
    from reasoning.judging.evaluation import EvaluationOptions, evaluate
    from reasoning.judging.judge import LearnedJudge

    questions = read_traces(settings.traces)
    learned = LearnedJudge.load(settings.folder)
    with progress_bar("eval", len(questions)) as advance:
        options = EvaluationOptions(
            name=Path(settings.folder).name,
            traces=[Path(path).name for path in settings.traces],
            each=settings.each,
            tau=settings.tau,
            on_question=advance,
        )
        found = evaluate(learned, questions, options)
    if settings.as_json:
        print_object(found)
    else:
        print_tables(*_tables(found))


def _tables(found: Evaluation) -> Iterator[Table]:
    title = (
        f"{found.judge} ({found.form}): {found.questions} questions that it has not seen, "
        f"{found.mixed} with pairs of both kinds, {found.pairs} pairs"
    )
    ranks = table(title, "AUROC", "within questions", "95 % interval", "pooled", "95 % interval")
    for one in found.rankings:
        ranks.add_row(
            one.name,
            f"{one.within:.3f}",
            _interval(one.within_ci95),
            f"{one.pooled:.3f}",
            _interval(one.pooled_ci95),
        )
    yield ranks
    title = f"Reliability: Brier score {found.brier:.3f}; best threshold {found.threshold:.3f}"
    reliability = table(title, "said", "agreed")
    for some in found.reliability:
        reliability.add_row(f"{some.said:.3f}", f"{some.agreed:.3f}")
    yield reliability
    title = f"Clusters of traces against equal answers, tau = {found.tau:g}"
    clusters = table(title, "clusters", "adjusted Rand", "homogeneity", "completeness", "clusters")
    for row in found.clusterings:
        clusters.add_row(
            row.name,
            f"{row.rand:.3f}",
            f"{row.homogeneity:.3f}",
            f"{row.completeness:.3f}",
            f"{row.clusters:.1f}",
        )
    clusters.caption = f"{found.cost.tokens:,.0f} tokens and {found.cost.seconds:.2f} s a question"
    yield clusters


def _interval(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f}–{interval[1]:.3f}"
