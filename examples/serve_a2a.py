"""Ask an A2A agent, which may be anybody's; by default one that is started in this process.

python examples/serve_a2a.py [URL SKILL]
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

import anyio

from protocol.a2a.remote_agent import RemoteAgent
from protocol.http import BranchEvent, BranchText, ReasoningRequest
from reasoning import load_model
from reasoning.serving import background


def show(event: BranchEvent) -> None:
    if isinstance(event, BranchText):
        print(f"[{event.branch}] {event.text.strip()}")


async def main(url: str, skill: str) -> None:
    async with RemoteAgent(url) as agent:
        print("skills:", ", ".join(variant.id for variant in agent.variants))
        request = ReasoningRequest.ask(skill, "Use 3, 10, 21 and 23 to make 50")
        result = await agent.answer(request, show)
        print(f"answer: {result.text}, verified: {result.verified}, work: {result.work_tokens}")


if __name__ == "__main__":
    with ExitStack() as stack:
        if len(sys.argv) == 3 and sys.argv[1].startswith("http"):
            anyio.run(main, *sys.argv[1:])
        else:
            url = stack.enter_context(background(load_model(), a2a=True))
            anyio.run(main, url, "reason-5m/apr")
