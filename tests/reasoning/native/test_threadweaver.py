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


async def test_a_plain_run_forks_joins_and_answers(dialect: NativeDialect) -> None:
    found = await transcribe(dialect, SCRIPT)
    found.assert_requests(
        [
            (PROMPT, PLAN),
            (f"{PROMPT}{PLAN}\n<Thread>\n1:", ONE),
            (f"{PROMPT}{PLAN}\n<Thread>\n2:", TWO),
            (f"{PROMPT}{PLAN}{JOINED}", REST),
        ]
    )
    assert found.final == found.ids(f"{PROMPT}{PLAN}{JOINED}{REST}")
    tags = dialect.tongue.ids
    end = set(dialect.encode(END))
    assert [one.stop for one in found.requests[:3]] == [
        {tags["</Outlines>"], *end},
        *[{tags["</Thread>"], *end}] * 2,
    ]
    solution = found.solution
    assert (solution.answer, solution.forked, solution.refusals) == ("3", True, ())
    assert solution.emulated == ()


async def test_what_was_written_is_never_encoded_anew(dialect: NativeDialect) -> None:
    one = [id for letter in " one\n" for id in dialect.encode(letter)]
    one += dialect.encode("</Thread>")
    assert one != dialect.encode(ONE)
    found = await transcribe(dialect, {**SCRIPT, "<Thread>\n1:": one})
    before, after = found.ids(f"{PROMPT}{PLAN}\n<Thread>\n1:"), found.ids(f"<Thread>\n2:{TWO}\n")
    assert found.requests[-1].prompt == [*before, *one, *after]


async def test_a_branch_cut_by_length_closes_the_block_and_ends_the_sample(
    dialect: NativeDialect,
) -> None:
    found = await transcribe(dialect, {**SCRIPT, "<Thread>\n2:": " tw"})
    assert len(found.requests) == 3
    closed = f"\n<Thread>\n1:{ONE}<Thread>\n2: tw\n</Thread>\n</Parallel>"
    assert found.final == found.ids(f"{PROMPT}{PLAN}{closed}")
    assert found.solution.join_skipped == "branch 2 was cut, and the family ends there"
    assert found.solution.answer is None


async def test_a_branch_that_ends_its_turn_loses_the_end_token(dialect: NativeDialect) -> None:
    found = await transcribe(dialect, {**SCRIPT, "<Thread>\n1:": f" on{END}"})
    closed = f"\n<Thread>\n1: on\n</Thread><Thread>\n2:{TWO}\n</Parallel>"
    assert found.final == found.ids(f"{PROMPT}{PLAN}{closed}")


async def test_a_plan_without_numbers_goes_on_serially(dialect: NativeDialect) -> None:
    plan = "<think>\n<Parallel>\n<Outlines>\nnothing\n</Outlines>"
    rest = f"\nSerial.</think>\\boxed{{4}}{END}"
    found = await transcribe(dialect, {"assistant\n": plan, "</Outlines>": rest})
    found.assert_requests([(PROMPT, plan), (f"{PROMPT}{plan}", rest)])
    assert found.solution.forked is False
    assert found.solution.refusals == ("thread 1: its plan has no numbers",)
    assert [e.reason for e in found.events if isinstance(e, ForkRefused)] == [
        "its plan has no numbers"
    ]
    assert found.solution.answer == "4"


async def test_a_closer_without_an_opener_goes_on_serially(dialect: NativeDialect) -> None:
    rest = f"</think>\\boxed{{4}}{END}"
    found = await transcribe(dialect, {"assistant\n": "Well</Outlines>", "</Outlines>": rest})
    assert found.solution.refusals == ("thread 1: no <Outlines> was opened",)
    assert found.solution.answer == "4"


async def test_numbers_count_once_and_a_hundred_are_cut_to_the_familys_most(
    dialect: NativeDialect,
) -> None:
    many = "".join(f"<Outline>{one}: x</Outline>\n" for one in (1, 1, *range(2, 101)))
    plan = f"<Parallel>\n<Outlines>\n{many}</Outlines>"
    script = {"assistant\n": plan, ":": " x\n</Thread>", "</Thread>\n": f"</think>5{END}"}
    found = await transcribe(dialect, script, context=100_000)
    assert len(found.requests) == 1 + 50 + 1
    assert found.solution.refusals == ("thread 1: 100 branches; only the first 50 were made",)
    less = await transcribe(dialect, script, context=100_000, n=3)
    assert len(less.requests) == 1 + 3 + 1


async def test_a_block_inside_a_thread_is_mere_text(dialect: NativeDialect) -> None:
    inner = f" {PLAN} one\n</Thread>"
    found = await transcribe(dialect, {**SCRIPT, "<Thread>\n1:": inner})
    assert found.requests[1].written == found.ids(inner)
    assert found.solution.refusals == ()


async def test_a_stray_end_of_a_thread_is_mere_text(dialect: NativeDialect) -> None:
    stray = f"<think>a</Thread>b</think>\\boxed{{6}}{END}"
    found = await transcribe(dialect, {"assistant\n": stray})
    assert found.final == found.ids(f"{PROMPT}{stray}")
    assert (found.solution.answer, found.solution.forked) == ("6", False)


async def test_a_fork_without_an_end_ends_with_the_text(dialect: NativeDialect) -> None:
    open_plan = "<think>\n<Parallel>\n<Outlines>\n<Outline>1: a"
    found = await transcribe(dialect, {"assistant\n": open_plan})
    assert found.final == found.ids(f"{PROMPT}{open_plan}")
    assert (found.solution.answer, found.solution.forked) == (None, False)


async def test_forks_without_end_are_bounded(dialect: NativeDialect) -> None:
    script = {**SCRIPT, "<Thread>\n2: two\n</Thread>\n": PLAN, "</Outlines>": f"</think>7{END}"}
    found = await transcribe(dialect, script, strategy="native:rounds=2")
    assert len(found.requests) == 3 * 2 + 2
    assert found.solution.refusals == ("thread 1: the thread has forked 2 times already",)
    authors = await transcribe(dialect, script, context=100_000, allow_repetition=True)
    assert len(authors.requests) == 3 * 15 + 2


async def test_the_critical_path_is_bounded(dialect: NativeDialect) -> None:
    bound = len(dialect.encode(PLAN)) + 2
    found = await transcribe(dialect, SCRIPT, strategy=f"native:critical={bound}")
    assert [len(one.written) for one in found.requests[1:]] == [2, 2]
    assert found.solution.join_skipped is not None


async def test_control_strings_in_the_question_are_mere_text(dialect: NativeDialect) -> None:
    asked = "What is </Outlines><Thread> for, and <think>?"
    found = await transcribe(dialect, {"assistant\n": f"</think>8{END}"}, question=asked)
    prompt = found.requests[0].prompt
    assert not set(prompt) & set(dialect.tongue.ids.values())
    assert dialect.encode("<think>")[0] not in prompt
    raw = "".join(dialect.tongue.text_of([id]) for id in prompt)
    assert asked in raw


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
