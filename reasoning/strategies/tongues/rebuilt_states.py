"""APR's Llama checkpoints: children get a state rebuilt from the parent's lines, and no more."""

from __future__ import annotations

from orchestrator import Task
from reasoning.language.native.node_states import (
    ANSWER,
    CALL,
    NodeState,
    answered,
    asks_for_searches,
    before_call,
    called,
    found_path,
)
from reasoning.run.thread import Thread
from reasoning.strategies.tongues.speaker import MOST_STOPS, ForkDenied
from reasoning.strategies.tongues.text_turns import TextSpeaker


class RebuiltStates(TextSpeaker):
    """Adaptive Parallel Reasoning as its authors run it (Pan et al., arXiv 2504.15466).

    The parent searches until it calls; each call becomes a child that sees its node's state alone
    and forks no further; then the call is replaced by what the children found, and the parent is
    asked again.
    """

    def start(self) -> None:
        self.run.spawn(self._root, self.prompt, name="trunk", options=self.options((ANSWER,)))

    async def _root(self, thread: Thread) -> None:
        state = "".join(map(self.dialect.decoder().feed, self.prompt.tokens))
        trace, rounds, vain = "", 0, 0
        while True:
            written = await thread.write()
            trace += written.text
            if thread.stop_text == ANSWER:  # children answer, not the parent itself
                trace, vain = trace + CALL, vain + 1
                if vain <= MOST_STOPS and self.go_on(thread, trace):
                    continue
                break
            trace = trace.removesuffix("\n")
            if written.reason != "stop" or not asks_for_searches(trace):
                break
            try:
                states = self._permitted(thread, state + trace, rounds)
            except ForkDenied as denied:
                self.run.refuse_fork(thread.task, str(denied))
                break
            rounds += 1
            trace = before_call(trace) + answered(states, await self._searched(thread, states))
            if not self.go_on(thread, trace):
                self.skip_join(thread)
                break
        self.tell(thread.task.id, thread.end)
        thread.conclude(text=state + trace)

    def _permitted(self, thread: Thread, trace: str, rounds: int) -> list[NodeState]:
        self.check_rounds(rounds)
        try:
            states = called(trace)
        except ValueError as error:
            raise ForkDenied(str(error), self.format.fork.malformed) from error
        return states[: self.permitted(thread.task, len(states))]

    async def _searched(self, thread: Thread, states: list[NodeState]) -> list[str | None]:
        """What the children found, in the parent's order."""
        self.run.forked = True
        options = self.options(most=self.format.branch.tokens)
        tasks: list[Task[str | None]] = [
            self.run.spawn(
                self._child,
                self.given(state.prompt),
                state.prompt,
                name=f"node {state.node}",
                options=options,
            )
            for state in states
        ]
        return [await task.result() for task in tasks]

    async def _child(self, thread: Thread, prompt: str) -> str | None:
        written = await thread.write()
        trace = prompt + written.text
        thread.conclude(text=trace)
        return found_path(trace)
