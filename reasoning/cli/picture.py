"""Arms as a picture: accuracy over tokens and over span, and what each gains, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from orchestrator.errors import InvalidValue, importing

if TYPE_CHECKING:
    from reasoning.evaluation.replay import Beside, CurvePoint, ReplayBaseline, ReplayRow

GREY, INK = "#8a8a8a", "#222222"
COSTS = ("tokens", "span")
NOTE = "filled: nothing is better for less · ticks of self-consistency: powers of two"


def pyplot(who: str = "plot") -> Any:
    """Matplotlib, which draws into files only; ``who`` needs it.

    Raises:
        ExtraMissing: it is not installed.
    """
    with importing("eval", who):
        import matplotlib
    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot


def check_picture(target: str) -> None:
    """Check that a picture can be drawn into a file of this name.

    Raises:
        ExtraMissing: matplotlib is not installed.
        InvalidValue: it draws no such files.
    """
    plt = pyplot()
    known = sorted(plt.gcf().canvas.get_supported_filetypes())
    plt.close()
    if Path(target).suffix.lower().lstrip(".") not in known:
        raise InvalidValue(f"plot: {target}: give a file that ends in .{', .'.join(known)}")


def draw(
    title: str, rows: Sequence[ReplayRow], curve: Sequence[CurvePoint], target: str | TextIO
) -> None:
    """Draw arms beside the curve of self-consistency, into a PNG, SVG or PDF file, or as SVG.

    Two panels show accuracy over tokens and over span, each arm with its name and interval; those
    are filled that nothing beats at less, no point of the curve either, which has a tick at each
    power of two.  The third panel shows what each arm gains over self-consistency with as many
    tokens, and over the arm asked for.

    Raises:
        ExtraMissing: matplotlib is not installed.
        InvalidValue: the file can't be written.
    """
    plt = pyplot()
    gains = [
        (row, f"C{number}", name, base)
        for number, row in enumerate(rows)
        for name, base in _shown(row)
    ]
    figure = plt.figure(figsize=(10, 4.2 + 0.32 * len(gains)), layout="constrained")
    heights = [4.2, 0.6 + 0.32 * len(gains)] if gains else [1]
    above, *below = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, cost in zip(above.subplots(1, 2, sharey=True), COSTS, strict=True):
        _scatter(axis, rows, curve, cost)
        axis.set_title(f"accuracy (%) over {cost} a question", loc="left", fontsize=9)
    if gains:
        _forest(below[0].subplots(), gains)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.supxlabel(NOTE, x=0.99, ha="right", fontsize=8, color=GREY)
    try:
        figure.savefig(target, dpi=150, format=None if isinstance(target, str) else "svg")
    except (OSError, ValueError) as error:
        raise InvalidValue(f"plot: {error}; give a file such as replay.png") from error
    finally:
        plt.close(figure)


def _shown(row: ReplayRow) -> list[tuple[str, ReplayBaseline]]:
    words: dict[Beside, str] = {"token_matched": "as many tokens", "against": "asked for"}
    return [(words[name], base) for name, base in row.beside.items() if name in words]


def _scatter(axis: Any, rows: Sequence[ReplayRow], curve: Sequence[CurvePoint], cost: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    arms: list[ReplayRow | CurvePoint] = [*rows, *curve]
    points = [(getattr(one, cost), 100 * one.accuracy) for one in arms]
    if curve:
        line = [(getattr(one, cost), 100 * one.accuracy) for one in curve]
        axis.plot(*zip(*line, strict=True), color=GREY, lw=1.4, zorder=1)
        powers = [at for one, at in zip(curve, line, strict=True) if one.n & (one.n - 1) == 0]
        axis.plot(*zip(*powers, strict=True), "|", color=GREY, ms=7, zorder=1)
        axis.annotate(
            f"self-consistency, n=1–{curve[-1].n}",
            line[0],
            xytext=(-2, 8),
            textcoords="offset points",
            fontsize=8,
            color=GREY,
        )
    labels = []
    for number, row in enumerate(rows):
        x, y = getattr(row, cost), 100 * row.accuracy
        best = not any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)
        low, high = (100 * end for end in row.ci95)
        axis.errorbar(
            x,
            y,
            yerr=[[max(0, y - low)], [max(0, high - y)]],
            fmt="o",
            color=f"C{number}",
            mfc=f"C{number}" if best else "white",
            ms=6,
            lw=1,
            elinewidth=0.8,
            zorder=2,
        )
        labels.append((y, x, _cut(row.policy, 30), f"C{number}"))
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(x=0.25)
    axis.grid(alpha=0.25, lw=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    _name(axis, labels)


def _name(axis: Any, labels: list[tuple[float, float, str, str]]) -> None:
    """Write names beside points, from below upwards, none over another or over the border."""
    from matplotlib.patheffects import withStroke

    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    step, floor = (high - low) * 0.045, float("-inf")
    for y, x, name, colour in sorted(labels):
        floor = at = max(y, floor + step)
        before = x > (left * right) ** 0.5  # on a logarithmic axis: in the right half
        axis.annotate(
            name,
            (x, y),
            xytext=(-7 if before else 7, (at - y) / (high - low) * 260 - 3),
            textcoords="offset points",
            ha="right" if before else "left",
            fontsize=8,
            color=colour,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def _cut(name: str, most: int) -> str:
    """A name of at most so many characters: its beginning, and its end."""
    return name if len(name) <= most else f"{name[: most - 11]}…{name[-10:]}"


def _short(value: float) -> str:
    for unit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g} {sign}"
    return f"{value:g}"


def _forest(axis: Any, gains: Sequence[tuple[ReplayRow, str, str, ReplayBaseline]]) -> None:
    """Gains, each in its arm's colour."""
    names: list[str] = []
    for place, (row, colour, name, base) in enumerate(gains):
        low, high = (100 * end for end in base.gain_ci95)
        axis.plot([low, high], [place, place], color=colour, lw=2)
        axis.plot(100 * base.gain, place, "o", color=colour, ms=5)
        names.append(f"{_cut(row.policy, 40)} − {_cut(base.policy, 30)} ({name})")
    axis.axvline(0, color=INK, lw=0.8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.margins(y=0.5 / len(names))
    axis.set_title("gain in points of accuracy, paired by question, 95 %", loc="left", fontsize=9)
    axis.grid(axis="x", alpha=0.25, lw=0.5)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(labelsize=8)
