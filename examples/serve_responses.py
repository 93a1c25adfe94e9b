"""Ask `reason serve` on /v1/responses: one reasoning item per branch, side by side.

python examples/serve_responses.py [URL]    # without one, a server is started in this process
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

import openai

from reasoning import load_model
from reasoning.serving import background


def main(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        response = client.responses.create(
            model="reason-5m/self-consistency:n=4", input="Compute (17*3+5)*4-12"
        )
        for item in response.output:
            if item.type == "reasoning" and item.content:
                print("thought:", item.content[0].text)
        print("answer:", response.output_text)
        print("votes:", (response.model_extra or {})["x_reason"]["votes"])


if __name__ == "__main__":
    with ExitStack() as stack:
        given = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1].startswith("http") else None
        main(given or stack.enter_context(background(load_model())))
