"""What the programs that people use do with a server of ours, each by its own interface."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import anthropic
import httpx
import instructor
import litellm
import openai
import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.conftest import Endpoint

HELLO: Any = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello! Who are you?"},
]
SAID = "You said: Hello! Who are you? The system says: Be brief."
MOST = int(os.environ.get("REASON_TEST_TOKENS", "60"))
"""Tokens of an answer."""


class Person(BaseModel):
    """A person, short enough for a model that does not end a text by itself."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)


TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
        },
    },
}
CERTAIN = 0
"""A temperature: by chance a model may write spaces within a call until its tokens are used up."""
FORCED: Any = {"type": "function", "function": {"name": "weather"}}


def check(endpoint: Endpoint, text: str | None, said: str = SAID) -> None:
    """Check that something was said; what, where that is known."""
    assert text
    if endpoint.scripted:
        assert text == said


def needs_a_server(endpoint: Endpoint) -> None:
    """Skip what nothing holds a model in the server's own process to."""
    if endpoint.behind == "embedded":
        pytest.skip("nothing holds the model to a form or a tool")


def client(endpoint: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(base_url=endpoint.base_url, api_key="none", max_retries=0)


# ---- openai --------------------------------------------------------------------------------------


@pytest.mark.feature("openai", "text")
def test_openai_chats(endpoint: Endpoint) -> None:
    done = client(endpoint).chat.completions.create(
        model=endpoint.model, messages=HELLO, max_tokens=MOST
    )
    check(endpoint, done.choices[0].message.content)
    assert done.usage
    assert done.usage.total_tokens > 0


@pytest.mark.feature("openai", "stream")
def test_openai_streams(endpoint: Endpoint) -> None:
    with client(endpoint).chat.completions.stream(
        model=endpoint.model, messages=HELLO, max_tokens=MOST
    ) as stream:
        said = "".join(event.delta for event in stream if event.type == "content.delta")
    check(endpoint, said)


@pytest.mark.feature("openai", "responses")
def test_openai_asks_for_responses(endpoint: Endpoint) -> None:
    responses = client(endpoint).responses
    first = responses.create(
        model=endpoint.model,
        instructions="Be brief.",
        input="Hello! Who are you?",
        max_output_tokens=MOST,
    )
    check(endpoint, first.output_text)
    with responses.stream(
        model=endpoint.model,
        input="And now?",
        previous_response_id=first.id,
        max_output_tokens=MOST,
    ) as stream:
        said = [event.delta for event in stream if event.type == "response.output_text.delta"]
    check(endpoint, "".join(said), "You said: And now?")


@pytest.mark.feature("openai", "structured")
def test_openai_parses(endpoint: Endpoint) -> None:
    needs_a_server(endpoint)
    chat = client(endpoint).chat.completions.parse(
        model=endpoint.model, messages=HELLO, response_format=Person, max_tokens=200
    )
    assert isinstance(chat.choices[0].message.parsed, Person)
    response = client(endpoint).responses.parse(
        model=endpoint.model, input=HELLO, text_format=Person, max_output_tokens=200
    )
    assert isinstance(response.output_parsed, Person)


@pytest.mark.feature("openai", "tools")
def test_openai_calls_tools(endpoint: Endpoint) -> None:
    needs_a_server(endpoint)
    messages = list(HELLO)
    done = client(endpoint).chat.completions.create(
        model=endpoint.model,
        messages=messages,
        tools=[TOOL],
        tool_choice=FORCED,
        max_tokens=200,
        temperature=CERTAIN,
    )
    message = done.choices[0].message
    assert message.tool_calls
    (call,) = message.tool_calls
    assert call.type == "function"
    assert "city" in json.loads(call.function.arguments)
    messages.append(message.model_dump(exclude_none=True))
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    done = client(endpoint).chat.completions.create(
        model=endpoint.model, messages=messages, max_tokens=MOST
    )
    check(endpoint, done.choices[0].message.content, "It is sunny.")


# ---- anthropic -----------------------------------------------------------------------------------


@pytest.mark.feature("anthropic", "text")
def test_anthropic_chats(endpoint: Endpoint) -> None:
    asking = anthropic.Anthropic(base_url=endpoint.url, api_key="none", max_retries=0)
    done = asking.messages.create(
        model=endpoint.model, max_tokens=MOST, system="Be brief.", messages=HELLO[1:]
    )
    check(endpoint, "".join(block.text for block in done.content if block.type == "text"))


@pytest.mark.feature("anthropic", "stream")
def test_anthropic_streams(endpoint: Endpoint) -> None:
    asking = anthropic.Anthropic(base_url=endpoint.url, api_key="none", max_retries=0)
    with asking.messages.stream(
        model=endpoint.model, max_tokens=MOST, system="Be brief.", messages=HELLO[1:]
    ) as stream:
        check(endpoint, "".join(stream.text_stream))


# ---- litellm -------------------------------------------------------------------------------------


def by_litellm(endpoint: Endpoint, **more: Any) -> Any:
    return litellm.completion(
        model=f"openai/{endpoint.model}",
        api_base=endpoint.base_url,
        api_key="none",
        messages=HELLO,
        **{"max_tokens": MOST, **more},
    )


@pytest.mark.feature("litellm", "text")
def test_litellm_chats(endpoint: Endpoint) -> None:
    check(endpoint, by_litellm(endpoint).choices[0].message.content)


@pytest.mark.feature("litellm", "stream")
def test_litellm_streams(endpoint: Endpoint) -> None:
    chunks = by_litellm(endpoint, stream=True)
    check(endpoint, "".join(chunk.choices[0].delta.content or "" for chunk in chunks))


@pytest.mark.feature("litellm", "structured")
def test_litellm_asks_for_a_form(endpoint: Endpoint) -> None:
    needs_a_server(endpoint)
    done = by_litellm(endpoint, response_format=Person, max_tokens=200)
    assert Person.model_validate_json(done.choices[0].message.content)


@pytest.mark.feature("litellm", "tools")
def test_litellm_calls_tools(endpoint: Endpoint) -> None:
    needs_a_server(endpoint)
    asked = {"tools": [TOOL], "tool_choice": FORCED, "max_tokens": 200, "temperature": CERTAIN}
    done = by_litellm(endpoint, **asked)
    assert done.choices[0].message.tool_calls[0].function.name == "weather"


# ---- langchain -----------------------------------------------------------------------------------


def langchain(endpoint: Endpoint, most: int = MOST) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=endpoint.base_url,
        api_key="none",
        model=endpoint.model,
        max_tokens=most,
        max_retries=0,
        temperature=CERTAIN,
    )


TALK = [("system", "Be brief."), ("user", "Hello! Who are you?")]


@pytest.mark.feature("langchain-openai", "text")
def test_langchain_invokes(endpoint: Endpoint) -> None:
    check(endpoint, str(langchain(endpoint).invoke(TALK).content))


@pytest.mark.feature("langchain-openai", "stream")
def test_langchain_streams(endpoint: Endpoint) -> None:
    check(endpoint, "".join(str(chunk.content) for chunk in langchain(endpoint).stream(TALK)))


@pytest.mark.feature("langchain-openai", "structured")
def test_langchain_asks_for_a_form(endpoint: Endpoint) -> None:
    needs_a_server(endpoint)
    found = langchain(endpoint, 200).with_structured_output(Person).invoke(TALK)
    assert isinstance(found, Person)


@pytest.mark.feature("langchain-openai", "tools")
def test_langchain_binds_tools(endpoint: Endpoint) -> None:
    needs_a_server(endpoint)

    @tool
    def weather(city: Annotated[str, Field(max_length=20)]) -> str:
        """The weather in a city."""
        return "sunny"

    bound = langchain(endpoint, 200).bind_tools([weather], tool_choice="weather")
    (call,) = bound.invoke(TALK).tool_calls
    assert call["name"] == "weather"
    assert "city" in call["args"]


# ---- pydantic-ai ---------------------------------------------------------------------------------


def pydantic_model(endpoint: Endpoint) -> OpenAIChatModel:
    provider = OpenAIProvider(base_url=endpoint.base_url, api_key="none")
    return OpenAIChatModel(endpoint.model, provider=provider)


@pytest.mark.feature("pydantic-ai-slim", "text")
def test_pydantic_ai_answers(endpoint: Endpoint) -> None:
    agent = Agent(pydantic_model(endpoint), system_prompt="Be brief.")
    settings: Any = {"max_tokens": MOST}
    done = agent.run_sync("Hello! Who are you?", model_settings=settings)
    check(endpoint, done.output)


@pytest.mark.feature("pydantic-ai-slim", "stream")
def test_pydantic_ai_streams(endpoint: Endpoint) -> None:
    agent = Agent(pydantic_model(endpoint), system_prompt="Be brief.")
    settings: Any = {"max_tokens": MOST}

    async def main() -> str:
        async with agent.run_stream("Hello! Who are you?", model_settings=settings) as stream:
            return str(await stream.get_output())

    check(endpoint, asyncio.run(main()))


@pytest.mark.feature("pydantic-ai-slim", "structured")
def test_pydantic_ai_gives_a_number(endpoint: Endpoint) -> None:
    needs_a_server(endpoint)
    settings: Any = {"max_tokens": 200}
    agent = Agent(pydantic_model(endpoint), output_type=int, model_settings=settings)
    done = agent.run_sync("How old is Ada?")
    assert isinstance(done.output, int)


@pytest.mark.feature("pydantic-ai-slim", "tools")
def test_pydantic_ai_uses_tools(endpoint: Endpoint) -> None:
    if not endpoint.scripted:
        pytest.skip("whether a small model calls a tool is its own choice")
    agent = Agent(pydantic_model(endpoint))
    asked = []

    @agent.tool_plain
    def weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "sunny"

    done = agent.run_sync("Weather?")
    assert (done.output, asked) == ("It is sunny.", ["Paris"])


# ---- instructor ----------------------------------------------------------------------------------


@pytest.mark.feature("instructor", "structured")
@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_instructor_gives_a_person(endpoint: Endpoint, mode: str) -> None:
    needs_a_server(endpoint)
    asking = instructor.from_openai(client(endpoint), mode=getattr(instructor.Mode, mode))
    found = asking.chat.completions.create(
        model=endpoint.model,
        messages=HELLO,
        response_model=Person,
        max_tokens=200,
        max_retries=0,
        temperature=CERTAIN,
    )
    assert isinstance(found, Person)


# ---- llm -----------------------------------------------------------------------------------------


def by_llm(endpoint: Endpoint, folder: Path, *options: str) -> str:
    """What ``llm`` prints for our model, of which its file of models tells."""
    about = f"- model_id: ours\n  model_name: {endpoint.model}\n  api_base: {endpoint.base_url}\n"
    (folder / "extra-openai-models.yaml").write_text(about)
    command = [str(Path(sys.executable).with_name("llm")), "-m", "ours", "-s", "Be brief."]
    done = subprocess.run(
        [*command, "-o", "max_tokens", str(MOST), *options, "Hello! Who are you?"],
        env={**os.environ, "LLM_USER_PATH": str(folder), "OPENAI_API_KEY": "none"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.feature("llm", "text")
def test_llm_answers(endpoint: Endpoint, tmp_path: Path) -> None:
    check(endpoint, by_llm(endpoint, tmp_path, "--no-stream"))


@pytest.mark.feature("llm", "stream")
def test_llm_streams(endpoint: Endpoint, tmp_path: Path) -> None:
    check(endpoint, by_llm(endpoint, tmp_path))


# ---- request shapes of programs that are not Python ----------------------------------------------


SHAPES = Path(__file__).with_name("shapes")


@pytest.mark.parametrize("shape", sorted(SHAPES.glob("*.json")), ids=lambda path: path.stem)
def test_the_requests_of_chat_programs_are_answered(endpoint: Endpoint, shape: Path) -> None:
    body = json.loads(shape.read_text()) | {"model": endpoint.model}
    most = MOST
    if "response_format" in body:
        needs_a_server(endpoint)
        most = 200
    body["max_tokens"] = min(most, body.get("max_tokens", most))
    done = httpx.post(f"{endpoint.base_url}/chat/completions", json=body, timeout=120)
    assert done.status_code == 200, done.text
    if body.get("stream"):
        assert done.text.rstrip().endswith("data: [DONE]")
    else:
        assert done.json()["choices"][0]["message"]["content"]
