"""Ask `reason serve` by OpenAI's own client: thoughts stream as reasoning, the answer as content.

python examples/serve_openai.py [URL]    # without one, a server is started in this process
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

import openai

from reasoning import load_model
from reasoning.serving import background

QUESTION = "Use 3, 10, 21 and 23 to make 50"


def main(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        print("models:", ", ".join(model.id for model in client.models.list()))
        stream = client.chat.completions.create(
            model="reason-5m/apr",
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            stream_options={"include_usage": True},
        )
        for chunk in stream:
            for choice in chunk.choices:
                print((choice.delta.model_extra or {}).get("reasoning", ""), end="", flush=True)
                if choice.delta.content:
                    print(f"\n\nanswer: {choice.delta.content}")
            if chunk.usage:
                print(f"tokens of all branches: {chunk.usage.total_tokens}")


if __name__ == "__main__":
    with ExitStack() as stack:
        given = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1].startswith("http") else None
        main(given or stack.enter_context(background(load_model())))
