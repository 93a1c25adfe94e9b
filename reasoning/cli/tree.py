"""The live tree of threads on stderr."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from orchestrator import Event, TaskAdded, TaskEnded, TaskStarted, TaskState
from pruning import Finish
from reasoning.cli.printing import visible
from reasoning.language import markup
from reasoning.run.driver import PolicyDecided
from reasoning.run.thread import TextGenerated, ThreadConcluded

MARKS: dict[TaskState, tuple[str, str]] = {
    "waiting": ("·", "dim"),
    "ready": ("·", "dim"),
    "running": ("▶", "cyan"),
    "succeeded": ("✓", "green"),
    "failed": ("✗", "red"),
    "skipped": ("–", "dim"),
    "cancelled": ("■", "yellow"),
}


@dataclass
class _Row:
    depth: int
    name: str
    state: TaskState = "waiting"
    tokens: int = 0
    tail: str = ""
    why: str = ""
    concluded: bool = False
    answer: str | None = None
    vote: str | None = None
    children: list[str] = field(default_factory=list)


class ThreadTree:
    """Shows threads while they run on a terminal, and once at the end anywhere else."""

    def __init__(
        self, *, quiet: bool, unbounded: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``unbounded`` is how long a thread may become where nobody has bounded it.

        This is said once no thread has ended for `SLOW_S`.
        """
        self._unbounded = unbounded
        self._clock = clock
        self._began: float | None = None
        self._slow = False
        self._rows: dict[str, _Row] = {}
        self._roots: list[str] = []
        self._quiet = quiet
        self._policy = ""
        self._console = Console(stderr=True, highlight=False)
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal:
            self._live = Live(
                get_renderable=self._render,
                console=self._console,
                refresh_per_second=12,
                transient=True,
                vertical_overflow="crop",
            )
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()

    def print(self) -> None:
        """Print the whole tree as it ended."""
        if not self._quiet and self._rows:
            self._console.print(self._render(everything=True), soft_wrap=True)
            sys.stderr.flush()

    def listen(self, event: Event) -> None:
        """Take one event of the run."""
        match event:
            case TaskAdded():
                depth = event.task.count(".")
                self._rows[event.task] = _Row(depth, event.name)
                siblings = self._rows[event.parent].children if event.parent else self._roots
                siblings.append(event.task)
            case TaskStarted():
                self._rows[event.task].state = "running"
            case TextGenerated():
                row = self._rows[event.task]
                row.tokens += 1
                row.tail = (row.tail + event.text)[-400:]
                if self._unbounded and not self._slow:
                    self._watch()
            case TaskEnded():
                self._rows[event.task].state = event.state
            case ThreadConcluded():
                self._unbounded = 0
                self._concluded(event)
            case PolicyDecided():
                self._decided(event)

    def _watch(self) -> None:
        """Say once, where nothing is shown meanwhile, that threads take long to end."""
        now = self._clock()
        self._began = now if self._began is None else self._began
        self._slow = now - self._began >= SLOW_S
        if self._slow and self._live is None and not self._quiet:
            self._console.print(self._slowness(), soft_wrap=True)

    def _slowness(self) -> str:
        tokens = sum(row.tokens for row in self._rows.values())
        rate = tokens / max(self._clock() - (self._began or 0.0), 1e-9)
        return (
            f"no thread has ended yet; {tokens:,} tokens, {rate:,.0f} a second. Each may have "
            f"{self._unbounded:,} with its prompt; --max-new-tokens or --timeout bounds them, "
            "Ctrl-C shows what there is"
        )

    def _decided(self, event: PolicyDecided) -> None:
        """Show why, at the trace concerned, and of the run the last decision."""
        decision = event.decided.decision
        word = type(decision).__name__.lower()
        if event.task:
            self._rows[event.task].why = f"{word}: {decision.reason}"
            return
        self._policy = f"{event.policy} at {event.clock:,}: {word}: {decision.reason}"
        for row in self._rows.values():
            if isinstance(decision, Finish) and row.state == "running" and not row.concluded:
                row.why = row.why or "stopped: the run has finished"

    def _concluded(self, event: ThreadConcluded) -> None:
        """Show what a thread answered, and why it wrote no more where it did not just end."""
        row = self._rows[event.task]
        row.concluded, row.answer, row.vote = True, event.answer, event.vote
        row.why = row.why or WORDS.get(event.ending, "")

    def _render(self, *, everything: bool = False) -> Group:
        """All rows, or on a small screen those that still run before those that have ended."""
        width = 1000 if everything and not self._console.is_terminal else self._console.width
        shown = self._ordered(self._roots)
        room = max(4, self._console.height - 3)
        hidden = 0 if everything else len(shown) - room
        if hidden > 0:
            running = {id for id in shown if self._rows[id].state == "running"}
            kept = {*sorted(shown, key=lambda id: id not in running)[:room]}
            shown = [id for id in shown if id in kept]
        lines = [line for id in shown for line in self._lines(id, width, wraps=everything)]
        if hidden > 0:
            lines.append(Text(f"… {hidden} more threads", style="dim"))
        lines += self._votes(width)
        if self._slow and self._unbounded and not everything:
            lines.append(_cut(Text(self._slowness(), style="dim"), width))
        if self._policy:
            policy = Text(visible(self._policy), style="magenta")
            lines += policy.wrap(self._console, width - 1) if everything else [_cut(policy, width)]
        return Group(*lines)

    def _ordered(self, ids: list[str]) -> list[str]:
        return [one for id in ids for one in (id, *self._ordered(self._rows[id].children))]

    def _votes(self, width: int) -> list[Text]:
        """How the votes stand, where there are several threads to vote."""
        rows = [self._rows[id] for id in self._roots]
        counts = Counter(row.vote for row in rows if row.vote is not None)
        if len(rows) < 2 or not counts:
            return []
        names = {row.vote: row.answer or "" for row in reversed(rows)}
        said = [f"{_short(names[vote])} ×{count}" for vote, count in counts.most_common(5)]
        rest = sum(not row.concluded and row.state == "running" for row in rows)
        running = [f"{rest} running"] if rest else []
        return [_cut(Text(f"votes: {visible(' · '.join([*said, *running]))}"), width)]

    def _lines(self, id: str, width: int, *, wraps: bool) -> list[Text]:
        """A row in one line; where it ``wraps``, what has no room stands below."""
        row = self._rows[id]
        mark, style = MARKS[row.state]
        indent = "  " * min(row.depth, width // 8)
        head = Text(indent)
        head.append(f"{mark} {id}", style=style)
        head.append(f"  {visible(row.name)}  ", style="bold" if row.depth == 0 else "")
        head.append(f"{row.tokens} tokens  ", style="dim")
        result = Text()
        if row.why:
            result.append(f"{visible(row.why)}  ", style="magenta")
        result.append(visible(_tail(row)), style="" if row.answer else "dim")
        if not wraps or head.cell_len + result.cell_len < width:
            return [_cut(head.append_text(result), width)]
        inner = f"{indent}    "
        below = result.wrap(self._console, max(8, width - 1 - len(inner)))[:MOST_LINES]
        return [_cut(head, width), *(Text(inner).append_text(line) for line in below)]


WORDS = {
    "stop-text": "met a stop text",
    "max-new-tokens": "cut at its most tokens",
    "context": "cut at its context",
    "repeats": "repeats itself",
    "lost": "lost",
    "stopped": "stopped",
}
"""Why a thread wrote no more, where it did not end by itself."""
SLOW_S = 20.0
"""After so many seconds without the end of a thread it is said what may bound them."""
MOST_LINES = 4
"""So many lines below its own a thread may have at the end."""
ENDS = (markup.EOS, markup.PATH_END, markup.THINK_END)


def _cut(line: Text, width: int) -> Text:
    """The line as far as it fits; the last column stays free, where some terminals wrap."""
    line.truncate(max(1, width - 1), overflow="ellipsis")
    return line


def _short(answer: str) -> str:
    """The beginning of an answer, in one line."""
    line = " ".join(answer.split())
    return line if len(line) <= 32 else f"{line[:31]}…"


def _tail(row: _Row) -> str:
    """The conclusion of a thread that has one, or what it wrote last."""
    text = " ".join(word for word in row.tail.split() if word not in ENDS)
    _, marker, answer = text.rpartition(markup.ANSWER)
    if marker:
        return f"→ {answer.strip()}"
    if text.endswith(markup.NONE):
        return "no solution"
    if row.answer is not None:
        return f"→ {' '.join(row.answer.split())[:400]}"
    return f"no answer: …{text[-50:]}" if row.concluded else text[-60:]
