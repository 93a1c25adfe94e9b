"""An evaluation as one page of HTML: the picture, the arms, how it was asked, and what to read."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import InvalidValue
from reasoning.cli.picture import draw

if TYPE_CHECKING:
    from reasoning.evaluation.arms import GradedEval
    from reasoning.evaluation.kept.records import EvalHeader, SampleRecord
    from reasoning.evaluation.questions import EvalQuestion
    from reasoning.evaluation.replay import ReplayBaseline
    from reasoning.evaluation.results import EvalResults, EvalRow

MOST_READ = 20
"""Questions that are shown with their answers."""
LONGEST = 4_000
"""Characters of a sample that are shown."""

HEADINGS = ("arm", "accuracy (95 %)", "tokens", "span", "gain, points (95 %)", "for ±1")

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
:root{color-scheme:light dark}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid #8884}
th:first-child,td:first-child,th+td:last-child{text-align:left}
th[scope=row]{font-weight:inherit}
h1,code{overflow-wrap:anywhere}
:focus-visible{outline:2px solid}
tr.beside{font-style:italic}
tr.beside td:first-child{padding-left:2rem}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#8881;padding:.6rem}
figure{margin:1rem 0;background:#fff;overflow-x:auto}
figure svg{display:block;min-width:40rem;max-width:100%;height:auto;margin:auto}
.wide{overflow-x:auto}
@media print{
body{font-size:11px;margin:0;max-width:none}
:root{color-scheme:light}
.wide,figure{overflow:visible}
figure svg{min-width:0}
}
"""


def write_page(
    target: str, results: EvalResults, graded: GradedEval, header: EvalHeader, again: str = ""
) -> None:
    """Write the page; what questions and models say stands there as text.

    Args:
        again: The command that makes it again, where that is known.

    Raises:
        ExtraMissing: matplotlib is not installed.
        InvalidValue: the file can't be written.
    """
    title, picture = results.title, io.StringIO()
    draw("", results.results, results.curve, picture)
    svg = picture.getvalue()
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>',
        f"<main><h1>{escape(title)}</h1>",
        f'<figure role="img" tabindex="0" aria-label="{_SEEN}">{svg[svg.index("<svg") :]}</figure>',
        f"<h2>Arms</h2>{_wide('Arms')}",
        f"<tr>{''.join(f'<th scope=col>{one}' for one in HEADINGS)}</tr>",
        *(line for row in results.results for line in _rows(row)),
        "</table></div>",
        *_pool(results),
        f"<h2>How it was asked</h2>{_wide('How it was asked')}",
        *(_pair(name, value) for name, value in _settings(results, header)),
        "</table></div>",
        f"<p>Again: <code>{escape(again)}</code></p>" if again else "",
        f"<h2>Worth reading</h2><p>{_WORTH}</p>",
        *(line for question in worth_reading(graded) for line in _read(question, graded)),
        "</main></html>\n",
    ]
    try:
        Path(target).write_text("\n".join(parts), encoding="utf-8", errors="replace")
    except OSError as error:
        raise InvalidValue(f"report: {target}: {error.strerror}; give another file") from error


_SEEN = "Accuracy over tokens and over span, and gains; the table below has the same figures."


def _wide(name: str) -> str:
    """The beginning of a table that may be wider than the screen."""
    return f'<div class="wide" role="region" tabindex="0" aria-label="{name}"><table>'


_WORTH = (
    f"Up to {MOST_READ} questions: those with most votes for a wrong answer first, then those "
    "whose votes are divided; one right sample of each and one wrong, where there are."
)


def _rows(row: EvalRow) -> Iterator[str]:
    low, high = row.ci95
    yield (
        f"<tr><th scope=row>{escape(row.policy)}<td>{row.accuracy:.1%} "
        f"({100 * low:.1f}–{100 * high:.1f})<td>{row.tokens:,.0f}<td>{row.span:,.0f}<td><td></tr>"
    )
    for name, base in row.beside.items():
        if name in ("token_matched", "against"):
            yield _beside(base, "as many tokens" if name == "token_matched" else "asked for")


def _beside(base: ReplayBaseline, words: str) -> str:
    low, high = base.gain_ci95
    return (
        f'<tr class="beside"><td>{escape(base.policy)} ({words})<td>{base.accuracy:.1%}'
        f"<td>{base.tokens:,.0f}<td>{base.span:,.0f}<td>{100 * base.gain:+.1f} "
        f"({100 * low:+.1f} to {100 * high:+.1f})<td>{base.questions_needed:,}</tr>"
    )


def _pool(results: EvalResults) -> Iterator[str]:
    pool = results.pool
    if pool is not None:
        yield (
            f"<p>{pool.samples:,} samples: {pool.right:.1%} right, {pool.answered:.1%} answered, "
            f"{pool.cut:.1%} cut before their end, {pool.lost:,} lost.</p>"
        )


def _settings(results: EvalResults, header: EvalHeader) -> Iterator[tuple[str, object]]:
    yield from (("questions", results.questions), ("model", header.model))
    yield from (("draft", header.draft),) if header.draft else ()
    yield from header.options.items()
    yield from (("samples", results.samples), ("orders", results.shuffles))
    yield from header.versions.items()


def _pair(name: str, value: object) -> str:
    return f"<tr><th scope=row>{escape(str(name))}<td>{escape(str(value))}</tr>"


def worth_reading(graded: GradedEval) -> list[EvalQuestion]:
    """Questions to be read: those with a sure wrong answer first, then those of divided votes."""

    def rank(question: EvalQuestion) -> tuple[bool, float]:
        votes = graded.votes(question)
        winner, count = votes.most_common(1)[0] if votes else ("", 0)
        share = count / max(1, votes.total())
        wrong = not graded.right_key(question, winner)
        return (not (wrong and share >= 0.5), -share if wrong else share)

    asked = [question for question in graded.questions if graded.votes(question)]
    return sorted(asked, key=rank)[:MOST_READ]


def _read(question: EvalQuestion, graded: GradedEval) -> Iterator[str]:
    votes: Counter[str] = graded.votes(question)
    given = ", ".join(
        f"{'✓' if graded.right_key(question, key) else '✗'} {key} ×{count}"
        for key, count in votes.most_common(8)
    )
    yield f"<details><summary>{escape(question.text[:300])}<br>{escape(given)}</summary>"
    if question.gold:
        yield f"<p>Right: {escape(', '.join(question.gold))}</p>"
    for sample in _one_of_each(graded.samples([question]), graded):
        head = f"{sample.answer or 'no answer'} · {sample.tokens} tokens · {sample.ending}"
        yield f"<p>{escape(head)}</p><pre>{escape(sample.text[:LONGEST])}</pre>"
    yield "</details>"


def _one_of_each(samples: Sequence[SampleRecord], graded: GradedEval) -> Iterator[SampleRecord]:
    """One right sample and one wrong one, where there are."""
    kept = [one for one in samples if one.lost is None]
    for wanted in (True, False):
        yield from [one for one in kept if graded.right(one) is wanted][:1]
