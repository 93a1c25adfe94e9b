"""Stop samples as soon as the vote is settled, see why, and replay the run from its file.

At a terminal: ``reason solve PROBLEM --policy async:k=12,threshold=0.9``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from orchestrator import Event
from pruning import Replay
from reasoning import solve_sync
from reasoning.evaluation import read_traces
from reasoning.policies import parse_policy
from reasoning.run.driver import PolicyDecided
from reasoning.run.report import report

POLICY = "async:k=12,threshold=0.9"


def listen(event: Event) -> None:
    if isinstance(event, PolicyDecided):
        decision = event.decided.decision
        who = f"sample {event.task}" if event.task else "the run"
        print(f"at {event.clock} tokens, {who}: {type(decision).__name__}: {decision.reason}")


problem = "Use 3, 10, 21 and 23 to make 50"
solution = solve_sync(problem, policy=POLICY, temperature=0.5, listener=listen)
steering = solution.steering
assert steering is not None
stopped = sum(thread.state == "cancelled" for thread in solution.threads)
print(f"{solution.answer}: {stopped} of {len(solution.threads)} samples were aborted")
leaked = solution.usage.leaked_tokens
print(f"{steering.tokens} tokens, and {leaked} more after an abort")

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "run.json"
    path.write_text(report(solution).model_dump_json(by_alias=True))
    (question,) = read_traces([str(path)])
    again = Replay(
        policy=parse_policy(POLICY), stored=question.traces, probe_every=question.probe_every
    ).run()
print(f"replayed, it decides the same: {again.log == steering.log}")
