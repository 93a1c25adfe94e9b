"""How a problem is to be solved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import Listener
from orchestrator.errors import InvalidValue
from pruning import Allocation, Judge, Policy, Scorer
from reasoning.policies import SteeredBy, parse_allocation, steered_by
from reasoning.problems.answers import AUTO, AnswerFormat
from reasoning.run.election import Election, OnTie, Select
from reasoning.strategies import STRATEGIES, SelfConsistency, Strategy
from reasoning.values.conversation import Conversation, Message
from reasoning.values.sampling import KNOBS, Constraint, Sampling

if TYPE_CHECKING:
    import anyio

    from reasoning.models.loaded import LoadedModel
    from reasoning.models.loading import ModelSource

_NUMBER = (int, float)


@dataclass(frozen=True, kw_only=True)
class SolveOptions:
    """How to solve a problem; everything has a sensible default.

    Attributes:
        strategy: A strategy, or its name, perhaps with settings (``hogwild:layout=contiguous``); by
            default the best that the model has.
        n: Samples of self-consistency, or the budget of children of each apr thread.
        policy: What steers the samples: a policy, or its name with settings, as ``async:k=8``.
        judge: For policies that ask whether two traces will agree.
        scorer: For policies that ask how good an answer is: ``(question, text, answer) -> float``.
        temperature: 0 is greedy; by default the model's own, and else the strategy's.
        top_p, top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty, logit_bias:
            As in `Sampling`; by default the model's or the server's own.
        stop: Texts that end a thread; they are not in its text.
        logprobs: Whether a server is asked in chat too how likely its tokens were.
        max_new_tokens: The most that each thread generates, beside its context.
        allow_repetition: Whether a chat model's thread goes on that repeats itself without end; by
            default it ends there, and says ``repeats``.
        seed: The same seed gives the same tokens.
        max_tokens: The context of each thread, prompt included; by default the model's whole one.
        timeout: Seconds, loading not counted, after which the run answers with what there is.
        priority: Threads of a lower value are served first; needs a backend with priorities.
        constraint: A form that what threads write must have; needs structured output.
        adapter: A LoRA adapter of the backend, by name.
        domain: The domain whose problem the words state.  By default it is recognised for a shipped
            model; to any other the words are a question as they stand.
        answer: The form of a free-form answer: ``auto``, ``boxed``, ``text``, ``json`` or
            ``/regex/``.
        system: A system prompt for a chat model.
        conversation: What stands around the question; or OpenAI's messages, in order.  The problem
            stands in place of the last user message, or is a new turn after an assistant's.
        instruction: What is appended to the question; by default how to give the answer, unless it
            is open (``answer="text"``) or has turns before it.  ``""`` is nothing.
        thinking: Whether the model is to think before it answers, where its template has a switch.
        effort: How much it is to think, in its own words, such as ``low``.
        chat_template_kwargs: More variables for its chat template.
        extra_body: More fields for each request to a server, as they stand.
        on_tie: Where votes are tied, take the ``first`` answer, sample ``more``, or ``abstain``.
        min_confidence: A winner with a smaller share of the samples counts as tied.
        select: How one of several texts is chosen where the question is open: ``usc`` asks the
            model, ``medoid`` compares embeddings; see `Election`.
        listener: Receives every event of the run.
        cancel_scope: A new scope for this run; cancelling it stops the run in the same way as the
            timeout.

    Raises:
        UnknownName: there is no such strategy or policy.
        InvalidValue: a value is out of range or of another type, or two don't fit each other.
    """

    strategy: str | Strategy | None = None
    n: int | None = None
    policy: str | Policy[Any] | None = None
    judge: Judge | None = None
    scorer: Scorer | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: str | Sequence[str] = ()
    logprobs: bool = False
    max_new_tokens: int | None = None
    allow_repetition: bool = False
    seed: int = 0
    max_tokens: int | None = None
    timeout: float | None = None
    priority: int = 0
    constraint: Constraint | None = None
    adapter: str | None = None
    domain: str | None = None
    answer: str | AnswerFormat = AUTO
    system: str | None = None
    conversation: Conversation | Sequence[Message | Mapping[str, Any]] | None = None
    instruction: str | None = None
    thinking: bool | None = None
    effort: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    on_tie: OnTie = "first"
    min_confidence: float = 0.0
    select: Select = "auto"
    listener: Listener | None = None
    cancel_scope: anyio.CancelScope | None = None

    def __post_init__(self) -> None:
        self._check_types()
        if self.timeout is not None and not self.timeout > 0:
            raise InvalidValue(f"timeout: {self.timeout:g} is not a time; give seconds above 0")
        if self.max_tokens is not None and self.max_tokens < 16:
            raise InvalidValue(f"max-tokens: {self.max_tokens} is too small; give at least 16")
        _ = self.sampling, self.answer_format, self.surroundings, self.election
        if self.strategy is not None:
            self._check_strategy(self.strategy)
        elif self.n is not None and not 1 <= self.n <= Strategy.most_n:
            raise InvalidValue(f"n: {self.n} is out of range; give 1 to {Strategy.most_n}")
        if self.policy is not None:
            self._check_policy()
        if self.on_tie == "more":
            self._check_more()

    def _check_types(self) -> None:
        wholes = ("n", "seed", "max_tokens", "priority")
        for name in (*wholes, "timeout", "min_confidence"):
            value = getattr(self, name)
            kinds = int if name in wholes else _NUMBER
            if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
                kind = "a whole number" if name in wholes else "a number"
                raise InvalidValue(f"{name}: {value!r} is no number of its kind; give {kind}")
        texts = ("system", "instruction", "effort")
        for name in texts:
            if not isinstance(getattr(self, name), str | None):
                raise InvalidValue(f"{name}: {getattr(self, name)!r} is no text; give one")
        for name in ("logit_bias", "chat_template_kwargs", "extra_body"):
            if not isinstance(getattr(self, name), Mapping):
                raise InvalidValue(f"{name}: {getattr(self, name)!r} is no mapping; give a dict")
        if not isinstance(self.thinking, bool | None):
            raise InvalidValue(f"thinking: {self.thinking!r} is neither True nor False; give one")

    def _check_strategy(self, strategy: str | Strategy) -> None:
        if isinstance(strategy, str):
            STRATEGIES.make(strategy, **self._n)
        elif not isinstance(strategy, Strategy):
            raise InvalidValue(f"strategy: {strategy!r} is no Strategy; give one, or a name")
        elif self.n is not None:
            raise InvalidValue("n: the strategy says how many; leave it out")

    def _check_more(self) -> None:
        """Check that the strategy can sample more.

        Raises:
            InvalidValue: it can't.
        """
        kind = self._asked
        if kind is not None and not kind.steerable:
            has = "has one sample" if kind.most_n == 1 else "has no samples of one prompt"
            raise InvalidValue(f"on-tie: strategy {kind.name!r} {has}; leave it out, or abstain")

    def _check_policy(self) -> None:
        policy = None if self.steering is None else self.steering.policy
        if self.scorer is not None and policy is not None and "score" not in policy.needs:
            raise InvalidValue(
                f"scorer: policy {policy.name!r} asks for no scores; give it to bon or weighted"
            )
        if self.n is not None:
            raise InvalidValue("n: the policy says how many; leave it out, or give policy sc:n=N")
        kind = self._asked
        if kind is not None and not kind.steerable:
            raise InvalidValue(
                f"policy: strategy {kind.name!r} takes none; use {SelfConsistency.name}"
            )

    def check_draft(self, draft: object | None) -> None:
        """Check that a second model, if there is one, is for the strategy.

        Raises:
            InvalidValue: the strategy takes none.
        """
        kind = self._asked
        if draft is not None and (kind is None or not kind.drafted):
            told = "the usual strategy" if kind is None else f"strategy {kind.name!r}"
            raise InvalidValue(f"draft: {told} takes none; leave it out, or use atts")

    @property
    def _asked(self) -> Strategy | None:
        kind = self.strategy
        return STRATEGIES.make(kind) if isinstance(kind, str) else kind

    @property
    def _n(self) -> dict[str, int]:
        return {} if self.n is None else {"n": self.n}

    @cached_property
    def answer_format(self) -> AnswerFormat:
        """The form in which a free-form answer is expected."""
        given = self.answer
        return given if isinstance(given, AnswerFormat) else AnswerFormat.parse(str(given))

    @cached_property
    def sampling(self) -> Sampling:
        """How tokens are drawn, as far as that is asked for.

        Raises:
            InvalidValue: a value is out of range.
        """
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        shared = ("temperature", *KNOBS, "logit_bias", "max_new_tokens", "priority", "constraint")
        told = {name: getattr(self, name) for name in (*shared, "adapter", "logprobs")}
        return Sampling(stop=stop, extra=dict(self.extra_body), **told)

    @cached_property
    def surroundings(self) -> Conversation:
        """What stands around the question.

        Raises:
            InvalidValue: a message is none.
        """
        given = self.conversation
        talk = given if isinstance(given, Conversation) else Conversation.of(given or ())
        system = () if self.system is None else (Message(role="system", content=self.system),)
        return replace(
            talk,
            messages=(*system, *talk.messages),
            template={**talk.template, **self.chat_template_kwargs},
            thinking=talk.thinking if self.thinking is None else self.thinking,
            effort=talk.effort if self.effort is None else self.effort,
        )

    @cached_property
    def election(self) -> Election:
        """What happens where votes decide nothing."""
        return Election(on_tie=self.on_tie, min_confidence=self.min_confidence, select=self.select)

    @cached_property
    def steering(self) -> SteeredBy | None:
        """The policy, its judge and its scorer, if there is one."""
        return (
            None
            if self.policy is None
            else steered_by(self.policy, judge=self.judge, scorer=self.scorer)
        )

    def strategy_or(self, default: str) -> Strategy:
        """The strategy that is asked for; where none is, the one of this name."""
        strategy = self.strategy
        if strategy is None and self.policy is None:
            return replace(STRATEGIES.make(default), **self._n)
        strategy = strategy or SelfConsistency.name
        return STRATEGIES.make(strategy, **self._n) if isinstance(strategy, str) else strategy


@dataclass(frozen=True, kw_only=True)
class ModelOptions(SolveOptions):
    """How to solve a problem, and by which model.

    Attributes:
        model: A loaded model, the name of a shipped one, a Hugging Face folder, or a model's name
            on a server.
        backend: What generates: a name, perhaps with settings, as ``vllm:max_num_seqs=128``, or a
            backend of your own.
        base_url: An OpenAI-compatible server's address.
        draft: A smaller model in the same forms, for strategies of two, such as atts.
    """

    model: LoadedModel | str | Path | None = None
    backend: str | ModelSource | Any | None = None
    base_url: str | None = None
    draft: LoadedModel | str | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_draft(self.draft)


@dataclass(frozen=True, kw_only=True)
class BatchOptions(SolveOptions):
    """How to solve many problems under one budget of samples; see `Allocation`.

    ``timeout`` and ``cancel_scope`` are the whole batch's.  A problem's seed is ``seed`` and its
    place.

    Attributes:
        allocation: How the budget is spread, or a text such as ``allocation:mean=6,first=3``.
        parallel: The most samples that are drawn at once.

    Raises:
        InvalidValue: as `SolveOptions`; or a strategy, a policy or ``n`` is given as well.
    """

    allocation: str | Allocation = Allocation.name
    parallel: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("strategy", "policy", "n"):
            if getattr(self, name) is not None:
                raise InvalidValue(f"{name}: the allocation says what is sampled; leave it out")
        whole = isinstance(self.parallel, int) and not isinstance(self.parallel, bool)
        if not (whole and self.parallel >= 1):
            raise InvalidValue(f"parallel: {self.parallel!r} is out of range; give 1 or more")
        _ = self.spread

    @cached_property
    def spread(self) -> Allocation:
        """How the budget is spread."""
        return parse_allocation(self.allocation)

    def each(self, **changes: Any) -> SolveOptions:
        """The options of one problem."""
        own = {one.name: getattr(self, one.name) for one in fields(SolveOptions)}
        return SolveOptions(**{**own, **changes})
