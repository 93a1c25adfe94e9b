"""Asking all questions: what is missing in the store is sampled, several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import NamedTuple

import anyio

from orchestrator.errors import InvalidValue, ReasonError, leaf
from reasoning.evaluation.kept.records import (
    Record,
    SampleRecord,
    StrategyRun,
    run_record,
    sample_record,
)
from reasoning.evaluation.kept.store import EvalStore, StoredEval
from reasoning.evaluation.observing import observed, observing
from reasoning.evaluation.questions import EvalQuestion
from reasoning.models.loaded import LoadedModel
from reasoning.options import SolveOptions
from reasoning.policies import SteeredBy, steered_by
from reasoning.problems import Problem
from reasoning.run.solution import Solution
from reasoning.solver import Reasoner, choose_strategy
from reasoning.strategies import STRATEGIES, SelfConsistency

POLICY = ",policy="


class EvalJob(NamedTuple):
    """One sample of a question, or one run of a strategy (``arm``) on it."""

    question: EvalQuestion
    sample: int = 0
    arm: str | None = None


class TooManyLost(ReasonError):
    """Raised where nothing but failures comes back from a backend.

    As a rule that is wrong usage: the server refuses a setting, or has no model of this name.
    """

    exit_code = 2


@dataclass(frozen=True, kw_only=True)
class LiveArm:
    """A strategy that is run on each question, perhaps steered: ``self-consistency:policy=async``.

    Attributes:
        text: As it was written; it names the arm.
        steering: The policy, with its judge and its scorer, which are loaded once.
    """

    text: str
    strategy: str
    steering: SteeredBy | None = None

    @classmethod
    def parse(cls, text: str) -> LiveArm:
        """The strategy and the policy that a text names.

        Raises:
            UnknownName, InvalidValue: there is none of them, or a setting does not fit.
            ModelUnusable, ExtraMissing: its judge can't be loaded.
        """
        settings, _, policy = text.replace(":policy=", f":{POLICY}", 1).partition(POLICY)
        steering = steered_by(policy) if policy else None
        arm = cls(text=text, strategy=settings.rstrip(":,"), steering=steering)
        STRATEGIES.make(arm.strategy)
        arm.options(SolveOptions())
        return arm

    def options(self, base: SolveOptions) -> SolveOptions:
        """How it solves a question."""
        if (steering := self.steering) is None:
            return replace(base, strategy=self.strategy, policy=None)
        return replace(
            base,
            strategy=self.strategy,
            policy=steering.policy,
            judge=steering.judge,
            scorer=steering.scorer,
        )


@dataclass(frozen=True, kw_only=True)
class EvalPlan:
    """What is to be there in the end.

    Attributes:
        samples: How many of each question; policies are replayed over them.
        arms: Strategies that are run on each question.
        options: How the model is asked.
        parallel: How many samples or runs are under way at once.
        observe: Tokens between observations of a sample: its confidence, and what it would answer;
            0 for none.
    """

    questions: Sequence[EvalQuestion]
    samples: int = 0
    arms: Sequence[LiveArm] = ()
    options: SolveOptions = field(default_factory=SolveOptions)
    parallel: int = 16
    observe: int = 0

    def missing(self, stored: StoredEval) -> list[EvalJob]:
        """What is not there yet, question by question."""
        return list(self._missing(stored))

    def _missing(self, stored: StoredEval) -> Iterator[EvalJob]:
        for question in self.questions:
            for sample in range(self.samples):
                if not stored.has_sample(question.id, sample):
                    yield EvalJob(question, sample)
            for arm in self.arms:
                if not stored.has_run(arm.text, question.id):
                    yield EvalJob(question, arm=arm.text)

    def check(self, model: LoadedModel, draft: LoadedModel | None = None) -> None:
        """Check that the model can do what is asked, before anything is paid.

        Raises:
            CapabilityMissing, ProblemRefused: it can't.
            InvalidValue: a draft is lacking, or nobody asks for it.
        """
        problem = self._posed(model, self.questions[0])
        self._sampled(model)
        for arm in self.arms:
            choose_strategy(arm.options(self.options), model, problem)
        drafted = [arm.strategy for arm in self.arms if STRATEGIES.make(arm.strategy).drafted]
        if draft is None and drafted:
            raise InvalidValue(f"draft: strategy {drafted[0]} takes a second model; give one")
        if draft is not None and not drafted:
            raise InvalidValue("draft: no strategy here takes one; leave it out, or use atts")

    def _sampled(self, model: LoadedModel) -> SolveOptions:
        """How one sample is drawn."""
        policy = observing(model, self.observe) if self.observe else None
        one = SelfConsistency(n=1)
        return replace(self.options, strategy=one, policy=policy, logprobs=True)

    def _posed(self, model: LoadedModel, question: EvalQuestion) -> Problem:
        return question.posed(
            trained=model.dialect.trained, answer_format=self.options.answer_format
        )

    async def fill(
        self,
        store: EvalStore,
        model: LoadedModel,
        *,
        draft: LoadedModel | None = None,
        heard: Callable[[Record], None] = lambda _: None,
    ) -> None:
        """Ask for all that is missing; each record is in the store before ``heard`` is told.

        What fails, as where the backend loses it, is stored as lost, and asked for again the next
        time.

        Raises:
            TooManyLost: nothing but failures came back, one after the other.
            ReasonError: by its leaf, what can't be done and how to mend it.
        """
        jobs = iter(self.missing(store.stored))
        kept = KeptRecords(store=store, heard=heard, parallel=self.parallel)

        async def work(reasoner: Reasoner) -> None:
            for job in jobs:
                kept.add(await self.done(reasoner, job))

        async with Reasoner(model, draft=draft) as reasoner, anyio.create_task_group() as group:
            for _ in range(self.parallel):
                group.start_soon(work, reasoner)

    def lost(self, job: EvalJob, why: str) -> Record:
        """The record of a job of which nothing came."""
        seed = seed_of(self.options.seed, job)
        if job.arm is None:
            return SampleRecord(question=job.question.id, sample=job.sample, seed=seed, lost=why)
        return StrategyRun(question=job.question.id, arm=job.arm, seed=seed, lost=why)

    async def done(self, reasoner: Reasoner, job: EvalJob) -> Record:
        """Do one job, with the seed that is its own wherever it is done.

        Returns:
            Its record; a lost one, where that failed by a `ReasonError`.
        """
        question, seed = job.question, seed_of(self.options.seed, job)
        problem = self._posed(reasoner.model, question)
        arm = next((one for one in self.arms if one.text == job.arm), None)
        options = self._sampled(reasoner.model) if arm is None else arm.options(self.options)
        try:
            solution = await reasoner.solve_with(problem, replace(options, seed=seed))
        except Exception as error:
            if not isinstance(lost := leaf(error), ReasonError):
                raise
            return self.lost(job, str(lost))
        if arm is None:
            record = sample_record(question.id, job.sample, seed, solution)
            return _with_observations(record, solution, self.observe) if self.observe else record
        return run_record(question.id, arm.text, seed, solution)


@dataclass(kw_only=True)
class KeptRecords:
    """Where records go as they come: into the store, and then to who listens.

    Attributes:
        parallel: How many jobs are under way at once.
    """

    store: EvalStore
    heard: Callable[[Record], None]
    parallel: int

    def __post_init__(self) -> None:
        self._recent: deque[Record] = deque(maxlen=max(8, self.parallel))

    def add(self, record: Record) -> None:
        """Keep one.

        Raises:
            TooManyLost: nothing but failures came lately.
        """
        self.store.add(record)
        self.heard(record)
        self._recent.append(record)
        count = len(self._recent)
        if count == self._recent.maxlen and all(one.lost for one in self._recent):
            raise TooManyLost(
                f"the last {count} answers were lost ({record.lost}); mend that and give the same "
                "command to go on"
            )


def _with_observations(record: SampleRecord, solution: Solution, every: int) -> SampleRecord:
    trace = solution.threads[0].trace if solution.threads else None
    if trace is None:
        return record
    confidences, probes = observed(trace, every)
    seen = {"confidences": confidences, "probes": probes, "every": every}
    return record.model_copy(update=seen)


def seed_of(seed: int, job: EvalJob) -> int:
    """The seed of one sample or run: the same wherever and whenever it is asked for."""
    told = f"{seed}\0{job.question.id}\0{job.arm or ''}\0{job.sample}"
    digest = blake2b(told.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest) >> 1
