"""The live tree of threads on stderr."""

from __future__ import annotations

import sys
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
from reasoning.run.thread import TextGenerated

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
    children: list[str] = field(default_factory=list)


class ThreadTree:
    """Shows threads while they run on a terminal, and once at the end anywhere else."""

    def __init__(self, *, quiet: bool) -> None:
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
            case TaskEnded():
                self._rows[event.task].state = event.state
            case PolicyDecided():
                self._decided(event)

    def _decided(self, event: PolicyDecided) -> None:
        """Show why, at the trace concerned, and of the run the last decision."""
        decision = event.decided.decision
        word = type(decision).__name__.lower()
        if event.task:
            self._rows[event.task].why = f"{word}: {decision.reason}"
            return
        self._policy = f"{event.policy} at {event.clock:,}: {word}: {decision.reason}"
        for row in self._rows.values():
            if isinstance(decision, Finish) and row.state == "running" and not row.why:
                row.why = "aborted: the run has finished"

    def _render(self, *, everything: bool = False) -> Group:
        """All rows, or on a small screen those that still run before those that have ended."""
        width = 1000 if everything and not self._console.is_terminal else self._console.width
        shown = self._ordered(self._roots)
        room = max(4, self._console.height - 2)
        hidden = 0 if everything else len(shown) - room
        if hidden > 0:
            running = {id for id in shown if self._rows[id].state == "running"}
            kept = {*sorted(shown, key=lambda id: id not in running)[:room]}
            shown = [id for id in shown if id in kept]
        lines = [self._line(id, width) for id in shown]
        if hidden > 0:
            lines.append(Text(f"… {hidden} more threads", style="dim"))
        if self._policy:
            lines.append(Text(self._policy, style="magenta"))
        return Group(*lines)

    def _ordered(self, ids: list[str]) -> list[str]:
        return [one for id in ids for one in (id, *self._ordered(self._rows[id].children))]

    def _line(self, id: str, width: int) -> Text:
        row = self._rows[id]
        mark, style = MARKS[row.state]
        line = Text("  " * row.depth)
        line.append(f"{mark} {id}", style=style)
        line.append(f"  {visible(row.name)}  ", style="bold" if row.depth == 0 else "")
        line.append(f"{row.tokens} tokens  ", style="dim")
        if row.why:
            line.append(f"{visible(row.why)}  ", style="magenta")
        line.append(visible(_tail(row)), style="dim")
        line.truncate(width - 1, overflow="ellipsis")
        return line


ENDS = (markup.EOS, markup.PATH_END, markup.THINK_END)


def _tail(row: _Row) -> str:
    """The conclusion of a thread that has one, or what it wrote last."""
    text = " ".join(word for word in row.tail.split() if word not in ENDS)
    _, marker, answer = text.rpartition(markup.ANSWER)
    if marker:
        return f"→ {answer.strip()}"
    if text.endswith(markup.NONE):
        return "no solution"
    return text[-60:]
