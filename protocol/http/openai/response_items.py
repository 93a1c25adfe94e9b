"""What a request for a response says: its items, its tools, its form, and the turns they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from protocol.http.contract.conversation import ConversationTurn, FunctionCall
from protocol.http.contract.options import Effort, OutputForm, ToolOffer
from protocol.http.openai.common_fields import (
    UNSUPPORTED,
    CommonRequest,
    Count,
    FunctionChoice,
    No,
    Nothing,
    ObjectForm,
    StrictModel,
    TextForm,
    known_tool,
)
from protocol.http.openai.messages import Content, TurnFields, asked, read_content
from protocol.http.service import ReasoningRequest


class MessageItem(TurnFields):
    """A turn of the conversation."""

    type: Literal["message"] = "message"


class ReasoningItem(BaseModel):
    """A thought of an earlier response."""

    type: Literal["reasoning"]
    content: list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        return "".join(str(part.get("text", "")) for part in self.content or ())


class CallItem(BaseModel):
    """A tool that the assistant wanted called."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str = ""


class CallOutputItem(BaseModel):
    """What a tool answered."""

    type: Literal["function_call_output"]
    call_id: str
    output: Content


def _kind(item: object) -> str:
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    known = ("reasoning", "function_call", "function_call_output")
    return f"as-{kind}" if kind in known else "as-message"


def _shape(value: object) -> str:
    return "as-text" if isinstance(value, str) else "as-items"


Item = Annotated[
    Annotated[MessageItem, Tag("as-message")]
    | Annotated[ReasoningItem, Tag("as-reasoning")]
    | Annotated[CallItem, Tag("as-function_call")]
    | Annotated[CallOutputItem, Tag("as-function_call_output")],
    Discriminator(_kind),
]
Items = Annotated[list[Item], Field(min_length=1, max_length=10_000)]


def turns_of(items: Sequence[Item], field: str = "input") -> Iterator[ConversationTurn]:
    """The turns that items are; an assistant's thoughts, words and calls are one turn."""
    open_turn: ConversationTurn | None = None
    for index, item in enumerate(items):
        turn = _turn(item, f"{field}[{index}]")
        if open_turn is None or turn.role != "assistant":
            yield from [open_turn] if open_turn is not None else []
            open_turn = turn
        elif open_turn.role != "assistant" or (open_turn.text and turn.text):
            yield open_turn
            open_turn = turn
        else:
            open_turn = replace(
                open_turn,
                text=open_turn.text + turn.text,
                thoughts=open_turn.thoughts + turn.thoughts,
                calls=open_turn.calls + turn.calls,
            )
    if open_turn is not None:
        yield open_turn


def _turn(item: Item, place: str) -> ConversationTurn:
    match item:
        case ReasoningItem():
            return ConversationTurn("assistant", "", thoughts=item.text, place=place)
        case CallItem():
            call = FunctionCall(name=item.name, arguments=item.arguments, id=item.call_id)
            return ConversationTurn("assistant", "", calls=(call,), place=place)
        case CallOutputItem():
            text, parts = read_content(item.output)
            return ConversationTurn("tool", text, parts=parts, call_id=item.call_id, place=place)
    return item.turn(place)


class ResponseSchemaForm(StrictModel):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    name: str = Field(max_length=256)
    json_schema: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None

    def form(self, field: str) -> OutputForm | None:
        return OutputForm(schema=self.json_schema, field=field)


class TextConfig(StrictModel):
    format: (
        Annotated[TextForm | ObjectForm | ResponseSchemaForm, Field(discriminator="type")] | None
    ) = None
    verbosity: Literal["medium"] | None = None


class ReasoningConfig(StrictModel):
    effort: Effort | None = None
    """How many branches, where neither the name nor x_reason says it."""
    summary: Literal["auto", "concise", "detailed"] | None = None
    """Thoughts are sent as they are, not summed up."""
    generate_summary: None = None


class ResponseStreamOptions(StrictModel):
    include_obfuscation: No = None


class ResponseTool(StrictModel):
    """A function that branches may want called."""

    type: Literal["function"]
    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def as_chat(self) -> dict[str, Any]:
        """The tool as OpenAI's chat writes it."""
        return {
            "type": "function",
            "function": self.model_dump(exclude={"type"}, exclude_none=True),
        }


class ResponseToolChoice(FunctionChoice):
    type: Literal["function"]


class ResponseRequest(CommonRequest):
    """The body of ``POST /v1/responses``."""

    input: Annotated[
        Annotated[str, Tag("as-text")] | Annotated[Items, Tag("as-items")], Discriminator(_shape)
    ]
    """The question, or the items of a conversation."""
    instructions: str | None = None
    """What the model is told before the conversation."""
    max_output_tokens: Count = None
    """The most that one branch may write, thoughts included."""
    stream_options: ResponseStreamOptions | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    tools: list[ResponseTool] | None = Field(default=None, max_length=512)
    tool_choice: Literal["none", "auto", "required"] | ResponseToolChoice | None = None
    previous_response_id: str | None = Field(default=None, max_length=128)
    """A response from which the conversation goes on; the latest are kept."""
    store: bool | None = None
    """Whether the response is kept; it is unless this is false."""
    include: list[Literal["reasoning.encrypted_content"]] | None = None
    """Thoughts are sent in plain text anyway."""
    truncation: Annotated[Literal["disabled"] | None, UNSUPPORTED] = None
    background: No = None
    background_options: Nothing = None
    context_management: Annotated[list[Any] | None, Field(max_length=0), UNSUPPORTED] = None
    conversation: Nothing = None
    prompt: Nothing = None
    max_tool_calls: Nothing = None
    image: Nothing = None
    access_programs: Nothing = None

    @property
    def turns(self) -> tuple[ConversationTurn, ...]:
        """The turns of this request alone."""
        if isinstance(self.input, str):
            return (ConversationTurn("user", self.input, place="input"),)
        return asked(turns_of(self.input), "input")

    @property
    def form(self) -> OutputForm | None:
        """The form of the answer, where one is asked for."""
        format = self.text and self.text.format
        return format.form("text") if format else None

    @property
    def offer(self) -> ToolOffer | None:
        """The tools, where there are any.

        Raises:
            Refusal: the choice is none of them.
        """
        choice = self.tool_choice or "auto"
        named = {"type": "function", "function": {"name": getattr(choice, "name", "")}}
        offer = ToolOffer(
            tools=tuple(tool.as_chat() for tool in self.tools or ()),
            choice=choice if isinstance(choice, str) else named,
            parallel=self.parallel_tool_calls,
        )
        return known_tool(offer) if offer.tools or choice not in ("auto", "none") else None

    def going_on(self, history: Iterable[ConversationTurn]) -> ReasoningRequest:
        """What the service is asked, after what was said before."""
        told = self.instructions
        system = [ConversationTurn("system", told, place="instructions")] if told else []
        return self.asking(
            (*system, *history, *self.turns),
            form=self.form,
            offer=self.offer,
            max_tokens=self.max_output_tokens,
            effort=self.reasoning.effort if self.reasoning else None,
        )

    @property
    def unread(self) -> tuple[str, ...]:
        """The names of what is not read."""
        return ("include",) if self.include else ()

    def request(self) -> tuple[ReasoningRequest, tuple[str, ...]]:
        return self.going_on(()), self.unread
