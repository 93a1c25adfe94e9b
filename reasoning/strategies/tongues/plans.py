"""SPRINT: a planner in phases, whose tasks are executed apart and written into its text."""

from __future__ import annotations

import re

from orchestrator import Task
from reasoning.run.run import NO_ROOM
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
        prompt = self.dialect.prompt(self.run.problem)
        phases = (self.format.fork.rounds or 1) + 1
        most = self.bounds.left(0, (self.format.resume.tokens or 1000) * phases)
        self.run.spawn(self._plan, prompt, name="trunk", options=self.options(STOPS, most))

    async def _plan(self, thread: Thread) -> None:
        text, phase, failures = "", 1, 0
        while True:
            written = await thread.write()
            text += written.text
            tasks = _TASK.findall(text.rpartition("<Plan_")[2]) if "<Plan_" in text else []
            ended = thread.stop_text in ("</Final_answer>", "</think>") or FINAL in text
            if ended or thread.stop_text is None:
                break
            try:
                text = await self._executed(thread, text, tasks, phase)
                phase += 1
            except ForkDenied as denied:
                self.run.refuse_fork(thread.task, str(denied))
                text = text.rpartition("<Plan_")[0]
                failures += 1
            last = phase > (self.format.fork.rounds or 1) or failures > RETRIES
            text += FINAL if last else ""
            if not self.go_on(thread, text):
                self.run.skip_join(NO_ROOM)
                break
        self.tell(thread.task.id, thread.end)
        thread.conclude(text=text)

    async def _executed(self, thread: Thread, text: str, tasks: list[str], phase: int) -> str:
        """The text with its last plan renumbered, and what came of its tasks.

        Raises:
            ForkDenied: the plan has no task.
        """
        self.check_rounds(phase - 1)
        found = [_TAG.sub("", task).strip() for task in tasks]
        if not any(found):
            raise ForkDenied("its plan has no tasks", self.format.fork.malformed)
        found = found[: self.permitted(thread, len(found))]
        self.run.forked = True
        before = text.rpartition("<Plan_")[0]
        threads = [self._spawn(thread, before, found[index:], phase) for index in range(len(found))]
        said = [_TAG.sub("", await task.result()).strip() for task in threads]
        done = "".join(
            f"<execution_{phase}.{k}>\n{one}\n</execution_{phase}.{k}>\n\n"
            for k, one in enumerate(said, start=1)
        )
        block = f"<Execution_{phase}>\n{done}</Execution_{phase}>\n\n"
        return f"{before}{_plan(found, phase)}{block}"

    def _spawn(self, thread: Thread, before: str, tasks: list[str], phase: int) -> Task[str]:
        opening = f"{_plan(tasks, phase)}<Execution_{phase}>\n<execution_{phase}.1>\n"
        context = thread.context.then(self.tokens_of(thread.segment, before + opening))
        most = self.bounds.left(thread.chain, self.format.branch.tokens)
        name = f"task {phase}: {tasks[0][:60]}"
        return self.run.spawn(self._execute, context, name=name, options=self.options(STOPS, most))

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
