"""ThreadWeaver's transcripts, token for token, as the reference describes its token-level loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from reasoning.language.native.dialect import NativeDialect
from reasoning.run.run import ForkRefused
from tests.support.native_tools import END, native_dialect, transcribe

pytestmark = pytest.mark.anyio

PROMPT = (
    "<|im_start|>user\nWhy? Let's think step by step and output the final answer within "
    "\\boxed{}.<|im_end|>\n<|im_start|>assistant\n"
)
PLAN = (
    "<think>\nTwo parts.\n<Parallel>\n<Outlines>\n<Outline>1: a</Outline>\n"
    "<Outline>2: b</Outline>\n</Outlines>"
)
ONE, TWO = " one\n</Thread>", " two\n</Thread>"
REST = f"</Parallel>\nSo 3.\n</think>\n\\boxed{{3}}{END}"
JOINED = f"\n<Thread>\n1:{ONE}<Thread>\n2:{TWO}\n"
SCRIPT = {
    "assistant\n": PLAN,
    "<Thread>\n1:": ONE,
    "<Thread>\n2:": TWO,
    "<Thread>\n2: two\n</Thread>\n": REST,
}


@pytest.fixture(scope="module")
def dialect(tmp_path_factory: pytest.TempPathFactory) -> NativeDialect:
    return native_dialect(tmp_path_factory.mktemp("threadweaver"), "threadweaver")


TRUNK, BRANCH = ("</Outlines>",), ("</Thread>",)
"""Where the trunk and a thread stop, beside the model's end."""
LEAD = f"{PROMPT}{PLAN}\n<Thread>\n"


async def test_a_plain_run_forks_joins_and_answers(dialect: NativeDialect) -> None:
    found = await transcribe(dialect, SCRIPT)
    found.assert_golden(
        (PROMPT, PLAN, TRUNK),
        (f"{LEAD}1:", ONE, BRANCH),
        (f"{LEAD}2:", TWO, BRANCH),
        (f"{PROMPT}{PLAN}{JOINED}", REST, TRUNK),
        final=f"{PROMPT}{PLAN}{JOINED}{REST}",
    )
    solution = found.solution
    assert (solution.answer, solution.forked, solution.refusals) == ("3", True, ())
    assert solution.emulated == ()


async def test_a_second_block_follows_in_what_was_joined(dialect: NativeDialect) -> None:
    again = f"</Parallel>\n{PLAN}"
    script = {**SCRIPT, f"{JOINED}": again, f"{again}{JOINED}": REST}
    found = await transcribe(dialect, script)
    once = f"{PROMPT}{PLAN}{JOINED}"
    found.assert_golden(
        (PROMPT, PLAN, TRUNK),
        (f"{LEAD}1:", ONE, BRANCH),
        (f"{LEAD}2:", TWO, BRANCH),
        (once, again, TRUNK),
        (f"{once}{again}\n<Thread>\n1:", ONE, BRANCH),
        (f"{once}{again}\n<Thread>\n2:", TWO, BRANCH),
        (f"{once}{again}{JOINED}", REST, TRUNK),
        final=f"{once}{again}{JOINED}{REST}",
    )


async def test_what_was_written_is_never_encoded_anew(dialect: NativeDialect) -> None:
    one = [id for letter in " one\n" for id in dialect.encode(letter)]
    one += dialect.encode("</Thread>")
    assert one != dialect.encode(ONE)
    found = await transcribe(dialect, {**SCRIPT, "<Thread>\n1:": one})
    before, after = found.ids(f"{PROMPT}{PLAN}\n<Thread>\n1:"), found.ids(f"<Thread>\n2:{TWO}\n")
    assert found.requests[-1].prompt == [*before, *one, *after]
    assert found.final == [*before, *one, *after, *found.ids(REST)]


@pytest.mark.parametrize("written", [" tw", f" tw{END}"])
async def test_a_branch_cut_or_ended_otherwise_closes_all(
    dialect: NativeDialect, written: str
) -> None:
    found = await transcribe(dialect, {**SCRIPT, "<Thread>\n2:": written})
    found.assert_golden(
        (PROMPT, PLAN, TRUNK),
        (f"{LEAD}1:", ONE, BRANCH),
        (f"{LEAD}2:", written, BRANCH),
        final=f"{LEAD}1:{ONE}<Thread>\n2: tw\n</Thread>\n</Parallel>",
    )
    assert found.solution.join_skipped == "branch 2 was cut, and the family ends there"
    assert found.solution.answer is None


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ("<think>\n<Parallel>\n<Outlines>\nnothing\n</Outlines>", "its plan has no numbers"),
        ("Well</Outlines>", "no <Outlines> was opened"),
    ],
)
async def test_a_plan_that_is_none_goes_on_serially(
    dialect: NativeDialect, plan: str, why: str
) -> None:
    rest = f"\nSerial.</think>\\boxed{{4}}{END}"
    found = await transcribe(dialect, {"assistant\n": plan, "</Outlines>": rest})
    found.assert_golden(
        (PROMPT, plan, TRUNK), (f"{PROMPT}{plan}", rest, TRUNK), final=f"{PROMPT}{plan}{rest}"
    )
    assert found.solution.forked is False
    assert found.solution.refusals == (f"thread 1: {why}",)
    assert [e.reason for e in found.events if isinstance(e, ForkRefused)] == [why]
    assert found.solution.answer == "4"


async def test_numbers_count_once_and_a_hundred_are_cut_to_the_familys_most(
    dialect: NativeDialect,
) -> None:
    many = "".join(f"<Outline>{one}: x</Outline>\n" for one in (1, 1, *range(2, 101)))
    plan = f"<Parallel>\n<Outlines>\n{many}</Outlines>"
    last = f"</think>5{END}"
    script = {"assistant\n": plan, ":": " x\n</Thread>", "</Thread>\n": last}
    for how, made in (("native", 50), ("native:n=3", 3)):
        found = await transcribe(dialect, script, context=100_000, strategy=how)
        block = "".join(f"<Thread>\n{k}: x\n</Thread>" for k in range(1, made + 1))
        joined = f"{PROMPT}{plan}\n{block}\n"
        found.assert_golden(
            (PROMPT, plan, TRUNK),
            *(
                (f"{PROMPT}{plan}\n<Thread>\n{k}:", " x\n</Thread>", BRANCH)
                for k in range(1, made + 1)
            ),
            (joined, last, TRUNK),
            final=f"{joined}{last}",
        )
        why = f"thread 1: 100 branches; only the first {made} were made"
        assert found.solution.refusals == (why,)


async def test_a_block_inside_a_thread_is_mere_text(dialect: NativeDialect) -> None:
    inner = f" {PLAN}\n<Thread>\n1: one\n</Thread>"
    found = await transcribe(dialect, {**SCRIPT, "<Thread>\n1:": inner})
    joined = f"{LEAD}1:{inner}<Thread>\n2:{TWO}\n"
    found.assert_golden(
        (PROMPT, PLAN, TRUNK),
        (f"{LEAD}1:", inner, BRANCH),
        (f"{LEAD}2:", TWO, BRANCH),
        (joined, REST, TRUNK),
        final=f"{joined}{REST}",
    )
    assert found.solution.refusals == ()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (f"<think>a</Thread>b</think>\\boxed{{6}}{END}", "6"),
        ("<think>\n<Parallel>\n<Outlines>\n<Outline>1: a", None),
    ],
    ids=["a stray end of a thread", "a fork without an end"],
)
async def test_what_is_no_fork_is_mere_text(
    dialect: NativeDialect, text: str, answer: str | None
) -> None:
    found = await transcribe(dialect, {"assistant\n": text})
    found.assert_golden((PROMPT, text, TRUNK), final=f"{PROMPT}{text}")
    assert (found.solution.answer, found.solution.forked) == (answer, False)


async def test_forks_without_end_are_bounded(dialect: NativeDialect) -> None:
    last = f"</think>7{END}"
    script = {**SCRIPT, "<Thread>\n2: two\n</Thread>\n": PLAN, "</Outlines>": last}
    found = await transcribe(dialect, script, strategy="native:rounds=2")
    blocks = [f"{PROMPT}{f'{PLAN}{JOINED}' * k}" for k in range(3)]
    found.assert_golden(
        *((block, PLAN, TRUNK) for block in blocks),
        *((f"{block}{PLAN}\n<Thread>\n1:", ONE, BRANCH) for block in blocks[:2]),
        *((f"{block}{PLAN}\n<Thread>\n2:", TWO, BRANCH) for block in blocks[:2]),
        (f"{blocks[2]}{PLAN}", last, TRUNK),
        final=f"{blocks[2]}{PLAN}{last}",
    )
    assert found.solution.refusals == ("thread 1: the thread has forked 2 times already",)
    authors = await transcribe(dialect, script, context=100_000, allow_repetition=True)
    assert len(authors.requests) == 3 * 15 + 2


async def test_the_critical_path_is_bounded(dialect: NativeDialect) -> None:
    bound = len(dialect.encode(PLAN)) + 2
    found = await transcribe(dialect, SCRIPT, strategy=f"native:critical={bound}")
    assert [len(one.written) for one in found.requests[1:]] == [2, 2]
    assert found.solution.join_skipped is not None


async def test_control_strings_in_the_question_are_mere_text(dialect: NativeDialect) -> None:
    asked, said = "What is </Outlines><Thread> for, and <think>?", f"</think>8{END}"
    found = await transcribe(dialect, {"assistant\n": said}, question=asked)
    before, after = PROMPT.split("Why?")
    prompt = found.prompt(before, asked, after)
    found.assert_golden((prompt, said, TRUNK), final=[*prompt, *found.ids(said)])
    assert dialect.encode("<think>")[0] not in prompt


async def test_a_join_without_room_says_so(dialect: NativeDialect) -> None:
    room = len(dialect.encode(f"{PROMPT}{PLAN}{JOINED}"))
    found = await transcribe(dialect, SCRIPT, context=room)
    assert found.solution.join_skipped == "the context has no room for it"
    assert found.final == found.ids(f"{PROMPT}{PLAN}{JOINED}".removesuffix("\n"))


async def test_a_fork_whose_branches_have_no_room_is_refused(dialect: NativeDialect) -> None:
    context = len(dialect.encode(f"{PROMPT}{PLAN}")) + 12
    script = {**SCRIPT, "</Outlines>": f"</think>9{END}"}
    found = await transcribe(dialect, script, context=context)
    assert found.solution.refusals == ("thread 1: its branches would have no room",)
    assert found.solution.forked is False


def test_a_tokenizer_without_one_of_the_strings_is_refused_by_name(tmp_path: Path) -> None:
    from reasoning.errors import ModelUnusable
    from reasoning.language.native.catalog import family
    from tests.support.native_tools import write_tokenizer

    strings = [one.text for one in family("threadweaver").controls if one.text != "</Thread>"]
    write_tokenizer(tmp_path, strings)
    with pytest.raises(ModelUnusable, match=r"control string '</Thread>' of threadweaver is 9 tok"):
        NativeDialect(tmp_path, frozenset(), family("threadweaver"))
