"""``reason sample``: traces of a model on held-out problems, stored for replay."""

from __future__ import annotations

import click
from click import Choice, FloatRange, IntRange

from orchestrator.errors import InvalidValue
from reasoning.cli.options import argument, option, options, settings_class
from reasoning.cli.printing import progress_bar, say


@settings_class
class SampleSettings:
    """Problems, and the traces that are sampled on each of them."""

    domain: str = argument(type=Choice(["arithmetic", "countdown"]))
    output: str = option(
        "JSON lines; .gz is packed.", "--output", "-o", required=True, metavar="FILE"
    )
    count: int = option("Problems.", "--n", "--problems", default=100)
    each: int = option("Traces of each problem.", type=IntRange(1, 1024), default=16)
    model: str | None = option("A shipped model or a Hugging Face folder.", metavar="NAME|PATH")
    temperature: float = option("Of every trace.", type=FloatRange(0, 10), default=1.0)
    max_tokens: int = option(
        "Context of each trace; one that is cut has no answer.", type=IntRange(min=16), default=512
    )
    numbers: int = option("Numbers of a Countdown problem.", type=IntRange(4, 5), default=4)
    seed: int = option("Chooses problems and samples.", default=0)
    parallel: int = option("Problems solved at once.", type=IntRange(1, 256), default=4)


@click.command()
@options(SampleSettings)
def sample(settings: SampleSettings) -> None:
    """Sample traces of held-out problems, with their texts, for replay, a judge, a calibration.

    \b
    reason sample arithmetic --n 300 --each 16 --output traces.jsonl.gz
    """
    from pathlib import Path

    import anyio

    from reasoning.evaluation import Arm, draw_problems, solve_all, write_traces
    from reasoning.models.loading import load_model

    target, each = Path(settings.output), settings.each
    if not target.parent.is_dir():
        raise InvalidValue(f"output: {target}: no such folder; make it, or give another")
    problems = draw_problems(
        settings.domain, settings.count, numbers=settings.numbers, seed=settings.seed
    )
    arm = Arm(
        strategy=f"self-consistency:n={each}",
        temperature=settings.temperature,
        seed=settings.seed,
        max_tokens=settings.max_tokens,
        parallel=settings.parallel,
    )
    model = load_model(settings.model)
    with progress_bar(f"{settings.domain}, {each} traces each", len(problems)) as advance:
        solutions = anyio.run(solve_all, model, arm, problems, advance)
    write_traces(target, solutions)
    right = sum(solution.verified is True for solution in solutions)
    say(
        f"{target}: {len(problems)} questions, {each} traces each; {right} majorities right",
        err=False,
    )
