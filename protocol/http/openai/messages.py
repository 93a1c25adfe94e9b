"""The messages of OpenAI's interfaces, and the turns that they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from protocol.http.contract.conversation import ConversationTurn, FunctionCall, TurnRole
from protocol.http.errors import Refusal


class TextPart(BaseModel):
    """A part of a message that is text."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class RefusalPart(BaseModel):
    """What an assistant said in refusing."""

    type: Literal["refusal"]
    refusal: str


class OtherPart(BaseModel):
    """A part of another kind, which only some models can take."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(min_length=1, max_length=64)


def _part(part: object) -> str:
    kind = part.get("type") if isinstance(part, dict) else getattr(part, "type", None)
    if kind in ("text", "input_text", "output_text"):
        return "as-text"
    return "as-refusal" if kind == "refusal" else "as-other"


def _content(content: object) -> str:
    return "as-text" if isinstance(content, str) else "as-parts"


Part = Annotated[
    Annotated[TextPart, Tag("as-text")]
    | Annotated[RefusalPart, Tag("as-refusal")]
    | Annotated[OtherPart, Tag("as-other")],
    Discriminator(_part),
]
Content = Annotated[
    Annotated[str, Tag("as-text")] | Annotated[list[Part], Tag("as-parts")],
    Discriminator(_content),
]


class CalledFunction(BaseModel):
    """A function that an assistant wanted called, with its arguments as JSON text."""

    name: str
    arguments: str = ""


class CallFields(BaseModel):
    """A call that an assistant wanted."""

    id: str = ""
    function: CalledFunction


class TurnFields(BaseModel):
    """One message; fields that a client repeats from our responses are ignored."""

    model_config = ConfigDict(strict=True)

    role: TurnRole
    content: Content | None = None
    name: str | None = None
    tool_calls: list[CallFields] | None = None
    tool_call_id: str | None = None
    reasoning: Any = None
    reasoning_content: Any = None

    def turn(self, place: str) -> ConversationTurn:
        """The message as a turn."""
        thoughts = self.reasoning_content or self.reasoning
        called = self.tool_calls or ()
        text, parts = read_content(self.content)
        return ConversationTurn(
            self.role,
            text,
            parts=parts,
            thoughts=thoughts if isinstance(thoughts, str) else "",
            calls=tuple(
                FunctionCall(name=one.function.name, arguments=one.function.arguments, id=one.id)
                for one in called
            ),
            call_id=self.tool_call_id,
            name=self.name,
            place=place,
        )


def read_content(
    content: str | Sequence[BaseModel] | None,
) -> tuple[str, tuple[Mapping[str, Any], ...]]:
    """The text of a content, its parts joined; and all of its parts, where some are no text."""
    if content is None or isinstance(content, str):
        return content or "", ()
    texts = [str(getattr(part, "text", "") or getattr(part, "refusal", "")) for part in content]
    whole = "".join(text for text, part in zip(texts, content, strict=True) if is_text(part))
    if all(map(is_text, content)):
        return whole, ()
    return whole, tuple(_as_chat(part, text) for part, text in zip(content, texts, strict=True))


def is_text(part: BaseModel) -> bool:
    """Whether a part of a message is text."""
    return isinstance(part, TextPart | RefusalPart)


def _as_chat(part: BaseModel, text: str) -> Mapping[str, Any]:
    """A part as OpenAI's chat writes it; responses write pictures and files otherwise."""
    if is_text(part):
        return {"type": "text", "text": text}
    told = part.model_dump(exclude_none=True)
    if told["type"] == "input_image":
        detail = {"detail": told["detail"]} if "detail" in told else {}
        return {"type": "image_url", "image_url": {"url": told.get("image_url", ""), **detail}}
    if told["type"] == "input_file":
        return {"type": "file", "file": {k: v for k, v in told.items() if k != "type"}}
    return told


def asked(turns: Iterable[ConversationTurn], field: str) -> tuple[ConversationTurn, ...]:
    """The turns in a list called ``field``, in which somebody asks something.

    Raises:
        Refusal: nobody does.
    """
    found = tuple(turns)
    if any(turn.role != "assistant" for turn in found):
        return found
    name = found[-1].place + ".role" if found else f"{field}[0].role"
    raise Refusal(
        400,
        "invalid_value",
        f"{name}: nobody asks anything; end with a user's question",
        param=name,
    )
