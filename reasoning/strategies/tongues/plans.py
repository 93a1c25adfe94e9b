"""SPRINT: a planner in phases, whose tasks are executed apart and written into its text."""

from __future__ import annotations

import re
from dataclasses import replace

from orchestrator import Task
from reasoning.run.thread import Thread
from reasoning.strategies.tongues.speaker import ForkDenied
from reasoning.strategies.tongues.text_turns import TextSpeaker

STOPS = ("</Execution_", "</Plan_", "</Final_answer>", "</think>", "</execution_")
"""The beginnings of closing tags: the numbers in them are the model's, and often wrong."""
RETRIES = 3
FINAL = "<Final_answer>"
_TASK = re.compile(r"<prompt_[\d.]*>(.*?)(?:</prompt_[\d.]*>|(?=<prompt_)|\Z)", re.S)
_TAG = re.compile(r"</?(?:Plan|prompt|Execution|execution)_[\d.]*>?")


class PlannedTasks(TextSpeaker):
    """SPRINT's loop (arXiv 2506.05745).

    The planner writes a plan of tasks; each is executed by a thread that sees the text so far and
    the plan, its own task first and those before it left out; what they write is put behind the
    plan with numbers of the loop's own, and the planner goes on.  The last phase is the answer.
    """

    def start(self) -> None:
        options = self.options(STOPS, self.format.resume.tokens)
        self.run.spawn(self._plan, self.prompt, name="trunk", options=options)

    async def _plan(self, thread: Thread) -> None:
        done, fresh, phase, failures = "", "", 1, 0  # before this phase, and in it
        while True:
            fresh += (await thread.write()).text
            if FINAL in fresh or thread.stop_text in (None, "</Final_answer>", "</think>"):
                break
            try:
                done += await self._executed(thread, done, fresh, phase)
                fresh, phase = "", phase + 1
            except ForkDenied as denied:
                self.run.refuse_fork(thread.task, str(denied))
                fresh, failures = fresh.rpartition("<Plan_")[0], failures + 1
            last = phase >= (self.format.fork.rounds or 1) or failures > RETRIES
            fresh += FINAL if last else ""
            if not self._goes_on(thread, done + fresh):
                self.skip_join(thread)
                break
        self.tell(thread.task.id, thread.end)
        thread.conclude(text=done + fresh)

    def _goes_on(self, thread: Thread, text: str) -> bool:
        """Let the planner write its next phase, which has a bound of its own."""
        most = self.format.resume.tokens
        if most is not None:
            thread.options = replace(thread.options, most=thread.written + most)
        return self.go_on(thread, text)

    async def _executed(self, thread: Thread, done: str, fresh: str, phase: int) -> str:
        """A phase with its plan renumbered, and what came of the plan's tasks.

        Raises:
            ForkDenied: the plan has no task.
        """
        self.check_rounds(phase - 1)
        before, opened, plan = fresh.rpartition("<Plan_")
        found = [_TAG.sub("", task).strip() for task in _TASK.findall(plan) if opened]
        if not any(found):
            raise ForkDenied("its plan has no tasks", self.format.fork.malformed)
        found = found[: self.permitted(thread.task, len(found))]
        self.run.forked = True
        threads = [
            self._spawn(thread, done + before, found[index:], phase) for index in range(len(found))
        ]
        said = [_TAG.sub("", await task.result()).strip() for task in threads]
        written = "".join(
            f"<execution_{phase}.{k}>\n{one}\n</execution_{phase}.{k}>\n\n"
            for k, one in enumerate(said, start=1)
        )
        block = f"<Execution_{phase}>\n{written}</Execution_{phase}>\n\n"
        return f"{before}{_plan(found, phase)}{block}"

    def _spawn(self, thread: Thread, before: str, tasks: list[str], phase: int) -> Task[str]:
        opening = f"{_plan(tasks, phase)}<Execution_{phase}>\n<execution_{phase}.1>\n"
        context = self.behind(thread, before + opening)
        options = self.options(STOPS, self.format.branch.tokens)
        name = f"task {phase}: {tasks[0][:60]}"
        return self.run.spawn(self._execute, context, name=name, options=options)

    async def _execute(self, thread: Thread) -> str:
        written = await thread.write()
        thread.conclude()
        return written.text


def _plan(tasks: list[str], phase: int) -> str:
    """A plan with numbers of its own."""
    lines = "".join(
        f"<prompt_{phase}.{k}>\n{task}\n</prompt_{phase}.{k}>\n"
        for k, task in enumerate(tasks, start=1)
    )
    return f"<Plan_{phase}>\n{lines}</Plan_{phase}>\n\n"
