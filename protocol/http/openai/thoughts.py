"""The order in which the thoughts of many branches are streamed, so that people can read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from protocol.http.service import BranchClosed, BranchEvent, BranchText

PATIENCE_S = 0.05
"""How long the branch that is shown may be silent while others have something to show."""


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
