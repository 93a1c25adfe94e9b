"""What ``reason replay`` prints: rows, a table, a plot."""

from __future__ import annotations

from typing import IO, Any

from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table

from orchestrator.errors import ExtraMissing, InvalidValue
from pruning import Comparison, Gain, Summary


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Figures(_Frozen):
    """One policy over the questions; tokens and span are means a question."""

    policy: str
    accuracy: float
    ci95: tuple[float, float]
    """Bootstrapped over questions."""
    tokens: float
    span: float
    """The critical path in tokens."""
    traces: float
    probes: float
    judge_tokens: float
    """Read by the judge, and charged to ``tokens`` at their price."""
    judge_seconds: float


class Baseline(Figures):
    """Self-consistency beside a policy, and what the policy gains over it."""

    gain: float
    """In accuracy, question by question."""
    gain_ci95: tuple[float, float]


class QuestionRow(_Frozen):
    """One question; the deltas are the policy's accuracy less the baseline's."""

    question: str
    accuracy: float
    tokens: float
    span: float
    delta_n_matched: float
    delta_token_matched: float


class Row(Figures):
    """One policy with all that stands beside it; ``n`` is the number of questions."""

    n: int
    n_matched: Baseline
    token_matched: Baseline
    questions: list[QuestionRow]


class Results(_Frozen):
    """What ``reason replay --json`` prints."""

    schema_: str = Field(default="reason.replay/1", alias="schema")
    traces: list[str]
    shuffles: int
    seed: int
    probe_tokens: int
    judge_price: float
    results: list[Row]


def _figures(summary: Summary) -> dict[str, Any]:
    low, high = summary.ci95
    return {
        "accuracy": round(summary.accuracy, 4),
        "ci95": (round(low, 4), round(high, 4)),
        "tokens": round(summary.tokens, 1),
        "span": round(summary.span, 1),
        "traces": round(summary.traces, 2),
        "probes": round(summary.probes, 1),
        "judge_tokens": round(summary.judge_tokens, 1),
        "judge_seconds": round(summary.judge_seconds, 4),
    }


def _baseline(summary: Summary, gain: Gain) -> Baseline:
    low, high = gain.ci95
    return Baseline(
        policy=f"sc:n={round(summary.traces)}",
        gain=round(gain.mean, 4),
        gain_ci95=(round(low, 4), round(high, 4)),
        **_figures(summary),
    )


def row(text: str, compared: Comparison) -> Row:
    n_gain, token_gain = compared.gains
    outcomes = zip(
        compared.summary.outcomes,
        compared.n_matched.outcomes,
        compared.token_matched.outcomes,
        strict=True,
    )
    return Row(
        policy=text,
        n=compared.summary.n,
        n_matched=_baseline(compared.n_matched, n_gain),
        token_matched=_baseline(compared.token_matched, token_gain),
        questions=[
            QuestionRow(
                question=ours.question,
                accuracy=round(ours.accuracy, 4),
                tokens=round(ours.tokens, 1),
                span=round(ours.span, 1),
                delta_n_matched=round(ours.accuracy - n.accuracy, 4),
                delta_token_matched=round(ours.accuracy - tokens.accuracy, 4),
            )
            for ours, n, tokens in outcomes
        ],
        **_figures(compared.summary),
    )


def table(results: Results) -> Table:
    count, shuffles = results.results[0].n, results.shuffles
    title = f"{', '.join(results.traces)}: {count} questions, {shuffles} orders of their traces"
    made = Table(title=title)
    for heading in ("policy", "accuracy", "95 % interval", "tokens", "span", "policy gains"):
        left = heading == "policy"
        made.add_column(heading, justify="left" if left else "right", no_wrap=left)
    for row in results.results:
        made.add_row(row.policy, *_cells(row), "")
        for name, base in (("as many traces", row.n_matched), ("tokens", row.token_matched)):
            low, high = base.gain_ci95
            gained = f"{base.gain:+.1%} ({low:+.1%} to {high:+.1%})"
            made.add_row(f"  {base.policy} ({name})", *_cells(base), gained, style="dim")
    return made


def _cells(figures: Figures) -> tuple[str, ...]:
    low, high = figures.ci95
    return (
        f"{figures.accuracy:.1%}",
        f"{low:.1%}–{high:.1%}",
        f"{figures.tokens:,.0f}",
        f"{figures.span:,.0f}",
    )


def pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ExtraMissing(
            "plot: matplotlib is not installed; install parallel-reason[pruning]"
        ) from error
    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot


def draw(results: Results, target: str | IO[bytes]) -> None:
    """Accuracy against tokens and against span, each with its interval and the baselines.

    Raises:
        ExtraMissing: matplotlib is not installed.
        InvalidValue: the file can't be written.
    """
    plt = pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, cost in zip(axes, ("tokens", "span"), strict=True):
        for number, row in enumerate(results.results):
            bases = {base.policy: base for base in (row.n_matched, row.token_matched)}
            for figures, marker in ((row, "o"), *((base, "x") for base in bases.values())):
                low, high = figures.ci95
                axis.errorbar(
                    getattr(figures, cost),
                    figures.accuracy,
                    yerr=[[figures.accuracy - low], [high - figures.accuracy]],
                    fmt=marker,
                    color=f"C{number}",
                    alpha=1.0 if marker == "o" else 0.4,
                    label=figures.policy if marker == "o" else None,
                )
        axis.set_xscale("log")
        axis.set_xlabel(f"{cost} a question")
    axes[0].set_ylabel("accuracy")
    axes[0].legend()
    try:
        figure.savefig(target)
    except (OSError, ValueError) as error:
        raise InvalidValue(f"plot: {error}; give a file such as replay.png") from error
    finally:
        plt.close(figure)
