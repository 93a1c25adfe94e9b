"""The last lines of ``reason solve``: why it ended, what was lost, what it cost and saved."""

from __future__ import annotations

from collections.abc import Sequence

from reasoning.cli.arms_table import parallel_words
from reasoning.cli.printing import joined, say, warn
from reasoning.run.solution import AnswerTree, Solution, StepChoice


def conclude(
    solution: Solution,
    timeout: float | None,
    addresses: Sequence[str],
    *,
    kept: str | None = None,
) -> None:
    """Print why it ended, what was lost, what it cost, and whether the verifier agreed.

    ``kept`` is the id under which the run can be looked at.
    """
    lost = sum(thread.lost is not None for thread in solution.threads)
    for error in solution.errors:
        those = sum(thread.lost == error for thread in solution.threads)
        warn(f"lost {those} of {len(solution.threads)} threads: {error}")
    match solution.status:
        case "timed-out" if addresses and not solution.usage.completion_tokens:
            warn(f"{', '.join(addresses)} wrote nothing in {timeout:g} s; see its log")
        case "timed-out":
            warn(f"stopped at the time limit of {timeout:g} s; raise --timeout")
        case "interrupted":
            warn("interrupted; this is what was found")
        case "finished" if solution.abstained is not None:
            warn(f"abstained: {solution.abstained}; sample more with --on-tie more")
        case "finished" if solution.answer is None and len(solution.threads) > lost:
            warn(f"no answer was found; {_remedy(solution)}")
    usage, steered = solution.usage, solution.steering
    leaked = f" ({usage.leaked_tokens:,} leaked)" if steered is not None else ""
    leaked += f" + {usage.discarded_tokens:,} thrown away" * (usage.discarded_tokens > 0)
    threads = "1 thread" if len(solution.threads) == 1 else f"{len(solution.threads)} threads"
    said = [
        solution.strategy,
        threads,
        f"work {usage.work_tokens:,} tokens{leaked}",
        f"span {usage.span_tokens:,}",
        f"parallelism {solution.parallelism:.1f}",
        f"{solution.wall_s:.2f} s",
        _verdict(solution),
    ]
    if len(solution.votes) > 1 or solution.strategy == "self-consistency":
        said.append(f"confidence {solution.confidence:.0%}" + ", tied" * solution.tied)
    said += [*_counted(solution), *_why(solution)]
    if solution.emulated:
        said.append(f"emulated: {', '.join(solution.emulated)}")
    said += _refused(solution)
    if solution.ignored:
        said.append(f"ignored: {', '.join(solution.ignored)}")
    kept_as = [] if kept is None else [f"run {kept}"]
    say(joined([*said, *_saved(solution), *kept_as]))


def _remedy(solution: Solution) -> str:
    """What to do where no thread has an answer."""
    endings = {thread.ending for thread in solution.threads}
    if "context" in endings:
        return "raise --max-tokens, at which threads were cut"
    if "max-new-tokens" in endings:
        return "raise --max-new-tokens, or the bound of the strategy at which threads were cut"
    return "try a larger --n, or see with --json what was written"


def _refused(solution: Solution) -> list[str]:
    """What was asked for and not done, and whether nothing was asked for."""
    reasons = {"fork refused": solution.fork_refused, "join skipped": solution.join_skipped}
    said = [f"{what}: {why}" for what, why in reasons.items() if why is not None]
    return [*said, "serial: the model did not fork"] if solution.forked is False else said


def _counted(solution: Solution) -> list[str]:
    """What a published model's branches cost and saved, in its authors' terms."""
    counted = solution.parallel if solution.strategy == "native" else None
    return [] if counted is None else parallel_words(counted)


def _saved(solution: Solution) -> list[str]:
    """What stopping early saved, against as many full samples."""
    saved, steered = solution.saved_tokens, solution.steering
    if not saved or steered is None:
        return []
    written = sum(thread.tokens for thread in solution.threads)
    samples = max(steered.most or 0, len(solution.threads))
    share = saved / (saved + written)
    return [f"saved about {saved:,} tokens ({share:.0%}) against {samples} full samples"]


def _why(solution: Solution) -> list[str]:
    """Why it is this answer: a selection among texts, or what the policy saw."""
    if solution.selected_by in _SELECTED:
        return [f"{_SELECTED[solution.selected_by]} of {len(solution.votes)} texts"]
    steered = solution.steering
    if solution.tree is not None:
        return [_grown(solution.tree)]
    if steered is None:
        return []
    said = [f"{steered.policy}: {steered.finish.reason}"]
    return said if steered.choice is None else [*said, _chosen(steered.choice)]


def _grown(tree: AnswerTree) -> str:
    """How wide and deep a tree of answers is, and its best score."""
    depths: dict[str | None, int] = {None: 0}
    for node in tree.nodes:
        depths[node.thread] = depths[node.parent] + 1
    wide = sum(node.parent is None for node in tree.nodes)
    best = max((node.score for node in tree.nodes), default=0.0)
    return (
        f"tree of {len(tree.nodes)} answers, {wide} by themselves, {max(depths.values())} deep, "
        f"best {best:.2f} by {tree.scorer}"
    )


_SELECTED = {
    "usc": "the model chose",
    "medoid": "the nearest to all others by embeddings",
    "first": "the first",
}


def _chosen(choice: StepChoice) -> str:
    """Which steps a controller chose, and how much better than by chance."""
    said = f"{choice.escalated} of {choice.steps} steps escalated"
    if choice.strangest is None:
        return said
    chance = choice.escalated / choice.steps
    return f"{said}, {choice.strangest:.0%} of them among the strangest ({chance:.0%} by chance)"


def _verdict(solution: Solution) -> str:
    if solution.answer is None:
        return "no answer"
    match solution.verified:
        case True:
            return "verified"
        case None:
            return "not verifiable"
    reason = f" ({solution.verdict.reason})" if solution.verdict is not None else ""
    return f"REJECTED by the verifier{reason}"
