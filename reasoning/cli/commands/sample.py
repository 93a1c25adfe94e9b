"""``reason sample``: traces of a model on held-out problems, stored for replay."""

from __future__ import annotations

import click

from orchestrator.errors import InvalidValue
from reasoning.cli.options import argument, option, options, settings_class
from reasoning.cli.printing import progress_bar


@settings_class
class SampleSettings:
    """Problems, and the traces that are sampled on each of them."""

    domain: str = argument(type=click.Choice(["arithmetic", "countdown"]))
    output: str = option(
        "--output", "-o", required=True, metavar="FILE", help="JSON lines; .gz is packed."
    )
    count: int = option("--n", "--problems", type=int, default=100, help="Problems.")
    each: int = option(
        "--each", type=click.IntRange(1, 1024), default=16, help="Traces of each problem."
    )
    model: str | None = option(
        "--model", metavar="NAME|PATH", help="A shipped model or a Hugging Face folder."
    )
    temperature: float = option(
        "--temperature", type=click.FloatRange(0, 10), default=1.0, help="Of every trace."
    )
    max_tokens: int = option(
        "--max-tokens",
        type=click.IntRange(min=16),
        default=512,
        help="Context of each trace; one that is cut has no answer.",
    )
    numbers: int = option(
        "--numbers", type=click.IntRange(4, 5), default=4, help="Numbers of a Countdown problem."
    )
    seed: int = option("--seed", type=int, default=0, help="Chooses problems and samples.")
    parallel: int = option(
        "--parallel", type=click.IntRange(1, 256), default=4, help="Problems solved at once."
    )


@click.command()
@options(SampleSettings)
def sample(settings: SampleSettings) -> int:
    """Sample traces of held-out problems, with their texts, for replay, a judge, a calibration.

    \b
    reason sample arithmetic --n 300 --each 16 --output traces.jsonl.gz
    """
    from pathlib import Path

    import anyio

    from reasoning.bench import Arm, draw_problems, solve_all, write_traces
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
    click.echo(f"{target}: {len(problems)} questions, {each} traces each; {right} majorities right")
    return 0
