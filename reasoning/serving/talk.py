"""A request's turns, tools and fields as a model or the server behind takes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from orchestrator.errors import InvalidValue
from protocol.http import ConversationTurn, FunctionCall, ReasoningRequest
from protocol.http.errors import UnknownParameter, UnsupportedParameter
from reasoning.models.loaded import LoadedModel
from reasoning.values.conversation import Conversation, Message, MessageRole


def talk_of(request: ReasoningRequest, model: LoadedModel) -> Conversation:
    """The conversation, as a server or a chat template takes it."""
    offer = request.offer
    used = offer is not None and (offer.choice != "none" or is_server(model))
    return Conversation(
        messages=tuple(_message(turn, server=is_server(model)) for turn in request.turns),
        tools=offer.tools if offer is not None and used else (),
        template=request.options.template,
    )


def is_server(model: LoadedModel) -> bool:
    """Whether a server has the model, which takes messages and fields as they stand."""
    return model.samples_itself is not False


def _message(turn: ConversationTurn, *, server: bool) -> Message:
    """A turn as a message; few templates know developers, and few servers a turn's thoughts."""
    role: MessageRole = "system" if turn.role == "developer" and not server else turn.role
    told: dict[str, Any] = {"name": turn.name, "tool_call_id": turn.call_id}
    if turn.calls:
        told["tool_calls"] = [_call(call, server=server) for call in turn.calls]
    if turn.thoughts and (turn.calls or not server):
        told["reasoning_content"] = turn.thoughts
    fields = {name: value for name, value in told.items() if value is not None}
    return Message(role=role, content=turn.parts or turn.text, fields=fields)


def _call(call: FunctionCall, *, server: bool) -> dict[str, Any]:
    """A call as OpenAI's chat writes it; templates want the arguments as an object."""
    arguments: Any = call.arguments
    if not server:
        with suppress(ValueError):
            arguments = json.loads(call.arguments or "{}")
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def check_shipped(request: ReasoningRequest) -> None:
    """Refuse what a shipped model can't do.

    Raises:
        UnsupportedParameter: tools, a form of the answer, or variables of a template.
    """
    asked = [
        ("tools", request.offer is not None and bool(request.offer.tools)),
        ("tool_choice", request.offer is not None),
        (request.form.field if request.form else "", request.form is not None),
        ("chat_template_kwargs", bool(request.options.template)),
    ]
    for name, wanted in asked:
        if wanted:
            raise UnsupportedParameter(
                f"{name}: a shipped model can't do what this asks for; leave it out"
            )


def check_parts(request: ReasoningRequest, model: LoadedModel) -> None:
    """Refuse parts that are no text where there is no server that may take them.

    Raises:
        InvalidValue: there is one; it names the first.
    """
    for turn in () if is_server(model) else request.turns:
        for number, part in enumerate(turn.parts):
            if part["type"] != "text":
                raise InvalidValue(
                    f"{turn.place}.content[{number}].type: {model.name} takes text alone, no "
                    f"{part['type']}; leave it out"
                )


def more_fields(request: ReasoningRequest, model: LoadedModel) -> dict[str, Any]:
    """Fields for a server's request.

    Raises:
        UnknownParameter: there is no server that would take them.
        UnsupportedParameter: there is none that would hold the model to a tool.
    """
    given, offer = dict(request.options.extra), request.offer
    if not is_server(model):
        for name in given:
            raise UnknownParameter(f"{name}: is not a parameter here; leave it out")
        if offer is not None and offer.choice not in ("auto", "none"):
            raise UnsupportedParameter(
                f"tool_choice: nothing holds {model.name} to a tool; give auto"
            )
        return {}
    if offer is not None and offer.tools:
        given["tool_choice"] = offer.choice
        if offer.parallel is not None:
            given["parallel_tool_calls"] = offer.parallel
    return given


def biases(given: Mapping[str, float]) -> dict[int, float]:
    """Biases by the numbers of tokens.

    Raises:
        InvalidValue: one is no number.
    """
    for token in given:
        if not (token.isascii() and token.isdecimal()) or len(token) > 9:
            raise InvalidValue(f"logit_bias: {token[:20]!r} is no token; give its number")
    return {int(token): by for token, by in given.items()}


def unread(request: ReasoningRequest) -> Iterator[str]:
    """What a shipped model, which knows its problems' words alone, does not read."""
    asking = next(turn for turn in reversed(request.turns) if turn.text == request.question)
    for turn in request.turns:
        if turn is not asking:
            yield turn.place
    if request.options.effort is not None:
        yield "reasoning_effort"
