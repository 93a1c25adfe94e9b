"""A run as its events tell of it, before there is a record."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from secrets import token_hex
from typing import Any

from orchestrator import Event, TaskAdded, TaskEnded, TaskStarted
from orchestrator.views.page import LaneKind
from orchestrator.views.record import TaskState
from reasoning.run.thread import TextGenerated, ThreadConcluded
from reasoning.runs.live.live_page import LivePage
from reasoning.runs.secrets import hidden_settings, hide

MOST_HELD = 200
"""Characters of a word that are held back until it ends."""
_LAST_SPACE = re.compile(r"\s(?=\S*$)")
_KINDS: dict[TaskState, LaneKind] = {
    "succeeded": "ended",
    "failed": "failed",
    "cancelled": "stopped",
    "skipped": "skipped",
}


class LiveRun(LivePage):
    """The page of a run that is under way, on an axis of seconds.

    Its axis becomes one of tokens when the run has ended: which token waits for which is known
    then.  What a branch writes is shown word by word, so that a secret is hidden as a whole.

    Attributes:
        id: Under which its record is kept.
        began: In seconds since 1970.
    """

    def __init__(
        self, *, question: str, command: str, model: str, settings: Mapping[str, Any]
    ) -> None:
        self.id = token_hex(4)
        self.began = time.time()
        _, self._secrets = hidden_settings(settings)
        self._held: dict[str, str] = {}
        self._tokens: dict[str, int] = {}
        self._paused: set[str] = set()
        question = hide(question, self._secrets)
        super().__init__(
            {
                "title": f"{question} – run {self.id}",
                "about": hide(f"run {self.id} · reason {command} · {model}", self._secrets),
                "heading": question,
                "outcomes": [
                    {"name": "", "answer": None, "verdict": "No answer yet", "winner": None}
                ],
                "answers": [],
                "facts": [],
                "notes": [],
                "called": "branches",
                "unit": "seconds",
                "lanes": [],
            }
        )

    def observe(self, event: Event) -> None:
        """Take one event of the run."""
        match event:
            case TextGenerated(task=id, text=text):
                self._wrote(id, text, event.time)
            case TaskAdded(task=id, name=name, parent=parent):
                self._opened(id, name, parent)
            case TaskStarted(task=id):
                self._is(id, "running", "it runs")
            case ThreadConcluded(task=id, answer=answer, vote=vote):
                self._answered(id, answer, vote)
            case TaskEnded(task=id, state=state, error=error):
                self._flush(id, len(self._held.get(id, "")))
                why = f": {hide(error, self._secrets)}" if error else ""
                self._is(id, _KINDS.get(state, "stopped"), f"{state}{why}")

    def fail(self, why: str) -> None:
        """The run has failed; the page stays as it is, and says why."""
        page = self.whole()
        verdict = f"The run failed: {hide(why, self._secrets)}"
        page["outcomes"] = [{"name": "", "answer": None, "verdict": verdict, "winner": None}]
        self.end(page)

    def _opened(self, id: str, name: str, parent: str | None) -> None:
        if parent is not None:
            self._paused.add(parent)
        name = hide(name, self._secrets)
        self.add(
            {"id": id, "parent": parent, "name": name, "kind": "waiting", "why": "it has not begun"}
        )

    def _is(self, id: str, kind: LaneKind, why: str) -> None:
        lane = self.lane(id)
        if lane is not None:
            lane["kind"], lane["why"] = kind, why
            self.touch(id)

    def _answered(self, id: str, answer: str | None, vote: str | None) -> None:
        lane = self.lane(id)
        if lane is not None and answer is not None:
            lane["answer"] = hide(answer, self._secrets)
            lane["vote"] = None if vote is None else hide(vote, self._secrets)
            self.touch(id)

    def _wrote(self, id: str, text: str, when: float) -> None:
        lane = self.lane(id)
        if lane is None:
            return
        at = max(0.0, round(when - self.began, 3))
        stretches = list(lane.get("stretches", ()))
        if not stretches or id in self._paused:
            self._paused.discard(id)
            stretches.append((at, at))
        stretches[-1] = (stretches[-1][0], at)
        lane["stretches"] = stretches
        lane["size"] = sum(end - begin for begin, end in stretches)
        self._tokens[id] = count = self._tokens.get(id, 0) + 1
        lane["facts"] = [("tokens", count)]
        held = self._held[id] = self._held.get(id, "") + text
        space = _LAST_SPACE.search(held)
        self._flush(id, len(held) if len(held) > MOST_HELD else space.end() if space else 0)

    def _flush(self, id: str, most: int) -> None:
        """Show what is held back, up to there."""
        held = self._held.get(id, "")
        self._held[id] = held[most:]
        if self.lane(id) is not None:
            self.touch(id, hide(held[:most], self._secrets) if most else "")
