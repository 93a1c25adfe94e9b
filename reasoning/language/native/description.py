"""What one native tongue is: the strings by which a model forks, joins and ends, and where its
tokens stand.

A description says all that `reasoning.strategies.native` must know to run a checkpoint as its
authors mean it.  It is written as TOML (``families/*.toml``, or a user's own file) and can't be
changed afterwards.

Where texts have slots, ``{number}`` is a branch's number as its plan has it, ``{question}`` the
asker's words, ``{instruction}`` the instruction, ``{bos}`` the token that begins a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from orchestrator.errors import InvalidValue
from reasoning.values.sampling import KNOBS, check_number

LONGEST = 16
"""So many characters a branch's number may have."""


def _expression(text: str) -> str:
    try:
        groups = re.compile(text).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from error
    if groups > 1:
        raise ValueError(f"{text!r} has {groups} groups; the first is read, so give one")
    return text


Expression = Annotated[str, AfterValidator(_expression)]
"""A regular expression with at most one group."""


def _drawn(sampling: dict[str, int | float]) -> dict[str, int | float]:
    known = ("temperature", *KNOBS)
    for name, value in sampling.items():
        if name not in known:
            raise ValueError(f"{name!r} is unknown; give {', '.join(known)}")
        check_number(name, value)
    return sampling


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Control(_Part):
    """A string that is one token.

    Attributes:
        id: Its number where the tokenizer is the family's (`NativeFormat.base`).
        special: Whether the tokenizer should mark it as special; what is not special is a token of
            its own all the same.
    """

    text: str = Field(min_length=1)
    id: int | None = Field(default=None, ge=0)
    special: bool = True


class LearnedTensor(_Part):
    """A tensor beside the usual ones, without which the model is another one.

    Attributes:
        name: With ``{layer}`` in place of the layer's number.
        rows: How many rows it must have at least: row i marks path i, row 0 all else.
    """

    name: str
    rows: int = Field(ge=1)


class PromptParts(_Part):
    """How a question is put.

    Attributes:
        raw: The whole prompt, for models without a chat template of their own.  None takes the
            tokenizer's template, whose user message is ``user``.
        user: The user message.
        instruction: Stands for ``{instruction}``; in our words where the authors' are theirs.  Of
            families in rounds it is the user message of all but the first, with ``{references}``.
        source: The file of the authors that has their instruction; empty where ours is the wire's.
        thinking: The template's ``enable_thinking``; None leaves it alone.
        opening: What the answer begins with, behind the template.
        multiple: The whole prompt is filled up with ``filler`` to a multiple of so many tokens.
        domain: The only kind of problem that it knows; empty for any.
    """

    raw: str | None = None
    user: str = "{question}"
    instruction: str = ""
    source: str = ""
    thinking: bool | None = None
    opening: str = ""
    filler: str = ""
    multiple: int = Field(default=1, ge=1)
    domain: Literal["", "countdown"] = ""

    @property
    def asked(self) -> str:
        """All that is said in a prompt, or its user's message."""
        return self.user if self.raw is None else self.raw

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if "{question}" not in self.asked:
            where = "user" if self.raw is None else "raw"
            raise ValueError(f"{where} lacks {{question}}, so that nothing is asked; put it in")
        return self


Refusal = Literal["serial", "end"]
"""What follows where a fork is refused: the thread goes on by itself, or ends."""


class PlanRule(_Part):
    """How many branches a fork has, and their numbers.

    Attributes:
        width: Who says how many: the model's text, a constant, or the caller.
        opener: The text is read behind the last of these; without it, all since the thread went on.
        item: One branch each; its first group is the number, where it has one.
        count: How many, where the model does not say; for a caller that says nothing as well.
        most: So many a fork may have.
        unique: Whether a number counts once.
    """

    width: Literal["plan", "constant", "caller"] = "plan"
    opener: str = ""
    item: Expression = ""
    count: int = Field(default=1, ge=1, le=1024)
    most: int | None = Field(default=None, ge=1)
    unique: bool = False

    @model_validator(mode="after")
    def _has_items(self) -> Self:
        if self.width == "plan" and not self.item:
            raise ValueError("a width from the plan needs item")
        return self

    def numbers(self, text: str) -> list[str]:
        """The numbers of branches in a plan's text; a `ValueError` says why there are none."""
        found: list[str] = re.findall(self.item, text)
        if not found:
            raise ValueError("its plan has no numbers")
        if longest := max((len(one) for one in found if len(one) > LONGEST), default=0):
            raise ValueError(f"its plan has a number of {longest} characters")
        return list(dict.fromkeys(found)) if self.unique else found


class ForkRule(_Part):
    """When a thread forks.

    Attributes:
        at: What a thread writes last before its fork; none forks at once, behind the prompt.
        plan: Its branches.
        requires: Each must be in what the thread wrote since it went on last.
        forbids: None of them may be.
        malformed: What follows where a plan is none, has no branch or breaks these.
        over: What follows where it has more than `PlanRule.most`: its first ones, or a refusal.
        limited: What follows where depth, rounds or room are used up.
        depth: How deep forks may stand in each other; 1 is no nesting.
        rounds: How many forks one thread may make after each other.
        room: Positions that must be left.
        stray: What follows where a branch's end stands outside of one.
    """

    at: tuple[str, ...] = ()
    plan: PlanRule = PlanRule(width="constant")
    requires: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    malformed: Refusal = "serial"
    over: Literal["first"] | Refusal = "first"
    limited: Refusal = "serial"
    depth: int = Field(default=1, ge=1)
    rounds: int | None = Field(default=None, ge=1)
    room: int = Field(default=1, ge=1)
    stray: Refusal = "serial"


class BranchRule(_Part):
    """How a branch begins and ends.

    Attributes:
        lead: What stands between plan and branches: all see it, and it is kept once.
        header: A branch's first words, its own.
        ends: What it writes last.
        closer: What its end is rewritten to; empty leaves it as it is.
        unclosed: What is appended where it ended otherwise, in place of an end token.
        cut: What follows for the whole where a branch ended otherwise: the join, or the end of all.
        rewritten: What becomes ``rewritten_to`` as soon as it is written, since it stands there by
            mistake.
        tail: So many tokens are decoded behind the end, whatever they are, and kept;
        tail_unless: but none behind a branch in which one of these stands.
        ignores_end: Whether the model's end token ends nothing.
        temperature: Of branches; None for the thread's own.
        repetition_penalty: Of branches; None for the thread's own.
        tokens: The most of one branch.
        spare: Where all branches of a fork share what is left: so many tokens less.
        marked: Whether its keys and values carry the vector of its number (`LearnedTensor`).
    """

    lead: str = ""
    header: str = ""
    ends: tuple[str, ...] = ()
    closer: str = ""
    unclosed: str = ""
    cut: Literal["join", "end"] = "join"
    rewritten: tuple[str, ...] = ()
    rewritten_to: str = ""
    tail: int = Field(default=0, ge=0)
    tail_unless: tuple[str, ...] = ()
    ignores_end: bool = False
    temperature: float | None = Field(default=None, ge=0, le=10)
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=10)
    tokens: int | None = Field(default=None, ge=1)
    spare: int | None = Field(default=None, ge=0)
    marked: bool = False

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        if self.rewritten and not self.rewritten_to:
            raise ValueError("rewritten needs rewritten_to, what stands in its place")
        if self.closer and self.tail:
            raise ValueError("closer stands for a branch's last token; with a tail it can't")
        return self


class Placement(_Part):
    """Where branches and what follows them stand.

    Let g be the position of the last token before the fork, and l the tokens of the longest branch
    from its header to its end (without ``tail``).  What `BranchRule.lead` says stands at g + 1.

    Attributes:
        carrier: ``text`` computes the branches' tokens again, one branch after the other, at
            increasing positions.  ``kv`` keeps their keys and values: branches overlap and see no
            sibling.  The two numbers are of ``kv`` alone.
        branch: Every branch's header begins at g + branch.
        resume: What is given after the join begins at g + l + resume;
        resume_prompt: and so many lengths of the prompt later.
        multiple: A branch is filled up with ``filler`` to a multiple of so many tokens.
    """

    carrier: Literal["text", "kv"] = "text"
    branch: int = Field(default=1, ge=0)
    resume: int = Field(default=1, ge=0)
    resume_prompt: int = Field(default=0, ge=0)
    filler: str = ""
    multiple: int = Field(default=1, ge=1)


class JoinRule(_Part):
    """When and how branches come together.

    Attributes:
        first: How many branches must have ended by themselves before the others are cut where they
            stand; None waits for all.
        needs: What a branch must have written to count as one of these.
        between: What stands between two branches, where their text is joined.
        after: What is given behind the last, before the model goes on.
        cut_after: What is given in its place where a cut branch ends the whole.
        votes: No join: each branch answers, and a majority decides.
    """

    first: int | None = Field(default=None, ge=1)
    needs: tuple[str, ...] = ()
    between: str = ""
    after: str = ""
    cut_after: str = ""
    votes: bool = False


class ResumeRule(_Part):
    """What the thread writes first after a join.

    Attributes:
        until: What ends that part; none if nothing does.
        closer: What its end becomes, and what it is given where it ended otherwise.
        tokens: The most of it.
        last: Whether it is the last that is written.
    """

    until: tuple[str, ...] = ()
    closer: str = ""
    tokens: int | None = Field(default=None, ge=1)
    last: bool = False


class AnswerRule(_Part):
    """Where the answer stands in what the trunk wrote itself.

    Attributes:
        after: Behind the first of these, or ``last`` one; where there is none, nowhere if it is
            ``needed`` and else anywhere.
        characters: In so many last ones.
        pattern: What it looks like; its first group is the answer.  Without it, it is read as any
            other model's.
    """

    after: str = ""
    last: bool = False
    needed: bool = False
    characters: int | None = Field(default=None, ge=1)
    pattern: Expression = ""


class AccountingRule(_Part):
    """How the authors count what branches cost and save: by tags in the merged response.

    Without them the run's own threads are counted (`reasoning.values.accounting`).

    Attributes:
        block: What opens and closes a block of branches.
        branch: What opens and closes a branch.
    """

    block: tuple[str, str] | None = None
    branch: tuple[str, str] | None = None

    @model_validator(mode="after")
    def _has_both(self) -> Self:
        if (self.block is None) != (self.branch is None):
            raise ValueError("block and branch go together; give both or none")
        return self


class NativeFormat(_Part):
    """One family's tongue.

    Attributes:
        name: By which it is asked for.
        title: The method, with its paper.
        checkpoints: Where its weights are published.
        names: Patterns of model names, for tongues in plain text, which no token tells.
        controls: Its control strings.
        base: A token and its number that tell the tokenizer that its ``id``s belong to; without it
            they are always checked.
        derived: Whether the numbers were derived from that tokenizer's size, and not read in the
            authors' code: another number is then told and not refused.
        tensors: What its weights must have beside the usual.
        function: The name of a loop that strings can't say (`reasoning.strategies.native`): APR's
            rebuilt states, SPRINT's renumbered plans, PaCoRe's rounds of references.
        widths: The rounds of ``references``, by how many answers are written in each; the last one
            is one answer.
        trained, engine: Positions as in training, and as in the authors' engine where it differs.
        positions: Which of the two is taken where nobody says.
        sampling: How its authors draw tokens: temperature and `KNOBS`.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9\-]*$")
    title: str = ""
    checkpoints: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    controls: tuple[Control, ...] = ()
    base: Control | None = None
    derived: bool = False
    tensors: tuple[LearnedTensor, ...] = ()
    function: Literal["", "apr", "sprint", "references"] = ""
    widths: tuple[Annotated[int, Field(ge=1)], ...] = ()
    prompt: PromptParts = PromptParts()
    fork: ForkRule = ForkRule()
    branch: BranchRule = BranchRule()
    join: JoinRule = JoinRule()
    resume: ResumeRule = ResumeRule()
    trained: Placement = Placement()
    engine: Placement | None = None
    positions: Literal["trained", "engine"] = "trained"
    answer: AnswerRule = AnswerRule()
    accounting: AccountingRule = AccountingRule()
    sampling: Annotated[dict[str, int | float], AfterValidator(_drawn)] = Field(
        default_factory=dict
    )

    @property
    def instructed(self) -> bool:
        """Whether its instruction is a part of what is asked."""
        return self.rounds or "{instruction}" in self.prompt.asked

    @property
    def rounds(self) -> bool:
        """Whether it is asked in rounds, each with the answers of the one before."""
        return self.function == "references"

    def placement(self, which: str | None = None) -> Placement:
        """Where branches and joins stand: as ``trained``, or as in the authors' ``engine``.

        Raises:
            InvalidValue: there are no such positions.
        """
        known = {"trained": self.trained, "engine": self.engine or self.trained}
        if (which or self.positions) not in known:
            raise InvalidValue(f"positions: {which!r} are unknown; give trained or engine")
        return known[which or self.positions]

    @model_validator(mode="after")
    def _uses_what_it_declares(self) -> Self:
        texts = [control.text for control in self.controls]
        if twice := [text for text in texts if texts.count(text) > 1]:
            raise ValueError(f"controls: {twice[0]!r} stands there twice; leave one out")
        known = set(texts)
        for where, text in self._must_be_controls():
            if text not in known:
                raise ValueError(f"{where}: {text!r} is not among the controls")
        return self

    @model_validator(mode="after")
    def _gives_words(self) -> Self:
        if not (self.join.after or self.join.votes or self.function):
            raise ValueError("join.after: a model goes on behind some words alone; give them")
        if self.prompt.multiple > 1 and not self.prompt.filler:
            raise ValueError("prompt.multiple needs prompt.filler")
        if self.join.first is not None and self.branch.cut == "end":
            raise ValueError(
                "join.first cuts branches, at which branch.cut ends all; leave one out"
            )
        return self

    @model_validator(mode="after")
    def _has_rounds(self) -> Self:
        if self.rounds != bool(self.widths):
            raise ValueError('widths and function = "references" go together; give both or none')
        if self.rounds and self.widths[-1] != 1:
            raise ValueError("widths: the last round is one answer; let the last number be 1")
        slots = [
            one for one in ("{question}", "{references}") if one not in self.prompt.instruction
        ]
        if self.rounds and slots:
            raise ValueError(f"prompt.instruction, of all rounds but the first, lacks {slots[0]}")
        return self

    def _must_be_controls(self) -> Iterator[tuple[str, str]]:
        """What a thread of token ids is stopped or cut at, and where that is said."""
        if self.function:  # whose tags are text
            return
        fork, branch = self.fork, self.branch
        for where, texts in (
            ("fork.at", fork.at),
            ("fork.requires", fork.requires),
            ("fork.forbids", fork.forbids),
            ("fork.plan.opener", filter(None, (fork.plan.opener,))),
            ("prompt.filler", filter(None, (self.prompt.filler,))),
            ("branch.ends", branch.ends),
            ("branch.rewritten", branch.rewritten),
            ("branch.tail_unless", branch.tail_unless),
            ("join.needs", self.join.needs),
            ("resume.until", self.resume.until),
            ("accounting.block", self.accounting.block or ()),
            ("accounting.branch", self.accounting.branch or ()),
        ):
            yield from ((where, text) for text in texts)
