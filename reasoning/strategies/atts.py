"""Asynchronous test-time scaling: a small model drafts, a larger one scores and corrects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from orchestrator.errors import InvalidValue
from pruning import (
    Accept,
    Began,
    ConformalController,
    Ended,
    Escalate,
    PolicySession,
    Resample,
    StepScored,
    Tally,
    level_for_budget,
)
from pruning.conformal.controllers import Method
from reasoning.errors import CapabilityMissing
from reasoning.models.loaded import LoadedModel
from reasoning.run.driver import PolicyDecided
from reasoning.run.run import Run
from reasoning.run.solution import ScoredChain, Steering, StepChoice
from reasoning.run.thread import Thread, ThreadOptions
from reasoning.run.two_models import NO_SCORES, Chunk, Voice, voices
from reasoning.strategies.base import Strategy
from reasoning.strategies.step_calibration import StepCalibration
from reasoning.values.capabilities import Capability
from reasoning.values.context import Gang

SHARE = 0.4
"""Of steps that the target continues, where no budget of calls is given: ATTS's own."""


@dataclass(frozen=True, kw_only=True)
class Atts(Strategy):
    """ATTS (arXiv 2509.15148) with a conformal controller that holds its rate.

    In each of ``n`` chains the draft writes a chunk and the target scores it.  The chunk is kept,
    or dropped and drafted again, or the target writes the next chunk (in its place, where it would
    have ended the chain).  Each chunk is judged when no other chain can still come before it, by
    tokens and then by its number, so that the same seed decides alike wherever it runs.  The answer
    is the majority of the chains.  The controller learns over all runs of one `Reasoner`, from the
    scores of ``calibration`` on.

    Attributes:
        chunk: Tokens of a chunk.
        turns: The most turns of a chain.
        calls: A budget of target calls for all chains; 0 for 40 % of the steps.
        steps: How many steps a chain is expected to have, for the budget.
        rejects: How often an unlikely chunk is drafted again before the target writes one.
        method: How the controller holds its rate (`pruning.ConformalController`).
        calibration: A file of ``reason calibrate --draft`` for these two models; none by default.
    """

    name: ClassVar[str] = "atts"
    needs: ClassVar[frozenset[Capability]] = frozenset({"continuing", "scoring"})
    emulates: ClassVar[dict[Capability, str]] = {"scoring": "draft-scored"}
    most_n: ClassVar[int] = 64
    default_temperature: ClassVar[float] = 0.7
    drafted: ClassVar[bool] = True

    n: int = 4

    chunk: int = 16
    turns: int = 256
    calls: int = 0
    steps: int = 8
    rejects: int = 0
    method: Method = "aci"
    calibration: str = ""

    async def solve(self, run: Run) -> Tally:
        if run.draft is None:
            raise InvalidValue("draft: atts needs a second, smaller model; give --draft reason-1m")
        self._check_draft(run, run.draft)
        if min(self.chunk, self.turns, self.steps) < 1:
            raise InvalidValue("chunk, turns, steps: 0 is out of range; give 1 or more")
        return await _Pair(atts=self, run=run, draft=run.draft).solve()

    def _check_draft(self, run: Run, draft: LoadedModel) -> None:
        """Refuse a draft that can't take turns with the model, or can't be judged.

        Raises:
            CapabilityMissing: as said.
        """
        if "continuing" not in draft.capabilities:
            raise CapabilityMissing(
                f"draft {draft.name}: it can't go on with a partial answer, as atts needs; take a "
                "model here, or a server with completions or continue_final_message"
            )
        if not {"scoring"} & run.backend.capabilities | {"logprobs"} & draft.capabilities:
            raise CapabilityMissing(NO_SCORES)

    @property
    def policy(self) -> ConformalController:
        """The controller that decides, with its rate from ``calls``."""
        alpha = level_for_budget(self.calls, self.n * self.steps) if self.calls else SHARE
        return ConformalController(
            alpha=min(max(alpha, 0.01), 0.99), n=self.n, rejects=self.rejects, method=self.method
        )


@dataclass(kw_only=True)
class _Pair:
    """One run of the strategy."""

    atts: Atts
    run: Run
    draft: LoadedModel

    def __post_init__(self) -> None:
        self._policy = self.atts.policy
        memory, label = self.run.memory, self._policy.label
        earlier = memory.get(label)
        state = None if earlier is None else earlier.next()
        self._session = PolicySession(policy=self._policy, seed=self.run.seed, state=state)
        if earlier is None and self.atts.calibration:
            self._remember(StepCalibration.read(self.atts.calibration))
        memory[label] = self._session.state
        self._told = 0
        self._scored: list[tuple[float, bool]] = []
        self._chains: list[ScoredChain] = []

    async def solve(self) -> Tally:
        run = self.run
        self._session.tell(Began())
        self._report("")
        prompt = run.dialect.prompt(run.problem)
        chain = ThreadOptions(silent=True, gang=Gang(size=self.atts.n))
        async with run.graph:
            for number in range(self.atts.n):
                run.spawn(partial(self._chain, number), prompt, name="chain", options=chain)
        run.steering = self._conclude()
        return self.atts.tally(run)

    def _remember(self, calibration: StepCalibration) -> None:
        """Begin with the scores of a calibration.

        Raises:
            InvalidValue: it is of other models or steps, or no score would be looked at.
        """
        if self.atts.method == "quantile":
            raise InvalidValue("calibration: method quantile keeps no scores; take aci or bank")
        scores = "scoring" in self.run.backend.capabilities
        calibration.check(
            model=self.run.model,
            draft=self.draft.name,
            chunk=self.atts.chunk,
            scored_by="model" if scores else "draft",
        )
        for turn, known in calibration.scores:
            for score in known:
                self._session.state.bank.add(turn, score)

    async def _chain(self, number: int, chain: Thread) -> None:
        draft, target = voices(chain, self.draft)
        scores: list[float] = []
        for turn in range(self.atts.turns):
            if await self._turn(number, turn, draft, target, scores):
                break
        await self.run.turn(chain)
        key = chain.conclude()
        verdict = None if key is None else self.run.problem.verify(key)
        if scores:
            right = None if verdict is None else verdict.ok
            self._chains.append(ScoredChain(sum(scores) / len(scores), right))
        key = key and self.run.problem.canonical(key)
        self._session.tell(Ended(trace=number, tokens=chain.written, answer=key))
        self._report("")

    async def _turn(
        self, number: int, turn: int, draft: Voice, target: Voice, scores: list[float]
    ) -> bool:
        """One step of a chain, whose ``scores`` are noted; whether it has ended."""
        attempt = 0
        while True:
            chunk = await draft.speak(self.atts.chunk, f"{turn}/{attempt}")
            score = await target.read(chunk)
            await self.run.turn(draft.chain)
            (decision,) = self._session.tell(StepScored(trace=number, turn=turn, score=score))
            self._report(draft.chain.task.id)
            scores.append(score)
            self._scored.append((score, not isinstance(decision, Accept)))
            if not isinstance(decision, Resample):
                break
            attempt += 1
        if isinstance(decision, Accept) or not chunk.ended:
            self._keep(chunk, draft, target)
        if isinstance(decision, Escalate):
            chunk = await target.speak(self.atts.chunk, f"{turn}/target")
            self._keep(chunk, target, draft)
        return chunk.ended

    def _keep(self, chunk: Chunk, speaker: Voice, hearer: Voice) -> None:
        speaker.keep(chunk, own=True)
        hearer.keep(chunk, own=False)
        speaker.chain.text += chunk.text

    def _report(self, task: str) -> None:
        """Emit an event for each decision since the last call."""
        for decided in self._session.log[self._told :]:
            label, clock = self._policy.label, self._clock
            event = PolicyDecided(task=task, policy=label, clock=clock, decided=decided)
            self.run.graph.events.emit(event)
        self._told = len(self._session.log)

    @property
    def _clock(self) -> int:
        return max((thread.written for thread in self.run.threads.values()), default=0)

    def _conclude(self) -> Steering:
        finish = self._session.finish
        assert finish is not None
        return Steering(
            policy=self._policy.label,
            seed=self.run.seed,
            grid=self.atts.chunk,
            clock=self._clock,
            tokens=sum(thread.written for thread in self.run.threads.values()),
            finish=finish,
            choice=StepChoice.of(self._scored, self._chains),
            log=tuple(self._session.log),
        )
