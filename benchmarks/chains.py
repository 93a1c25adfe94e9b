"""What `replay.py` measures over scored chains, and of coverage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from pruning import ConformalController, Escalate, Question, StepScored, fit
from pruning.conformal.controllers import GAMMAS
from reasoning.run.solution import StepChoice

STREAMS = 40


def stream(questions: Sequence[Question], seed: int, shift: float) -> Iterator[StepScored]:
    """Questions in a random order; the chains of one advance together, turn by turn.

    From half time on, the distance of a score to the least possible, 1, is times ``shift``.
    """
    rng = Random(seed)
    order = list(questions)
    rng.shuffle(order)
    total = sum(len(trace.steps) for question in order for trace in question.traces)
    told = 0
    for question in order:
        chains = list(question.traces)
        rng.shuffle(chains)
        for turn in range(max(len(chain.steps) for chain in chains)):
            for number, chain in enumerate(chains):
                if turn < len(chain.steps):
                    score = chain.steps[turn].score
                    late = told > total / 2
                    told += 1
                    yield StepScored(
                        trace=number, turn=turn, score=1 + (score - 1) * (shift if late else 1)
                    )


def rates(
    questions: Sequence[Question], method: str, shift: float, gamma: float = 0.0
) -> dict[str, Any]:
    """The share escalated at a nominal 0.40 from a cold start, over many orders.

    ``strangest`` is the share of the escalated steps among as many strangest ones of the stream.
    """
    policy = ConformalController(alpha=0.4, method=method, gamma=gamma)  # type: ignore[arg-type]
    chosen: list[float] = []
    overall: list[float] = []
    worst = 0.0
    bound_kept = True
    for seed in range(STREAMS):
        state = policy.begin(Random(seed))
        flags: dict[int, list[bool]] = {}
        scored: list[tuple[float, bool]] = []
        for step in stream(questions, seed, shift):
            (decision,) = policy.observe(state, step)
            flags.setdefault(step.turn, []).append(isinstance(decision, Escalate))
            scored.append((step.score, isinstance(decision, Escalate)))
        chosen.append(StepChoice.of(scored, ()).strangest or 0.0)
        every = [flag for turn in flags.values() for flag in turn]
        overall.append(sum(every) / len(every))
        worst = max(worst, *(abs(sum(f) / len(f) - 0.4) for f in flags.values()))
        if method != "bank":
            watched = [turn.tracker or turn.level for turn in state.turns.values()]
            bound_kept &= all(abs(one.rate - 0.4) <= one.bound for one in watched)
    return {
        "method": method,
        "gamma": gamma or GAMMAS[policy.method],
        "shift": shift,
        "streams": STREAMS,
        "steps": len(every),
        "rate_min": round(min(overall), 4),
        "rate_max": round(max(overall), 4),
        "strangest": round(sum(chosen) / len(chosen), 4),
        "turn_off_most": round(worst, 4),
        "bound_kept": bound_kept if method != "bank" else None,
    }


def coverage(questions: Sequence[Question]) -> dict[str, Any]:
    """How far one rate and a beta-binomial are from the coverage measured at N = 1 … 64."""
    counts = [(sum(t.answer in q.right for t in q.traces), len(q.traces)) for q in questions]

    def measured(n: int) -> float:
        return sum(1 - math.comb(m - s, n) / math.comb(m, n) for s, m in counts) / len(counts)

    def off(model: Callable[[int], float]) -> float:
        return math.sqrt(sum((model(n) - measured(n)) ** 2 for n in range(1, 65)) / 64)

    fitted = fit(counts)
    best = min(
        ((most, rate) for most in range(50, 101) for rate in range(1, 100)),
        key=lambda pair: off(lambda n: pair[0] / 100 * (1 - (1 - pair[1] / 100) ** n)),
    )
    most, rate = best[0] / 100, best[1] / 100
    one = next(n for n in range(999) if most * rate * (1 - rate) ** n < 0.01)
    return {
        "measured": {str(n): round(measured(n), 4) for n in (1, 4, 16, 64)},
        "one_rate": {
            "f_max": most,
            "p": rate,
            "rmse": round(off(lambda n: most * (1 - (1 - rate) ** n)), 4),
            "saturation_0.01": one,
        },
        "beta_binomial": {
            "alpha": round(fitted.alpha, 4),
            "beta": round(fitted.beta, 4),
            "rmse": round(off(fitted.coverage), 4),
            "saturation_0.01": fitted.saturation(0.01),
            "saturation_0.001": fitted.saturation(0.001),
        },
    }
