"""A small model that forks and joins by itself, beside its serial twin, on every carrier.

    python benchmarks/native.py ARM... [--model MODEL] [--twin FOLDER] [--questions 200]

Each ARM asks all questions, greedily, and puts its rows into ``results/native.json``, which keeps
those of the other arms: `ARMS` names them, and ``all`` is each that runs without vLLM.  The
questions are held out of training, each of their parts, too; seven in ten decompose.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import anyio

from orchestrator import Event
from pruning.evaluation.statistics import QuestionOutcome, Summary, gain, summarise
from reasoning.language.native.dialect import NativeDialect
from reasoning.models.loading import load_model
from reasoning.problems import FreeForm
from reasoning.run.solution import Solution
from reasoning.solver import Reasoner
from reasoning.strategies.tongues.speaker import TranscriptEnded
from reasoning.training.native.problems import TaughtProblem, draw_problem

RESULTS = Path(__file__).parent / "results" / "native.json"
APART, CONTEXT, AT_ONCE = 0.7, 1536, 32
VLLM = "vllm:dtype=float32,kv_cache_gib=1,gpu_memory_utilization=0.3"
PARALLEL_PROMPT = "Think step by step and in parallel before answering."
SERIAL_PROMPT = "Think step by step before answering."
TRAINED = re.compile(r"\n\[trained\]\n.*?\n(?=\n\[)", re.S)


class NativeArm(NamedTuple):
    """A family on a carrier: whose prompts, which backend, and who is asked."""

    family: str
    backend: str
    twin: bool = False
    change: Callable[[str], str] = str
    """Makes another description of the family's."""


def joined_as_text(description: str) -> str:
    """The family's description, whose branches are joined as text that is read again."""
    return TRAINED.sub("\n", description)


def prompted_serially(description: str) -> str:
    """The family's description with the authors' prompt for one thread."""
    return description.replace(PARALLEL_PROMPT, SERIAL_PROMPT)


ARMS = {
    "twin, ThreadWeaver's prompt": NativeArm("threadweaver", "embedded", twin=True),
    "twin, Multiverse's prompt": NativeArm(
        "multiverse", "embedded", twin=True, change=prompted_serially
    ),
    "ThreadWeaver, embedded": NativeArm("threadweaver", "embedded"),
    "ThreadWeaver, vLLM": NativeArm("threadweaver", VLLM),
    "Multiverse, embedded": NativeArm("multiverse", "embedded"),
    "Multiverse, text": NativeArm("multiverse", "embedded", change=joined_as_text),
    "Multiverse, vLLM with the plugin": NativeArm("multiverse", f"{VLLM},plugin=join"),
}
COLUMNS = ("right", "forked", "well_formed", "critical", "tokens", "decomposes")

FORMS = {
    "threadweaver": re.compile(
        r"<Parallel>\n<Outlines>\n(?P<plan>(?:<Outline>\d+: [^<]+</Outline>\n)+)</Outlines>\n"
        r"(?P<branches>(?:<Thread>\n\d+: [^<]+\n</Thread>)+)\n</Parallel>\n[^<]*</think>"
    ),
    "multiverse": re.compile(
        r"<Parallel>\n<Goal>\n(?P<plan>(?:<Outline>\n\d+: [^<]+\n</Outline>\n)+)</Goal>\n"
        r"(?P<branches>(?:<Path>\n\d+: [^<]+\n</Path>\n)+)"
        r"<Conclusion>\n[^<]+\n</Conclusion>\n</Parallel>\n[^<]*</Think>"
    ),
}


def questions(count: int) -> list[TaughtProblem]:
    """Held-out problems, always the same ones."""
    rng = Random("native")
    return [
        draw_problem(rng, held_out=True, decomposes=number < APART * count)
        for number in range(count)
    ]


def well_formed(family: str, text: str) -> bool:
    """Whether a whole answer has one block in the family's form, with a branch for each outline."""
    found = FORMS[family].findall(text)
    if len(found) != 1 or text.count("<Parallel>") != 1:
        return False
    plan, branches = (re.findall(r"(?<=[>\n])\d+(?=:)", part) for part in found[0])
    return plan == branches and plan == [str(n) for n in range(1, len(plan) + 1)]


async def ask(arm: NativeArm, folder: str, asked: Sequence[TaughtProblem]) -> list[list[int]]:
    """A row of `COLUMNS` for each problem."""
    description = resources.files("reasoning.language.native") / "families" / f"{arm.family}.toml"
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(arm.change(description.read_text("utf-8")))
        file.flush()
        model = load_model(folder, backend=arm.backend, settings=[f"dialect={file.name}"])
    rows: dict[int, list[int]] = {}
    slots = anyio.Semaphore(AT_ONCE)

    async def one(reasoner: Reasoner, number: int, problem: TaughtProblem) -> None:
        ended: list[TranscriptEnded] = []

        def hear(event: Event) -> None:
            if isinstance(event, TranscriptEnded):
                ended.append(event)

        async with slots:
            solution = await reasoner.solve(
                FreeForm(question=problem.question),
                temperature=0.0,
                max_tokens=CONTEXT,
                listener=hear,
            )
        dialect = model.dialect
        assert isinstance(dialect, NativeDialect)
        text = dialect.tongue.text_of(ended[-1].tokens) if ended else ""
        rows[number] = row(problem, solution, well_formed(arm.family, text))

    async with Reasoner(model) as reasoner, anyio.create_task_group() as tasks:
        for number, problem in enumerate(asked):
            tasks.start_soon(one, reasoner, number, problem)
    return [rows[number] for number in range(len(asked))]


def row(problem: TaughtProblem, solution: Solution, formed: bool) -> list[int]:
    """The values of `COLUMNS`; the critical path and the tokens count what is forced, too."""
    spent = solution.parallel
    assert spent is not None
    tried = bool(solution.forked) or bool(solution.refusals)
    return [
        int(plain(solution.answer) == plain(problem.answer)),
        int(tried),
        int(tried and formed and not solution.refusals and solution.join_skipped is None),
        spent.longest_thread,
        spent.tokens,
        int(problem.decomposes),
    ]


def plain(answer: str | None) -> str | None:
    """An answer as it is compared."""
    return None if answer is None else re.sub(r"[\s$.]", "", answer)


# ---- figures -------------------------------------------------------------------------------


def figures(name: str, arms: dict[str, list[list[int]]]) -> dict[str, Any]:
    """What an arm's rows come to, and beside its twin's, where these are there."""
    rows = [dict(zip(COLUMNS, one, strict=True)) for one in arms[name]]
    apart = [one for one in rows if one["decomposes"]]
    serial = [one for one in rows if not one["decomposes"]]
    found: dict[str, Any] = {
        "arm": name,
        "questions": len(rows),
        "accuracy": share(one["right"] for one in rows),
        "forked, decomposable": share(one["forked"] for one in apart),
        "forked, serial": share(one["forked"] for one in serial),
        "well-formed forks": share(one["well_formed"] for one in rows if one["forked"]),
    }
    twin = "twin, ThreadWeaver's prompt" if name.startswith("T") else "twin, Multiverse's prompt"
    if twin in arms and not ARMS[name].twin:
        gained = gain(summarised(name, arms[name]), summarised(twin, arms[twin]))
        theirs = [dict(zip(COLUMNS, one, strict=True)) for one in arms[twin]]
        base = [one for one in theirs if one["decomposes"]]
        found |= {
            "less its twin's": round(gained.mean, 4),
            "ci95": [round(end, 4) for end in gained.ci95],
            "critical path": ratio(apart, base),
            "critical path, all": ratio(rows, theirs),
        }
    return found


def share(values: Iterable[int]) -> float | None:
    given = list(values)
    return round(sum(given) / len(given), 4) if given else None


def ratio(rows: Sequence[dict[str, int]], base: Sequence[dict[str, int]]) -> float:
    """The critical paths of some over those of others."""
    critical, theirs = (sum(one["critical"] for one in some) for some in (rows, base))
    return round(critical / theirs, 4)


def summarised(name: str, rows: Sequence[Sequence[int]]) -> Summary:
    outcomes = [
        QuestionOutcome(
            question=str(number), accuracy=float(one[0]), tokens=one[4], span=one[3], traces=1
        )
        for number, one in enumerate(rows)
    ]
    return summarise(name, outcomes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arms", nargs="*", choices=[*ARMS, "all"], metavar="ARM")
    parser.add_argument("--model", default="native-2m")
    parser.add_argument("--twin", default="native-2m-serial")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    asked = questions(options.questions)
    kept = json.loads(options.results.read_text())["rows"] if options.results.exists() else {}
    names = [name for name, arm in ARMS.items() if arm.backend == "embedded"]
    for name in names if options.arms == ["all"] else options.arms:
        folder = options.twin if ARMS[name].twin else options.model
        kept[name] = anyio.run(ask, ARMS[name], folder, asked)
        found = [figures(one, kept) for one in ARMS if one in kept]
        print(json.dumps(next(one for one in found if one["arm"] == name)), flush=True)
        lines = ",\n".join(f"  {json.dumps(one)}" for one in found)
        rows = ",\n".join(f"  {json.dumps(one)}: {json.dumps(rows)}" for one, rows in kept.items())
        columns = json.dumps(COLUMNS)
        options.results.write_text(
            f'{{"columns": {columns},\n"arms": [\n{lines}\n],\n"rows": {{\n{rows}\n}}}}\n'
        )


if __name__ == "__main__":
    main()
