"""A run's events as a server's: what each branch thinks and says, and when the budget is spent."""

from __future__ import annotations

import anyio

from orchestrator import Event, TaskAdded, TaskEnded
from protocol.http import BranchChosen, BranchClosed, BranchOpened, BranchText
from protocol.http.service import BranchListener
from reasoning.run.thread import TextGenerated
from reasoning.serving.splitting import ThoughtSplitter


class RunObserver:
    """Passes a run's events on, and stops the run when its token budget is spent.

    Attributes:
        stop: Cancelled to stop the run.
        cut: Whether the budget did that.
        spoken: How many tokens of each branch are part of what it says.
    """

    def __init__(
        self, listen: BranchListener, *, budget: int | None, sole: bool, prose: bool, inside: bool
    ) -> None:
        """Observe one run.

        Args:
            listen: Gets the server's events.
            budget: The most tokens that all branches together may write.
            sole: Whether the first branch is the only one, so that its words are the answer.
            prose: Whether branches say something after their thoughts; else all are thoughts.
            inside: Whether the prompt has opened a branch's thoughts.
        """
        self.stop = anyio.CancelScope()
        self.cut = False
        self.spoken: dict[str, int] = {}
        self._left = budget
        self._listen = listen
        self._sole = sole
        self._prose = prose
        self._inside = inside
        self._splitters: dict[str, ThoughtSplitter] = {}

    def observe(self, event: Event) -> None:
        """Take one event of the run."""
        match event:
            case TextGenerated():
                self._text(event.task, event.text)
                self._spend()
            case TaskAdded():
                self._listen(BranchOpened(branch=event.task, name=event.name))
                if self._sole:
                    self._sole = False
                    self._listen(BranchChosen(branch=event.task))
            case TaskEnded():
                splitter = self._splitters.pop(event.task, None)
                if splitter is not None:
                    self._tell(event.task, splitter.end(), 0)
                self._listen(BranchClosed(branch=event.task, state=event.state))

    def _text(self, branch: str, text: str) -> None:
        if not self._prose:
            self._listen(BranchText(branch=branch, text=text))
            return
        splitter = self._splitters.get(branch)
        if splitter is None:
            splitter = self._splitters[branch] = ThoughtSplitter(inside=self._inside)
        self._tell(branch, splitter.feed(text), 1)

    def _tell(self, branch: str, pieces: list[tuple[bool, str]], tokens: int) -> None:
        """Pass on what a token brought, which counts with the last piece of it."""
        last = len(pieces) - 1
        for number, (said, text) in enumerate(pieces):
            count = tokens if number == last else 0
            if said:
                self.spoken[branch] = self.spoken.get(branch, 0) + count
            self._listen(BranchText(branch=branch, text=text, said=said, tokens=count))

    def _spend(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.cut = True
                self.stop.cancel()
