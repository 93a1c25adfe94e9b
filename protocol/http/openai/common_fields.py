"""What a request may say in both of OpenAI's interfaces, and how it is read.

A field that asks for something this server can't do is refused by its name, unless its value asks
for nothing: many clients send ``n: 1`` or ``presence_penalty: 0`` with everything.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from protocol.http.errors import Refusal, invalid_body
from protocol.http.service import AnswerOptions, ConversationTurn, ReasoningRequest


class Unsupported:
    """Marks a field of which only values that ask for nothing are taken."""


UNSUPPORTED = Unsupported()
One = Annotated[float | None, Field(ge=1, le=1), UNSUPPORTED]
Zero = Annotated[float | None, Field(ge=0, le=0), UNSUPPORTED]
No = Annotated[Literal[False] | None, UNSUPPORTED]
Nothing = Annotated[None, UNSUPPORTED]
EmptyList = Annotated[list[Any] | None, Field(max_length=0), UNSUPPORTED]
EmptyObject = Annotated[dict[str, Any] | None, Field(max_length=0), UNSUPPORTED]
Temperature = Annotated[float | None, Field(ge=0, le=2)]
Label = Annotated[str | None, Field(max_length=512)]
Metadata = Annotated[dict[str, str] | None, Field(max_length=16)]


class StrictModel(BaseModel):
    """Refuses unknown fields and values of another type."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class RunFields(StrictModel):
    """What a request may say of its run, in every interface."""

    n: int | None = Field(default=None, ge=1, le=1024)
    """Branches: samples of self-consistency, or the children that each apr branch may have."""
    context: int | None = Field(default=None, ge=16, le=1 << 24)
    """The context of each branch in tokens, prompt included."""
    timeout: float | None = Field(default=None, gt=0, le=86400)
    """Seconds after which the answer is the best that there is."""


class ReasonFields(RunFields):
    """The field ``x_reason``: what OpenAI's interfaces have no field for."""

    seed: int | None = Field(default=None, ge=-(1 << 63), lt=1 << 63)
    """The same seed gives the same tokens; without one it is 0."""
    interleave: bool = False
    """Whether thoughts come in the order of writing, instead of one branch after the other."""


class CommonRequest(StrictModel):
    """Fields that both interfaces have."""

    model: str = Field(min_length=1, max_length=512)
    """A name from /v1/models; with ``:n=8`` behind it for eight branches."""
    stream: bool | None = None
    temperature: Temperature = None
    metadata: Metadata = None
    user: Label = None
    safety_identifier: Label = None
    prompt_cache_key: Label = None
    parallel_tool_calls: bool | None = None
    top_p: One = None
    top_logprobs: Zero = None
    store: No = None
    tools: EmptyList = None
    tool_choice: Annotated[Literal["none", "auto"] | None, UNSUPPORTED] = None
    service_tier: Annotated[Literal["auto", "default"] | None, UNSUPPORTED] = None
    prompt_cache_retention: Nothing = None
    prompt_cache_options: Nothing = None
    moderation: Nothing = None
    x_reason: ReasonFields = ReasonFields()

    @abstractmethod
    def request(self) -> tuple[ReasoningRequest, tuple[str, ...]]:
        """What the service is asked, and the names of what is not read.

        Raises:
            Refusal: the conversation does not end with the user's turn.
        """

    def asking(
        self, turns: tuple[ConversationTurn, ...], budget: int | None, seed: int | None = None
    ) -> ReasoningRequest:
        """A request with these turns, and what the body says in the fields of both interfaces."""
        extra = self.x_reason
        options = AnswerOptions(
            n=extra.n,
            temperature=self.temperature,
            seed=next((s for s in (seed, extra.seed) if s is not None), 0),
            budget=budget,
            context=extra.context,
            timeout=extra.timeout,
        )
        return ReasoningRequest(variant=self.model, turns=turns, options=options)


class TextFormat(StrictModel):
    type: Literal["text"]


class TextPart(BaseModel):
    """A part of a message; text is the only kind that is understood."""

    type: Literal["text", "input_text", "output_text"]
    text: str


def _kind(content: object) -> str:
    return "as-text" if isinstance(content, str) else "as-parts"


Content = Annotated[
    Annotated[str, Tag("as-text")] | Annotated[list[TextPart], Tag("as-parts")],
    Discriminator(_kind),
]


class TurnFields(BaseModel):
    """One message; fields that a client repeats from our responses are ignored."""

    model_config = ConfigDict(strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Content | None = None

    def turn(self) -> ConversationTurn:
        """The message with its parts of text joined."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return ConversationTurn(self.role, text)


def read_turns(
    messages: Sequence[TurnFields | None], field: str
) -> tuple[tuple[ConversationTurn, ...], tuple[str, ...]]:
    """The turns in a list called ``field``, where None is no turn, and the names of the unread.

    Raises:
        Refusal: the last message is not the user's.
    """
    *earlier, last = messages
    if last is None or last.role != "user":
        name = f"{field}[{len(earlier)}].role"
        whose = "reasoning" if last is None else last.role
        raise Refusal(
            400,
            "invalid_value",
            f"{name}: the last message is the {whose}'s; end with a user's question",
            param=name,
        )
    turns = tuple(message.turn() for message in messages if message is not None)
    return turns, tuple(f"{field}[{index}]" for index in range(len(earlier)))


R = TypeVar("R", bound=CommonRequest)


def parse(kind: type[R], body: bytes) -> R:
    """The request that a body states.

    Raises:
        Refusal: a field is wrong, missing, unknown or unsupported; it names the first.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        name = str((error.errors()[0]["loc"] or ("",))[0])
        field = kind.model_fields.get(name)
        if field is None or UNSUPPORTED not in field.metadata:
            raise invalid_body(error) from error
        raise Refusal(
            400,
            "unsupported_parameter",
            f"{name}: this server can't do what this asks for; leave it out",
            param=name,
        ) from error
