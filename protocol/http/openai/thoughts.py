"""Which text of which branch is shown when: one at a time, and the chosen one's as the answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from protocol.http.contract.results import ReasoningResult
from protocol.http.service import BranchChosen, BranchClosed, BranchEvent, BranchText

PATIENCE_S = 0.05
"""How long the branch that is shown may be silent while others have something to show."""

Shown = Literal["all", "chosen", "none"]


class LabelledText(NamedTuple):
    """A piece of one branch's text; ``label`` is set where the reader must be told whose it is."""

    branch: str
    text: str
    label: bool


class BranchFocus:
    """Shows one branch at a time.

    It is shown as it writes; the text of the others waits until it ends or is silent for
    `PATIENCE_S`, as while its children write.
    """

    def __init__(self) -> None:
        self._pending: dict[str, str] = {}
        self._ended: set[str] = set()
        self._shown: str | None = None
        self._since = 0.0

    @property
    def waiting(self) -> bool:
        """Whether there is text that is not shown yet."""
        return any(self._pending.values())

    def feed(self, events: Iterable[BranchEvent], now: float) -> Iterator[LabelledText]:
        """Take events at the time ``now`` in seconds, and give what is to be shown."""
        for event in events:
            if isinstance(event, BranchText):
                self._pending[event.branch] = self._pending.get(event.branch, "") + event.text
            elif isinstance(event, BranchClosed):
                self._ended.add(event.branch)
        while self.waiting:
            label = self._shown is None
            if self._shown is None:
                self._shown = next(branch for branch, text in self._pending.items() if text)
            text = self._pending.pop(self._shown, "")
            if text:
                self._since = now
                yield LabelledText(self._shown, text, label)
            if self._shown not in self._ended and now - self._since < PATIENCE_S:
                return
            self._shown = None
        if self._shown in self._ended:
            self._shown = None

    def flush(self) -> Iterator[LabelledText]:
        """What is left, branch by branch."""
        for branch, text in self._pending.items():
            if text:
                yield LabelledText(branch, text, branch != self._shown)
                self._shown = branch
        self._pending.clear()


class Piece(NamedTuple):
    """A piece of a stream: of the answer where ``branch`` is None, else of that branch's thoughts.

    Attributes:
        label: Whether the reader must be told whose thoughts follow.
    """

    branch: str | None
    text: str
    label: bool = False


class Narrator:
    """Tells a run as a reader follows it: thoughts first, and then what the chosen branch says.

    As long as nothing is chosen, all that branches write are thoughts.  What the chosen one has
    said is told once more, as the answer, when it is chosen, and what others think is then left.
    """

    def __init__(self, shown: Shown, *, interleave: bool = False) -> None:
        """``interleave`` shows thoughts in the order of writing, not one branch at a time."""
        self._shown = shown
        self._interleave = interleave
        self._focus = BranchFocus()
        self._chosen: str | None = None
        self._branches: set[str] = set()
        self._thought: dict[str, str] = {}
        self._said: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._told = ""

    @property
    def waiting(self) -> bool:
        """Whether thoughts are held back that may be told without another event."""
        return self._focus.waiting

    def feed(self, events: Iterable[BranchEvent], now: float) -> Iterator[Piece]:
        """Take events at the time ``now`` in seconds, and give what is to be told."""
        thoughts: list[BranchEvent] = []
        answer = ""
        for event in events:
            if isinstance(event, BranchChosen) and self._chosen is None:
                self._chosen = event.branch
                answer += self._said.get(event.branch, "")
                if self._shown == "chosen":
                    thoughts.append(self._text(event.branch, self._thought.get(event.branch, "")))
            elif isinstance(event, BranchText):
                self._keep(event)
                if event.said and event.branch == self._chosen:
                    answer += event.text
                elif self._is_shown(event.branch):
                    thoughts.append(event)
            else:
                thoughts.append(event)
        yield from self._thoughts(thoughts, now, last=bool(answer or self._told))
        if answer:
            self._told += answer
            yield Piece(None, answer)

    def end(self, result: ReasoningResult) -> Iterator[Piece]:
        """What is left when the run has ended."""
        best = result.best
        if self._chosen is None:
            held = self._shown == "chosen" and bool(best.thoughts)
            yield from [Piece(best.branch, best.thoughts)] if held else []
        yield from map(self._piece, self._focus.flush())
        rest = best.text.removeprefix(self._told)
        if rest and (not self._told or len(rest) < len(best.text)):
            yield Piece(None, rest)

    def thoughts(self, result: ReasoningResult) -> str:
        """All thoughts of a run that has ended, as one text."""
        if self._shown != "all":
            return result.best.thoughts if self._shown == "chosen" else ""
        if self._chosen is not None and len(self._texts) < 2:
            return self._thought.get(self._chosen, "")
        return "\n\n".join(f"[{branch}] {text}" for branch, text in self._texts.items())

    def _keep(self, event: BranchText) -> None:
        kept = self._said if event.said else self._thought
        for texts in (kept, self._texts):
            texts[event.branch] = texts.get(event.branch, "") + event.text

    def _is_shown(self, branch: str) -> bool:
        if self._shown == "none" or (self._shown == "chosen" and self._chosen is None):
            return False
        return self._chosen in (None, branch)

    def _text(self, branch: str, text: str) -> BranchText:
        return BranchText(branch=branch, text=text, tokens=0)

    def _thoughts(self, events: list[BranchEvent], now: float, *, last: bool) -> Iterator[Piece]:
        if self._interleave:
            texts: dict[str, str] = {}
            for event in events:
                if isinstance(event, BranchText):
                    texts[event.branch] = texts.get(event.branch, "") + event.text
            yield from (Piece(branch, text) for branch, text in texts.items() if text)
            return
        yield from map(self._piece, self._focus.feed(events, now))
        if last:
            yield from map(self._piece, self._focus.flush())

    def _piece(self, thought: LabelledText) -> Piece:
        sole = self._chosen == thought.branch and len(self._texts) < 2
        return Piece(thought.branch, thought.text, thought.label and not sole)
