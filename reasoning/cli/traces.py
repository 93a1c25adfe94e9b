"""The commands over stored traces: sample and replay them; train, evaluate, calibrate a judge."""

from __future__ import annotations

from typing import Any

import click


@click.command()
@click.argument("traces", nargs=-1, required=True, metavar="TRACES...")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME[:param=…]",
    default=("default",),
    show_default=True,
    help="A policy and its parameters, as async:k=8,cap=20000; may be repeated.",
)
@click.option(
    "--shuffles",
    type=click.IntRange(1, 1000),
    default=16,
    show_default=True,
    help="Orders in which each question's traces are launched.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="The same seed gives the same orders."
)
@click.option(
    "--probe-tokens",
    type=click.IntRange(0, 10_000),
    default=0,
    show_default=True,
    help="What one probe of a running trace costs.",
)
@click.option(
    "--judge-price",
    type=click.FloatRange(0, 1000),
    default=1.0,
    show_default=True,
    help="What a token costs that a judge reads.",
)
@click.option(
    "--unseen", "only_unseen", is_flag=True, help="Leave out what a judge or calibration has seen."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--plot", metavar="FILE", help="Draw accuracy against tokens and against span.")
def replay(traces: tuple[str, ...], **options: Any) -> int:
    """Replay stopping and voting policies over stored TRACES, JSON lines, gzipped or not.

    Beside each policy stands self-consistency with as many traces and with as many tokens.
    Intervals are over questions.

    \b
    reason replay traces.jsonl.gz --policy default --policy sc:n=64
    """
    from reasoning.cli.replaying import run

    return run(traces, **options)


@click.command()
@click.argument("domain", type=click.Choice(["arithmetic", "countdown"]))
@click.option("--output", "-o", required=True, metavar="FILE", help="JSON lines; .gz is packed.")
@click.option(
    "--n", "--problems", "count", type=int, default=100, show_default=True, help="Problems."
)
@click.option(
    "--each", type=click.IntRange(1, 1024), default=16, show_default=True, help="Traces of each."
)
@click.option("--model", metavar="NAME|PATH", help="A shipped model or a Hugging Face folder.")
@click.option(
    "--temperature",
    type=click.FloatRange(0, 10),
    default=1.0,
    show_default=True,
    help="Of every trace.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=16),
    default=512,
    show_default=True,
    help="Context of each trace; one that is cut has no answer.",
)
@click.option(
    "--numbers", type=click.IntRange(4, 5), default=4, help="Numbers of a Countdown problem."
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Chooses problems and samples."
)
@click.option(
    "--parallel", type=click.IntRange(1, 256), default=4, show_default=True, help="At once."
)
def sample(domain: str, **options: Any) -> int:
    """Sample traces of held-out problems, with their texts, for replay, a judge, a calibration.

    \b
    reason sample arithmetic --n 300 --each 16 --output traces.jsonl.gz
    """
    from reasoning.bench.sample import run

    return run(domain, **options)


@click.group()
def judge() -> None:
    """Train and evaluate judges: will two partial traces come to the same answer?"""


@judge.command()
@click.argument("traces", nargs=-1, required=True, metavar="TRACES...")
@click.option(
    "--output", "-o", required=True, metavar="FOLDER", help="The judge's folder, new or a judge's."
)
@click.option(
    "--encoder",
    metavar="PATH|NAME",
    default="minilm",
    show_default=True,
    help="minilm (packaged), scratch (small, reads characters) or a Hugging Face folder.",
)
@click.option(
    "--form",
    type=click.Choice(["cross", "bi"]),
    default="bi",
    show_default=True,
    help="Read a pair at once, or each trace once however many pairs it is in.",
)
@click.option(
    "--cut",
    "by",
    type=click.Choice(["tokens", "steps"]),
    default="tokens",
    show_default=True,
    help="Read the first tokens, or the reasoning steps among them.",
)
@click.option(
    "--prefix",
    type=click.IntRange(1, 1_000_000),
    default=500,
    show_default=True,
    help="Tokens of a trace after which it is judged.",
)
@click.option(
    "--steps",
    type=click.IntRange(1, 10_000),
    default=25,
    show_default=True,
    help="With --cut steps: at most so many.",
)
@click.option(
    "--max-length",
    type=click.IntRange(8, 100_000),
    default=250,
    show_default=True,
    help="The encoder's tokens for a side; of a longer one its middle is left out.",
)
@click.option("--epochs", type=click.IntRange(1, 1000), default=2, show_default=True)
@click.option("--batch", type=click.IntRange(1, 4096), default=16, show_default=True)
@click.option("--lr", type=click.FloatRange(0, 1, min_open=True), help="By default 5e-5 or so.")
@click.option(
    "--gamma", type=click.FloatRange(0, 10), default=2.0, show_default=True, help="Focal."
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Focal: the weight of pairs that agree.",
)
@click.option(
    "--oversample",
    type=click.Choice(["within", "pooled"]),
    default="within",
    show_default=True,
    help="As many of both kinds from each question, or the rarer kind twice over all.",
)
@click.option(
    "--pairs",
    "most",
    type=click.IntRange(2, 100_000),
    default=24,
    show_default=True,
    help="Pairs of each question.",
)
@click.option("--frozen", is_flag=True, help="Train the head alone.")
@click.option(
    "--holdout",
    type=click.FloatRange(0, 0.95),
    default=0.5,
    show_default=True,
    help="The share of the questions to leave for eval and calibrate.",
)
@click.option("--seed", type=int, default=0, show_default=True)
def train(traces: tuple[str, ...], **options: Any) -> int:
    """Train a judge on TRACES that have texts, JSON lines, gzipped or not.

    \b
    reason judge train traces.jsonl.gz --output judge --prefix 40
    """
    from reasoning.cli.judge import train

    return train(traces, **options)


@judge.command(name="eval")
@click.argument("traces", nargs=-1, required=True, metavar="TRACES...")
@click.option("--judge", "folder", required=True, metavar="FOLDER", help="A trained judge.")
@click.option(
    "--each",
    type=click.IntRange(2, 1024),
    default=16,
    show_default=True,
    help="Traces of each question; all their pairs are judged.",
)
@click.option(
    "--tau",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Clustering takes two traces for one above this probability.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def evaluate(traces: tuple[str, ...], **options: Any) -> int:
    """Evaluate a judge on those questions of TRACES that it has not seen.

    What counts is the AUROC within questions: pooled ones are nearly all difficulty, as the oracle
    beside them shows.
    """
    from reasoning.cli.judge import evaluate

    return evaluate(traces, **options)


@click.command()
@click.argument("traces", nargs=-1, required=True, metavar="TRACES...")
@click.option("--judge", "folder", required=True, metavar="FOLDER", help="A trained judge.")
@click.option("--output", "-o", required=True, metavar="FILE", help="The calibration, JSON.")
@click.option(
    "--risk",
    type=float,
    default=0.1,
    show_default=True,
    help="The mean share of a question's merges that may be wrong.",
)
@click.option(
    "--delta",
    type=float,
    default=0.1,
    show_default=True,
    help="How probable it may be that the risk is exceeded after all.",
)
@click.option(
    "--policy",
    default="deepprune:vote=soft",
    show_default=True,
    metavar="NAME[:param=…]",
    help="What is calibrated: deepprune, with all but its tau.",
)
@click.option(
    "--orders",
    type=click.IntRange(1, 1000),
    default=4,
    show_default=True,
    help="Orders of each question's traces.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the calibration instead of a table.")
def calibrate(traces: tuple[str, ...], **options: Any) -> int:
    """Choose the threshold under which a judge may prune, if there is one, on new questions.

    Learn-then-Test: with probability 1 - delta the rate of wrong merges is at most the risk.  The
    file belongs to this judge and this policy; without a valid threshold it keeps the policy from
    pruning.

    \b
    reason calibrate traces.jsonl.gz --judge judge --risk 0.1 --delta 0.1 --output gate.json
    reason replay more.jsonl.gz --policy deepprune:judge=judge,calibration=gate.json
    """
    from reasoning.cli.judge import calibrate

    return calibrate(traces, **options)
