"""Arms as a table for a terminal: what each came to, and what it gains over what is beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reasoning.cli.printing import table

if TYPE_CHECKING:
    from rich.table import Table

    from reasoning.evaluation.replay import Beside, ReplayBaseline, ReplayFigures, ReplayRow
    from reasoning.evaluation.results import ParallelFigures
    from reasoning.values.accounting import ParallelStats

_WORDS: dict[Beside, str] = {
    "n_matched": "as many traces",
    "token_matched": "as many tokens",
    "span_matched": "as long a span",
    "against": "asked for",
}
_EQUAL: dict[Beside, str] = {
    "n_matched": "traces",
    "token_matched": "tokens",
    "span_matched": "span",
}
_CAPTION = """Gains are in points of accuracy, paired by question, with the 95 % interval over \
questions; orders: the standard error that the orders of traces leave in a gain; for ±1: the \
questions that an interval of one point either way takes."""


def arms_table(title: str, rows: Sequence[ReplayRow], equal: Sequence[str]) -> Table:
    """The rows of arms, each over what stands beside it; ``equal`` costs are shown."""
    made = table(title, "arm", "accuracy (95 %)", "tokens", "span", "gain", "orders", "for ±1")
    made.caption = _CAPTION
    arm, accuracy, *_ = made.columns
    arm.no_wrap, arm.overflow = False, "fold"  # a long name takes lines, not the figures' room
    accuracy.min_width = len("(100.0–100.0)")
    for column in made.columns[1:]:
        column.no_wrap = column.header not in ("accuracy (95 %)", "gain")
    for row in rows:
        made.add_row(f"{row.policy}{_short(row, row.n)}{_rounds(row)}", *_cells(row))
        for name, base in row.beside.items():
            if _EQUAL.get(name) in (None, *equal):
                label = f"  {base.policy} ({_WORDS[name]}){_short(base, row.n)}"
                made.add_row(label, *_cells(base), *_gains(base), style="dim")
    return made


def parallel_words(counted: ParallelStats | ParallelFigures) -> list[str]:
    """What branches cost and saved, as papers count it."""
    return [
        f"longest thread {counted.longest_thread:,.0f} of {counted.tokens:,.0f}",
        f"critical path {counted.critical_path:,.0f}",
        f"acceleration {counted.acceleration:.2f}",
        f"in parallel {counted.parallel_ratio:.0%}",
        f"#parallel {counted.degree:.2f}",
    ]


def _short(figures: ReplayFigures, count: int) -> str:
    """What an arm had too few traces for, as ``16 of 64 traces``."""
    if not figures.questions_short:
        return ""
    there, missing = figures.traces, figures.traces_missing
    if figures.questions_short == count and there.is_integer() and missing.is_integer():
        return f", {there:.0f} of {there + missing:.0f} traces"
    some = f"{figures.questions_short:,} question{'s' * (figures.questions_short > 1)}"
    return f", too few traces on {some}"


def _rounds(row: ReplayRow) -> str:
    """In how many rounds one budget was spread."""
    return "" if row.batch is None else f", {row.batch.rounds:.1f} rounds"


def _cells(figures: ReplayFigures) -> tuple[str, ...]:
    low, high = figures.ci95
    return (
        f"{figures.accuracy:.1%} ({100 * low:.1f}–{100 * high:.1f})",
        f"{figures.tokens:,.0f}",
        f"{figures.span:,.0f}",
    )


def _gains(base: ReplayBaseline) -> tuple[str, ...]:
    low, high = base.gain_ci95
    shown = "" if base.verdict == "undecided" else f" {base.verdict}"
    return (
        f"{100 * base.gain:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]{shown}",
        "" if base.orders_error is None else f"±{100 * base.orders_error:.1f}",
        f"{base.questions_needed:,}",
    )
