"""What a request may say in both of OpenAI's interfaces, and how it is read.

A field that asks for something this server can't do is refused by its name, unless its value asks
for nothing: many clients send ``logprobs: false`` or ``store: false`` with everything.  A field
that is not known here goes to the server behind; where there is none it is refused, too.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocol.http.contract.conversation import ConversationTurn
from protocol.http.contract.options import AnswerOptions, OutputForm, ToolOffer, Vote
from protocol.http.errors import Refusal, invalid_body
from protocol.http.service import ReasoningRequest


class Unsupported:
    """Marks a field of which only values that ask for nothing are taken."""


UNSUPPORTED = Unsupported()
KINDS = ("tools", "tool_choice", "response_format", "text", "include", "reasoning")
"""Fields whose values have kinds, of which some can't be had here."""
Zero = Annotated[float | None, Field(ge=0, le=0), UNSUPPORTED]
No = Annotated[Literal[False] | None, UNSUPPORTED]
Nothing = Annotated[None, UNSUPPORTED]
EmptyList = Annotated[list[Any] | None, Field(max_length=0), UNSUPPORTED]
Temperature = Annotated[float | None, Field(ge=0, le=2)]
Penalty = Annotated[float | None, Field(ge=-2, le=2)]
Label = Annotated[str | None, Field(max_length=512)]
Count = Annotated[int | None, Field(ge=1)]
Seed = Annotated[int | None, Field(ge=-(1 << 63), lt=1 << 63)]
Stop = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=32)]


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

    seed: Seed = None
    """The same seed gives the same tokens."""
    policy: str | None = Field(default=None, max_length=512)
    """What steers the branches, as ``async:k=8``."""
    budget: Count = None
    """The most that all branches together may write, hidden tokens included."""
    thoughts: Literal["all", "chosen", "none"] = "all"
    """Whose thoughts are sent: every branch's as they are written, or the chosen one's alone."""
    interleave: bool = False
    """Whether thoughts come in the order of writing, instead of one branch after the other."""
    vote: Vote = "whole"
    """Whether JSON answers are voted for as a whole, or field by field."""


class CommonRequest(StrictModel):
    """Fields that both interfaces have."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(min_length=1, max_length=512)
    """A name from /v1/models, perhaps with settings behind it, as ``:n=8,policy=async``."""
    stream: bool | None = None
    temperature: Temperature = None
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=100)
    presence_penalty: Penalty = None
    frequency_penalty: Penalty = None
    stop: str | Stop | None = None
    """Texts at which a branch ends."""
    chat_template_kwargs: dict[str, Any] | None = None
    """More arguments for the model's chat template."""
    metadata: dict[str, Any] | None = None
    user: Label = None
    safety_identifier: Label = None
    prompt_cache_key: Label = None
    parallel_tool_calls: bool | None = None
    top_logprobs: Zero = None
    service_tier: Annotated[Literal["auto", "default"] | None, UNSUPPORTED] = None
    prompt_cache_retention: Nothing = None
    prompt_cache_options: Nothing = None
    moderation: Nothing = None
    x_reason: ReasonFields = ReasonFields()

    @abstractmethod
    def request(self) -> tuple[ReasoningRequest, tuple[str, ...]]:
        """What the service is asked, and the names of what is not read.

        Raises:
            Refusal: the conversation asks nothing.
        """

    @property
    def seeded(self) -> int | None:
        """The seed that is asked for."""
        return self.x_reason.seed

    def asking(
        self,
        turns: tuple[ConversationTurn, ...],
        *,
        form: OutputForm | None = None,
        offer: ToolOffer | None = None,
        **more: Any,
    ) -> ReasoningRequest:
        """A request with these turns, and what the body says in the fields of both interfaces."""
        extra = self.x_reason
        options = AnswerOptions(
            n=extra.n,
            policy=extra.policy,
            seed=self.seeded,
            budget=extra.budget,
            context=extra.context,
            timeout=extra.timeout,
            vote=extra.vote,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            template=self.chat_template_kwargs or {},
            extra=self.model_extra or {},
            **more,
        )
        return ReasoningRequest(
            variant=self.model, turns=turns, options=options, form=form, offer=offer
        )


class TextForm(StrictModel):
    """Any text."""

    type: Literal["text"]

    def form(self, field: str) -> OutputForm | None:
        return None


class ObjectForm(StrictModel):
    """A JSON object."""

    type: Literal["json_object"]

    def form(self, field: str) -> OutputForm | None:
        return OutputForm(schema={"type": "object"}, field=field)


class NamedSchema(StrictModel):
    """A JSON schema and its name."""

    name: str = Field(max_length=256)
    json_schema: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class FunctionChoice(StrictModel):
    """The one function that must be called."""

    name: str = Field(min_length=1)


def known_tool(offer: ToolOffer, field: str = "tool_choice") -> ToolOffer:
    """An offer whose choice is one of its tools.

    Raises:
        Refusal: it is none, or there is no tool to be called.
    """
    choice = offer.choice
    wanted = choice["function"]["name"] if not isinstance(choice, str) else None
    if wanted is not None and wanted not in offer.names:
        message = f"{field}: there is no tool {wanted!r}; choose {', '.join(offer.names)}"
        raise Refusal(400, "invalid_value", message, param=field)
    if not offer.tools and choice == "required":
        raise Refusal(400, "invalid_value", f"{field}: there are no tools; give some", param=field)
    return offer


R = TypeVar("R", bound=BaseModel)


def parse(kind: type[R], body: bytes) -> R:
    """The request that a body states.

    Raises:
        Refusal: a field is wrong, missing or unsupported; it names the first.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _refused(kind, error) from error


def _refused(kind: type[BaseModel], error: ValidationError) -> Refusal:
    first = error.errors()[0]
    name = str((first["loc"] or ("",))[0])
    field = kind.model_fields.get(name)
    of_kind = name in KINDS and first["type"] in ("literal_error", "union_tag_invalid")
    if field is None or not (of_kind or UNSUPPORTED in field.metadata):
        return invalid_body(error)
    return Refusal(
        400,
        "unsupported_parameter",
        f"{name}: this server can't do what this asks for; leave it out",
        param=name,
    )
