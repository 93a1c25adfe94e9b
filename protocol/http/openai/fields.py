"""What a request may say, shared by both of OpenAI's interfaces.

A field of theirs that asks for what we can't do is refused by its name, unless its value asks for
nothing: many clients send ``n: 1`` or ``presence_penalty: 0`` with everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from protocol.http.errors import Refusal, invalid
from protocol.http.service import Question


class Unsupported:
    """Marks a field of which only values that ask for nothing are taken."""


UNSUPPORTED = Unsupported()
One = Annotated[float | None, Field(ge=1, le=1), UNSUPPORTED]
Zero = Annotated[float | None, Field(ge=0, le=0), UNSUPPORTED]
No = Annotated[Literal[False] | None, UNSUPPORTED]
Nothing = Annotated[None, UNSUPPORTED]
EmptyList = Annotated[list[Any] | None, Field(max_length=0), UNSUPPORTED]
EmptyObject = Annotated[dict[str, Any] | None, Field(max_length=0), UNSUPPORTED]
Label = Annotated[str | None, Field(max_length=512)]
Metadata = Annotated[dict[str, str] | None, Field(max_length=16)]


class Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Extra(Strict):
    """What OpenAI's interface has no field for."""

    seed: int | None = Field(default=None, ge=-(1 << 63), lt=1 << 63)
    """The same seed gives the same tokens; without one it is 0."""
    n: int | None = Field(default=None, ge=1, le=1024)
    """Branches: samples of self-consistency, or the children that each apr branch may have."""
    context: int | None = Field(default=None, ge=16, le=1 << 24)
    """The context of each branch in tokens, prompt included."""
    timeout: float | None = Field(default=None, gt=0, le=86400)
    """Seconds after which the answer is what there is."""
    interleave: bool = False
    """Whether thoughts come in the order of writing, instead of one branch after the other."""


class Shared(Strict):
    """Fields that both interfaces have."""

    model: str = Field(min_length=1, max_length=512)
    """A name from /v1/models; with ``:n=8`` behind it for eight branches."""
    stream: bool | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
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
    x_reason: Extra = Extra()

    def question(self, text: str, budget: int | None, seed: int | None = None) -> Question:
        extra = self.x_reason
        return Question(
            variant=self.model,
            text=text,
            n=extra.n,
            temperature=self.temperature,
            seed=next((s for s in (seed, extra.seed) if s is not None), 0),
            budget=budget,
            context=extra.context,
            timeout=extra.timeout,
        )


class TextFormat(Strict):
    type: Literal["text"]


class TextPart(BaseModel):
    """A part of a message; of other kinds than text, none is understood."""

    type: Literal["text", "input_text", "output_text"]
    text: str


def _kind(content: object) -> str:
    return "as-text" if isinstance(content, str) else "as-parts"


Content = Annotated[
    Annotated[str, Tag("as-text")] | Annotated[list[TextPart], Tag("as-parts")],
    Discriminator(_kind),
]


class Message(BaseModel):
    """One turn; fields that a client repeats from our responses are not looked at."""

    model_config = ConfigDict(strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Content | None = None

    @property
    def text(self) -> str:
        content = self.content or ""
        return content if isinstance(content, str) else "".join(part.text for part in content)


class Turn(Protocol):
    """A message, or something else that a client repeats."""

    @property
    def role(self) -> str: ...

    @property
    def text(self) -> str: ...


def last_question(messages: Sequence[Turn], field: str) -> tuple[str, tuple[str, ...]]:
    """The text of the last message, and the names of those before it, which are not read.

    Raises:
        Refusal: the last message is not the user's.
    """
    *earlier, last = messages
    if last.role != "user":
        name = f"{field}[{len(earlier)}].role"
        raise Refusal(
            400,
            "invalid_value",
            f"{name}: the last message is the {last.role}'s; end with a user's question",
            param=name,
        )
    return last.text, tuple(f"{field}[{index}]" for index in range(len(earlier)))


R = TypeVar("R", bound=Shared)


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
            raise invalid(error) from error
        raise Refusal(
            400,
            "unsupported_parameter",
            f"{name}: this server can't do what this asks for; leave it out",
            param=name,
        ) from error
