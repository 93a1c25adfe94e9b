"""Multiverse's and NPR's transcripts, token for token, as the reference describes their engine."""

from __future__ import annotations

import pytest

from reasoning.language.native.dialect import NativeDialect
from tests.support.native_tools import END, Transcript, native_dialect, transcribe

pytestmark = pytest.mark.anyio

PROMPT = (
    "<|im_start|>user\nWhy? Think step by step and in parallel before answering.<|im_end|>\n"
    "<|im_start|>assistant\n"
)
PLAN = (
    "<Think>\nLet's think in parallel.\n<Parallel>\n<Goal>\n<Outline>\n1: a\n</Outline>\n"
    "<Outline>\n2: b\n</Outline>\n</Goal>"
)
ONE, TWO = " one\n</Path>", " two, longer\n</Path>"
REST = f"both\n</Conclusion>\n</Parallel>\n</Think>\n\nAnswer: \\boxed{{3}}{END}"
LEAD = f"{PROMPT}{PLAN}\n"
JOINED = f"{LEAD}<Path>\n1:{ONE}\n<Path>\n2:{TWO}.<Conclusion>\n"
SCRIPT = {
    "assistant\n": PLAN,
    "<Path>\n1:": ONE,
    "<Path>\n2:": TWO,
    ONE: "\n<",
    TWO: ". ",
    "<Conclusion>\n": REST,
}


@pytest.fixture(scope="module")
def multiverse(tmp_path_factory: pytest.TempPathFactory) -> NativeDialect:
    return native_dialect(tmp_path_factory.mktemp("multiverse"), "multiverse")


@pytest.fixture(scope="module")
def npr(tmp_path_factory: pytest.TempPathFactory) -> NativeDialect:
    return native_dialect(tmp_path_factory.mktemp("npr"), "npr")


def requests(found: Transcript) -> list[tuple[list[int], list[int]]]:
    """Every request, in an order of its own: branches go on at the same time."""
    return sorted((one.prompt, one.written) for one in found.requests)


async def test_a_plain_run_keeps_one_token_behind_each_path(multiverse: NativeDialect) -> None:
    found = await transcribe(multiverse, SCRIPT, "kv-join")
    expected = [
        (PROMPT, PLAN),
        (f"{LEAD}<Path>\n1:", ONE),
        (f"{LEAD}<Path>\n1:{ONE}", "\n"),
        (f"{LEAD}<Path>\n2:", TWO),
        (f"{LEAD}<Path>\n2:{TWO}", "."),
        (JOINED, REST),
    ]
    assert requests(found) == sorted((found.ids(a), found.ids(b)) for a, b in expected)
    assert found.final == found.ids(f"{JOINED}{REST}")
    assert (found.solution.answer, found.solution.forked) == ("3", True)
    assert found.solution.emulated == ()
    tags, end = multiverse.tongue.ids, set(multiverse.encode(END))
    assert {one.stop for one in found.requests} == {
        frozenset({tags["</Goal>"], tags["</Path>"], *end})
    }


@pytest.mark.parametrize(("which", "branch", "resume"), [("trained", 1, 1), ("engine", 2, 3)])
async def test_positions_are_those_that_were_asked_for(
    multiverse: NativeDialect, which: str, branch: int, resume: int
) -> None:
    found = await transcribe(multiverse, SCRIPT, "kv-join", strategy=f"native:positions={which}")
    g = len(found.ids(f"{PROMPT}{PLAN}")) - 1
    longest = len(found.ids(f"<Path>\n2:{TWO}"))
    starts = {tuple(one.prompt): one.start for one in found.requests}
    assert starts[tuple(found.ids(f"{LEAD}<Path>\n1:"))] == g + branch
    assert starts[tuple(found.ids(f"{LEAD}<Path>\n2:"))] == g + branch
    assert starts[tuple(found.ids(JOINED))] == g + longest + resume


async def test_a_server_of_text_joins_under_a_name_of_its_own(multiverse: NativeDialect) -> None:
    found = await transcribe(multiverse, SCRIPT)
    assert found.solution.emulated == ("text-join",)
    assert found.requests[-1].prompt == found.ids(JOINED)
    assert found.requests[-1].start == len(found.ids(JOINED)) - len(found.ids("<Conclusion>\n"))
    assert found.final == found.ids(f"{JOINED}{REST}")


async def test_paths_fork_in_turn(multiverse: NativeDialect) -> None:
    inner = " in two\n<Parallel>\n<Goal>\n<Outline>\n1.1: c\n</Outline>\n</Goal>"
    deep, after = " deep\n</Path>", "in\n</Conclusion>\n</Parallel>\n</Path>"
    script = {
        **SCRIPT,
        "<Path>\n1:": inner,
        "<Path>\n1.1:": deep,
        deep: "\n<",
        f"{deep}\n<Conclusion>\n": after,
        after: "\n<",
    }
    found = await transcribe(multiverse, script, "kv-join")
    one = f"<Path>\n1:{inner}\n<Path>\n1.1:{deep}\n<Conclusion>\n{after}\n"
    joined = f"{LEAD}{one}<Path>\n2:{TWO}.<Conclusion>\n"
    assert found.final == found.ids(f"{joined}{REST}")
    starts = {tuple(r.prompt): r.start for r in found.requests}
    nested = f"{LEAD}<Path>\n1:{inner}\n<Path>\n1.1:"
    g = len(found.ids(f"{PROMPT}{PLAN}")) - 1
    inner_g = g + len(found.ids(f"<Path>\n1:{inner}"))
    assert starts[tuple(found.ids(nested))] == inner_g + 1
    longest = len(found.ids(f"<Path>\n1.1:{deep}<Conclusion>\n{after}"))
    assert starts[tuple(found.ids(joined))] == inner_g + longest + 1


async def test_forks_in_forks_are_bounded(multiverse: NativeDialect) -> None:
    script = {
        "assistant\n": PLAN,
        "<Path>\n1:": PLAN,
        "<Path>\n2:": TWO,
        "</Goal>": f" alone{END}",
        TWO: "\n",
        "<Conclusion>\n": f"c{END}",
    }
    found = await transcribe(multiverse, script, "kv-join", context=100_000)
    assert found.solution.refusals[0].endswith("forks are 6 deep already")
    assert max(thread.id.count(".") for thread in found.solution.threads) == 6
    less = await transcribe(multiverse, script, "kv-join", strategy="native:depth=1")
    assert less.solution.refusals == ("thread 1.1: forks are 1 deep already",)


async def test_a_goal_without_numbers_goes_on_serially(multiverse: NativeDialect) -> None:
    plan, rest = "<Think><Goal>\nno outline\n</Goal>", f" so</Think> \\boxed{{4}}{END}"
    found = await transcribe(multiverse, {"assistant\n": plan, "</Goal>": rest}, "kv-join")
    found.assert_requests([(PROMPT, plan), (f"{PROMPT}{plan}", rest)])
    assert found.solution.refusals == ("thread 1: its plan has no numbers",)
    assert (found.solution.answer, found.solution.forked) == ("4", False)


async def test_a_closer_without_a_goal_goes_on_serially(multiverse: NativeDialect) -> None:
    script = {"assistant\n": "hm</Goal>", "</Goal>": f" so \\boxed{{4}}{END}"}
    found = await transcribe(multiverse, script, "kv-join")
    assert found.solution.refusals == ("thread 1: no <Goal> was opened",)


async def test_a_stray_end_of_a_path_ends_the_request(multiverse: NativeDialect) -> None:
    found = await transcribe(multiverse, {"assistant\n": "a</Path>"}, "kv-join")
    found.assert_requests([(PROMPT, "a</Path>")])
    assert found.solution.refusals == ("thread 1: the end of a branch stood outside of one",)


async def test_paths_that_end_otherwise_arrive_as_they_are(multiverse: NativeDialect) -> None:
    script = {**SCRIPT, "<Path>\n1:": f" one{END}", "<Path>\n2:": " tw"}
    found = await transcribe(multiverse, script, "kv-join")
    joined = f"{LEAD}<Path>\n1: one<Path>\n2: tw<Conclusion>\n"
    assert found.final == found.ids(f"{joined}{REST}")


async def test_a_hundred_outlines_are_cut_to_the_bound(multiverse: NativeDialect) -> None:
    many = "".join(f"<Outline>\n{one}: x\n</Outline>\n" for one in range(1, 101))
    script = {
        "assistant\n": f"<Goal>\n{many}</Goal>",
        ":": "</Path>",
        "</Path>": "\n",
        "<Conclusion>\n": END,
    }
    found = await transcribe(multiverse, script, "kv-join", context=100_000)
    assert len(found.solution.threads) == 1 + 64
    assert found.solution.refusals == ("thread 1: 100 branches; only the first 64 were made",)


async def test_no_room_refuses_the_fork(multiverse: NativeDialect) -> None:
    context = len(multiverse.encode(f"{PROMPT}{PLAN}")) + 29
    script = {**SCRIPT, "</Goal>": f"\\boxed{{5}}{END}"}
    found = await transcribe(multiverse, script, "kv-join", context=context)
    assert found.solution.refusals == ("thread 1: only 29 tokens are left",)
    assert found.final == found.ids(f"{PROMPT}{PLAN}\\boxed{{5}}{END}")


# ---- NPR -----------------------------------------------------------------------------------------

GUIDE = "<guideline>\n<plan>1: a</plan>\n<plan>2: b</plan>\n</guideline>"
FIRST, SECOND = " one\n</step>", " two\n</step>"
STEPS = f"\n<step>\n1:{FIRST}\n<step>\n2:{SECOND}\n<takeaway>\n"
TAKEN = f"both\n</takeaway>\n\nSo \\boxed{{7}}{END}"
NPR = {
    "assistant\n": GUIDE,
    "<step>\n1:": FIRST,
    "<step>\n2:": SECOND,
    "</step>": "\n",
    "<takeaway>\n": TAKEN,
}


async def test_npr_has_steps_and_a_takeaway(npr: NativeDialect) -> None:
    found = await transcribe(npr, NPR, "kv-join", context=20_000)
    prompt = npr.ask("Why?").tokens
    assert found.requests[0].prompt == prompt
    assert found.final == [*prompt, *found.ids(f"{GUIDE}{STEPS}{TAKEN}")]
    assert found.solution.answer == "7"
    assert {one.sampling.repetition_penalty for one in found.requests} == {None, 1.02}
    steps = [one for one in found.requests if one.sampling.repetition_penalty]
    assert len(steps) == 4


async def test_nprs_instruction_is_replaced_by_a_file(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("npr")
    (folder / "theirs.txt").write_text("Use <plan> tags.\n")
    dialect = native_dialect(folder, f"npr:instruction={folder / 'theirs.txt'}")
    words = "<|im_start|>user\nWhy?\n\nUse <plan> tags.<|im_end|>\n<|im_start|>assistant\n"
    assert dialect.ask("Why?").tokens == dialect.encode(words)
    assert dialect.tongue.ids["<plan>"] in dialect.ask("Why?").tokens


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ("well</guideline>", "no <guideline> was opened"),
        (f"a</step>{GUIDE}", "the end of a branch stood outside of one"),
        ("<guideline>none</guideline>", "its plan has no numbers"),
        (
            "<guideline>" + "".join(f"<plan>{n}: x</plan>" for n in range(1, 7)) + "</guideline>",
            "6 branches; the family has 5",
        ),
    ],
)
async def test_npr_ends_where_its_guards_say_no(npr: NativeDialect, plan: str, why: str) -> None:
    found = await transcribe(npr, {"assistant\n": plan}, "kv-join", context=20_000)
    assert len(found.requests) == 1
    assert found.solution.refusals == (f"thread 1: {why}",)
    assert found.solution.forked is False


async def test_npr_goes_on_serially_without_room(npr: NativeDialect) -> None:
    room = len(npr.ask("Why?").tokens) + len(npr.encode(GUIDE)) + 1023
    script = {"assistant\n": GUIDE, "</guideline>": f"\\boxed{{8}}{END}"}
    found = await transcribe(npr, script, "kv-join", context=room)
    assert found.solution.refusals == ("thread 1: only 1023 tokens are left",)
    assert found.solution.answer == "8"


async def test_npr_forks_for_one_plan_and_again(npr: NativeDialect) -> None:
    guide = "<guideline>\n<plan>1: a</plan>\n</guideline>"
    again = f"x</takeaway>\n\n{GUIDE}"
    script = {**NPR, "assistant\n": guide, "<takeaway>\n": again, f"{SECOND}\n<takeaway>\n": TAKEN}
    found = await transcribe(npr, script, "kv-join", context=20_000)
    block = f"{guide}\n<step>\n1:{FIRST}\n<takeaway>\n{again}{STEPS}{TAKEN}"
    assert found.final == [*npr.ask("Why?").tokens, *found.ids(block)]


async def test_nprs_steps_share_what_is_left(npr: NativeDialect) -> None:
    found = await transcribe(npr, NPR, "kv-join", context=20_000)
    used = len(npr.ask("Why?").tokens) + len(npr.encode(GUIDE))
    first = next(one for one in found.requests if one.sampling.repetition_penalty)
    assert first.sampling.max_new_tokens == (20_000 - used - 128) // 2


async def test_a_number_without_end_is_no_number(multiverse: NativeDialect) -> None:
    plan = f"<Goal><Outline>{'1' * 400}: x</Outline></Goal>"
    found = await transcribe(multiverse, {"assistant\n": plan, "</Goal>": END}, "kv-join")
    assert found.solution.refusals == ("thread 1: its plan has a number of 400 characters",)
