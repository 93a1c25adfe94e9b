"""What the interpreter runs on real weights, against its authors' positions and mask.

The authors' trainers walk over the tokens of a whole sequence; so does what is compared here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from reasoning.language.native.dialect import NativeDialect
from reasoning.values.layout import Flat
from tests.support.flat_reference import Reference
from tests.support.native_tools import END, native_dialect
from tests.support.scripted_engine import ScriptedEngine, run_scripted
from tests.support.watched_engine import random_model

pytest.importorskip("transformers")
pytestmark = pytest.mark.anyio

BOUND = 2e-4
SIZE = {"vocab_size": 384, "max_position_embeddings": 4096}


class Tags(NamedTuple):
    """The tokens by which a trainer finds its way."""

    plan_end: int
    branch: int
    branch_end: int
    joined: int


def walked(tokens: list[int], tags: Tags, *, apart: bool) -> tuple[list[int], torch.Tensor]:
    """Positions and mask of Multiverse and NPR, token by token, from where the answer begins.

    ``apart`` is the engines' way: line breaks before tags have positions of their own.  The token
    behind a branch belongs to it, which the trainers' masks leave out and no run can.
    """
    positions, spans = list[int](), list[tuple[int, int, int]]()
    mask = torch.ones(len(tokens), len(tokens)).tril().bool()
    stack: list[dict[str, int]] = []
    opened: list[tuple[int, int]] = []
    at = 0
    for index, token in enumerate(tokens):
        if token == tags.branch:
            block = stack[-1]
            at = block["end"] + (2 if apart else 1)
            opened.append((index, at))
        elif token == tags.joined and stack:
            block = stack.pop()
            own = [(a, b) for a, b, depth in spans if depth == len(stack) and a > block["index"]]
            for a, b in own:
                for c, d in own:
                    if a != c:
                        mask[a:b, c:d] = False
            at = block["end"] + block["longest"] + (3 if apart else 1)
        positions.append(at)
        at += 1
        if token == tags.plan_end:
            stack.append({"end": positions[-1], "longest": 0, "index": index})
        elif token == tags.branch_end and opened:
            first, start = opened.pop()
            block = stack[-1]
            block["longest"] = max(block["longest"], positions[-1] - start + 1)
            spans.append((first, index + 2, len(stack) - 1))
    return positions, mask


class Case(NamedTuple):
    dialect: NativeDialect
    engine: ScriptedEngine
    reference: Reference


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    built: dict[str, Case] = {}

    def build(name: str) -> Case:
        if name not in built:
            folder: Path = random_model(tmp_path_factory.mktemp(name), "Qwen2", **SIZE)
            reference = Reference(folder)
            dialect = native_dialect(tmp_path_factory.mktemp(f"{name}-tokenizer"), name)
            if dialect.format.tensors:
                folder = reference.identify(folder, 5, published=True)
            engine = ScriptedEngine.load(folder)
            assert isinstance(engine, ScriptedEngine)
            built[name] = Case(dialect, engine, reference)
        return built[name]

    return build


def difference(found: Case, final: list[int], flat: Flat, paths: list[int]) -> float:
    """The largest one between what was computed for a sequence and what it should be."""
    starts = found.engine.sequence(final)
    expected = found.reference(flat, paths)
    rows = {
        starts[one] + index: logits
        for (one, index), logits in found.engine.logits.items()
        if one in starts
    }
    assert len(rows) >= 30
    got = torch.stack(list(rows.values()))
    return float((got - expected[list(rows)]).abs().max())


MULTIVERSE = {
    "assistant\n": "<Think>\n<Parallel>\n<Goal>\n<Outline>\n1: a\n</Outline>\n<Outline>\n2: b\n"
    "</Outline>\n</Goal>",
    "<Path>\n1:": " in two\n<Goal>\n<Outline>\n1.1: c\n</Outline><Outline>\n1.2: d\n</Outline>"
    "</Goal>",
    "<Path>\n1.1:": " deep\n</Path>",
    "<Path>\n1.2:": " as deep, and longer\n</Path>",
    "as deep, and longer\n</Path>x<Conclusion>\n": "in\n</Conclusion>\n</Path>",
    "<Path>\n2:": " two, longer than that other path by some\n</Path>",
    " deep\n</Path>": "\n<",
    "longer\n</Path>": "x",
    "</Conclusion>\n</Path>": "\n",
    "by some\n</Path>": ".",
    "by some\n</Path>.<Conclusion>\n": f"both\n</Conclusion>\n</Think> \\boxed{{3}}{END}",
}
NPR = {
    "assistant\n": "<guideline>\n<plan>1: a</plan>\n<plan>2: b</plan>\n</guideline>",
    "<step>\n1:": " one\n</step>",
    "<step>\n2:": " two, longer\n</step>",
    " one\n</step>": "\n",
    "longer\n</step>": "\n",
    "longer\n</step>\n<takeaway>\n": "so\n</takeaway>\n\n<guideline>\n<plan>3: c</plan>\n"
    "<plan>4: d</plan>\n</guideline>",
    "<step>\n3:": " three, the longest of all\n</step>",
    "<step>\n4:": " four\n</step>",
    "of all\n</step>": "\n",
    " four\n</step>": "\n",
    "four\n</step>\n<takeaway>\n": f"then\n</takeaway>\n\\boxed{{3}}{END}",
}
SCRIPTS = {
    "multiverse": (MULTIVERSE, ("</Goal>", "<Path>", "</Path>", "<Conclusion>")),
    "npr": (NPR, ("</guideline>", "<step>", "</step>", "<takeaway>")),
}


@pytest.mark.parametrize("which", ["trained", "engine"])
@pytest.mark.parametrize("name", SCRIPTS)
async def test_blocks_are_computed_as_their_authors_walk_over_them(
    case: Callable[[str], Case], name: str, which: str
) -> None:
    found, (script, names) = case(name), SCRIPTS[name]
    found.engine.follow(found.dialect, script)
    solution, final = await run_scripted(
        found.engine, found.dialect, strategy=f"native:positions={which}"
    )
    assert (solution.answer, solution.refusals) == ("3", ())
    tags = Tags(*(found.dialect.tongue.ids[one] for one in names))
    prompt = len(found.dialect.ask("Why?").tokens)

    def off(*, apart: bool, hidden: bool = True) -> float:
        places, seen = walked(final[prompt:], tags, apart=apart)
        mask = torch.ones(len(final), len(final)).tril().bool()
        if hidden:
            mask[prompt:, prompt:] = seen
        positions = torch.tensor([*range(prompt), *(prompt + at for at in places)])
        nowhere = torch.zeros_like(mask, dtype=torch.long)
        flat = Flat(torch.tensor(final), positions, mask, nowhere)
        return difference(found, final, flat, [0] * len(final))

    engine = which == "engine"
    assert off(apart=engine) < BOUND
    assert off(apart=not engine) > 1e-2
    assert off(apart=engine, hidden=False) > 1e-2


FORCED = "The final answer is"


@pytest.mark.parametrize("which", ["trained", "engine"])
async def test_paths_and_their_summary_are_computed_with_their_vectors(
    case: Callable[[str], Case], which: str
) -> None:
    found = case("parathinker")
    script = {
        "<think1>": "a long, long way that goes on and on, and is cut",
        "<think2>": "two, which ends first</think>",
        "<think3>": "three has a <summary>stray",
        "<think3>three has a <think1>": " tag and more of it than others have",
        FORCED: " \\boxed{5}</summary>",
    }
    found.engine.follow(found.dialect, script)
    solution, final = await run_scripted(
        found.engine, found.dialect, strategy=f"native:n=3,positions={which}"
    )
    assert solution.answer == "5"
    ids = found.dialect.tongue.ids
    prompt = len(found.dialect.ask("Why?").tokens)
    starts = [final.index(ids[f"<think{one}>"], prompt) for one in (1, 2, 3)]
    summary = final.index(ids["<summary>"], starts[2])
    spans = [*zip(starts, [*starts[1:], summary], strict=True)]
    longest = max(b - a for a, b in spans)

    def off(later: int, *, row: int = 0, sibling: bool = False) -> float:
        positions, paths = list(range(prompt)), [0] * prompt
        mask = torch.ones(len(final), len(final)).tril().bool()
        for number, (a, b) in enumerate(spans, start=1):
            positions += range(prompt, prompt + b - a)
            paths += [number] * (b - a)
            mask[a:b, prompt:a] = sibling
        positions += range(
            prompt + longest + later, prompt + longest + later + len(final) - summary
        )
        paths += [row] * (len(final) - summary)
        nowhere = torch.zeros_like(mask, dtype=torch.long)
        flat = Flat(torch.tensor(final), torch.tensor(positions), mask, nowhere)
        return difference(found, final, flat, paths)

    own, other = (prompt, 0) if which == "engine" else (0, prompt)
    assert off(own) < BOUND
    assert off(other) > 1e-2
    assert off(own, row=1) > 1e-2
    assert off(own, sibling=True) > 1e-2


async def test_parallel_r1_is_computed_as_its_unseen_models_were_trained(
    case: Callable[[str], Case],
) -> None:
    found = case("parallel-r1-unseen")
    script = {
        "assistant\n": "First.\n<Parallel>",
        "<Path>": "one way to go</Path>",
        "<Summary>": "same</Summary>",
        "same</Summary>": f"\nFinal Answer: 3{END}",
    }
    found.engine.follow(found.dialect, script)
    solution, final = await run_scripted(
        found.engine, found.dialect, strategy="native:positions=trained"
    )
    assert (solution.answer, solution.emulated) == ("3", ())
    ids, prompt = found.dialect.tongue.ids, len(found.dialect.ask("Why?").tokens)
    first = final.index(ids["<Path>"], prompt)
    second = final.index(ids["<Path>"], first + 1)
    closed = final.index(ids["</Parallel>"], second)

    def off(*, hidden: bool, overlap: bool) -> float:
        mask = torch.ones(len(final), len(final)).tril().bool()
        mask[second:closed, first:second] = not hidden
        positions = torch.arange(len(final))
        if overlap:
            positions[second:] -= second - first
            positions[closed:] += max(0, (second - first) - (closed - second))
        nowhere = torch.zeros_like(mask, dtype=torch.long)
        flat = Flat(torch.tensor(final), positions, mask, nowhere)
        return difference(found, final, flat, [0] * len(final))

    assert off(hidden=True, overlap=True) < BOUND
    assert off(hidden=False, overlap=True) > 1e-2
    assert off(hidden=True, overlap=False) > 1e-2


THREADWEAVER = {
    "assistant\n": "<think>\n<Parallel>\n<Outlines>\n<Outline>1: a</Outline>\n"
    "<Outline>2: b</Outline>\n</Outlines>",
    "<Thread>\n1:": " one\n</Thread>",
    "<Thread>\n2:": " two\n</Thread>",
    "two\n</Thread>\n": f"</Parallel>\nSo 3.\n</think>\n\\boxed{{3}}{END}",
}
SEEN = {
    "assistant\n": "First.\n<Parallel>",
    "<Path>": "one way to go</Path>",
    "<Summary>": "same</Summary>",
    "same</Summary>": f"\nFinal Answer: 3{END}",
}


SPRINT = {
    "<think>\n": "Two.\n<Plan_1><prompt_1.1>a</prompt_1.1><prompt_1.2>b</prompt_1.2></Plan_",
    "<prompt_1.1>\na\n</prompt_1.1>\n<prompt_1.2>\nb\n</prompt_1.2>\n</Plan_1>\n\n<Execution_1>\n"
    "<execution_1.1>\n": "one\n</execution_",
    "<Plan_1>\n<prompt_1.1>\nb\n</prompt_1.1>\n</Plan_1>\n\n<Execution_1>\n<execution_1.1>\n": (
        "two\n</execution_"
    ),
    "</Execution_1>\n\n": "<Final_answer>\n\\boxed{3}\n</Final_answer>",
}
"""Its tokens are kept as far as they say the same, so that parts of segments are seen."""


@pytest.mark.parametrize(
    ("name", "script"),
    [("threadweaver", THREADWEAVER), ("parallel-r1-seen", SEEN), ("sprint", SPRINT)],
)
async def test_what_is_joined_as_text_is_computed_as_plain_text(
    case: Callable[[str], Case], name: str, script: dict[str, str]
) -> None:
    found = case(name)
    found.engine.follow(found.dialect, script)
    solution, _ = await run_scripted(found.engine, found.dialect, strategy="native")
    assert (solution.answer, solution.emulated) == ("3", ())
    assert (len(solution.threads), solution.forked) == (3, True)
    for segment in dict.fromkeys(one for one, _ in found.engine.logits):
        tokens = [*segment.context.tokens, *segment.tokens]
        mask = torch.ones(len(tokens), len(tokens)).tril().bool()
        nowhere = torch.zeros_like(mask, dtype=torch.long)
        flat = Flat(torch.tensor(tokens), torch.arange(len(tokens)), mask, nowhere)
        expected = found.reference(flat, [0] * len(tokens))[len(segment.context) :]
        for (one, index), logits in found.engine.logits.items():
            if one is segment and index < len(segment):  # what stands behind a stop text is not
                assert (logits - expected[index]).abs().max() < BOUND
