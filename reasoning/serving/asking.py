"""A server's request as a problem and options for a reasoner."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from orchestrator import Event
from orchestrator.errors import InvalidValue
from orchestrator.events import Listener
from protocol.http import ReasoningRequest
from protocol.http.service import BranchListener
from reasoning.backends.text_tokens import TextDialect
from reasoning.models.loaded import LoadedModel
from reasoning.options import SolveOptions
from reasoning.problems import FreeForm, Problem, pose
from reasoning.run.solution import Solution
from reasoning.serving.observer import RunObserver
from reasoning.serving.outcome import Outcome
from reasoning.serving.structured import FormedQuestion, ToolQuestion, instruction
from reasoning.serving.talk import (
    biases,
    check_parts,
    check_shipped,
    more_fields,
    talk_of,
    unread,
)
from reasoning.serving.variants import VariantTarget
from reasoning.solver import choose_strategy, spoken
from reasoning.strategies import SelfConsistency, Single, Strategy
from reasoning.values.sampling import KNOBS, Constraint

OPENED = ("<think>", "<thinking>", "[THINK]")
"""What a template writes that opens a model's thoughts."""


@dataclass(frozen=True, kw_only=True)
class AskedSolution:
    """A request that can be answered: what is asked, of whom, and how.

    Attributes:
        notes: What is done otherwise than asked, by name.
        unread: Fields of the request that are not read.
    """

    request: ReasoningRequest
    target: VariantTarget
    problem: Problem
    options: SolveOptions
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def prose(self) -> bool:
        """Whether the model says something after its thoughts; shipped ones have marks alone."""
        return not self.target.reasoner.model.dialect.trained

    @cached_property
    def strategy(self) -> Strategy:
        """What will answer."""
        return choose_strategy(self.options, self.target.reasoner.model, self.problem)

    @property
    def seed(self) -> int | None:
        """The seed that is asked for; a shipped model's is 0 where none is."""
        given = self.request.options.seed
        return 0 if given is None and not self.prose else given

    @property
    def _sole(self) -> bool:
        """Whether one branch is all, and what it writes can be sent as it comes."""
        one = isinstance(self.strategy, Single | SelfConsistency) and self.strategy.n == 1
        formed = self.request.form is not None and self.options.constraint is None
        calls = self.request.offer is not None and not self._by_server
        return self.prose and one and self.target.policy is None and not (formed or calls)

    @property
    def _by_server(self) -> bool:
        """Whether a server tells thoughts and calls apart by itself."""
        return isinstance(self.target.reasoner.model.dialect, TextDialect)

    @cached_property
    def _inside(self) -> bool:
        """Whether the prompt opens the model's thoughts, as some templates do."""
        model = self.target.reasoner.model
        if self._by_server or not self.prose:
            return False
        dialect = spoken(model, self.options)
        decoder = dialect.decoder()
        tail = "".join(map(decoder.feed, dialect.ask("?").tokens[-16:]))
        return tail.rstrip().endswith(OPENED)

    def observer(self, listen: BranchListener) -> RunObserver:
        """What is to watch the run."""
        return RunObserver(
            listen,
            budget=self.request.options.budget,
            sole=self._sole,
            prose=self.prose,
            inside=self._inside,
        )

    async def solve(
        self, observer: RunObserver, seed: int, watch: Listener | None = None
    ) -> Solution:
        """Answer; ``watch`` hears the run's events too."""

        def both(event: Event) -> None:
            observer.observe(event)
            if watch is not None:
                watch(event)

        live: dict[str, Any] = {
            "listener": observer.observe if watch is None else both,
            "cancel_scope": observer.stop,
            "seed": seed,
        }
        given = self.request.options.seed
        if given is not None and self._sole and self._by_server:
            live["extra_body"] = {"seed": given, **self.options.extra_body}
        options = replace(self.options, **live)
        return await self.target.reasoner.solve_with(self.problem, options)

    def outcome(
        self, solution: Solution, observer: RunObserver, seed: int, notes: tuple[str, ...]
    ) -> Outcome:
        """What a solution comes to."""
        return Outcome(
            request=self.request,
            solution=solution,
            observer=observer,
            prose=self.prose,
            inside=self._inside,
            seed=seed,
            width=self.target.width,
            notes=(*self.notes, *notes),
            unread=self.unread,
        )


def asked_of(request: ReasoningRequest, target: VariantTarget) -> AskedSolution:
    """What a request asks of its target.

    Raises:
        ReasonError: by its leaf, what can't be done.
    """
    model = target.reasoner.model
    trained = model.dialect.trained
    check_parts(request, model)
    if trained:
        check_shipped(request)
    held = "json-schema" in model.capabilities
    asked = AskedSolution(
        request=request,
        target=target,
        problem=_problem(request, trained=trained),
        options=SolveOptions(**_options(request, target), **_surroundings(request, model)),
        notes=("json-by-instruction",) if request.form is not None and not held else (),
        unread=tuple(unread(request)) if trained else (),
    )
    _ = asked.strategy
    if not trained:
        spoken(model, asked.options)
    return asked


def _problem(request: ReasoningRequest, *, trained: bool) -> Problem:
    """What is asked: a problem of a shipped model's domains, or the user's words as they stand."""
    if request.form is not None:
        return FormedQuestion(question=request.question, form=request.form).checked()
    if request.offer is not None:
        return ToolQuestion(question=request.question, offer=request.offer)
    try:
        return pose(request.question, trained=trained)
    except InvalidValue:
        if trained:
            raise
        return FreeForm(question=request.question)


def _options(request: ReasoningRequest, target: VariantTarget) -> dict[str, Any]:
    given = request.options
    return {
        "strategy": target.strategy,
        "policy": target.policy,
        "n": target.n,
        "temperature": given.temperature,
        "timeout": given.timeout,
        "stop": given.stop,
        "max_tokens": given.context,
        "max_new_tokens": given.max_tokens,
        "logit_bias": biases(given.logit_bias or {}),
        **{name: getattr(given, name) for name in KNOBS},
        "top_k": 0 if given.top_k == -1 else given.top_k,
    }


def _surroundings(request: ReasoningRequest, model: LoadedModel) -> dict[str, Any]:
    """The options of what stands around the question; a shipped model's has nothing around it."""
    extra, form = more_fields(request, model), request.form
    if model.dialect.trained:
        return {}
    told: dict[str, Any] = {"conversation": talk_of(request, model), "instruction": ""}
    if form is not None and "json-schema" in model.capabilities:
        told["constraint"] = Constraint(kind="json", value=json.dumps(form.schema))
    elif form is not None:
        told["instruction"] = instruction(form)
    return {**told, "extra_body": extra}
