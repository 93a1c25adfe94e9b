"""Multiverse's and NPR's transcripts, token for token, as the reference describes their engine."""

from __future__ import annotations

import pytest

from reasoning.language.native.dialect import NativeDialect
from tests.support.native_tools import END, native_dialect, transcribe

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


STOPS = ("</Goal>", "</Path>")
"""Where every thread stops, beside the model's end."""
FORK = (
    (PROMPT, PLAN, STOPS),
    (f"{LEAD}<Path>\n1:", ONE, STOPS),
    (f"{LEAD}<Path>\n1:{ONE}", "\n", STOPS),
    (f"{LEAD}<Path>\n2:", TWO, STOPS),
    (f"{LEAD}<Path>\n2:{TWO}", ".", STOPS),
)
"""The first requests of a run by the script."""


async def test_a_plain_run_keeps_one_token_behind_each_path(multiverse: NativeDialect) -> None:
    found = await transcribe(multiverse, SCRIPT, "kv-join")
    found.assert_golden(*FORK, (JOINED, REST, STOPS), final=f"{JOINED}{REST}")
    assert (found.solution.answer, found.solution.forked) == ("3", True)
    assert found.solution.emulated == ()


async def test_whatever_stands_behind_a_path_is_kept(multiverse: NativeDialect) -> None:
    found = await transcribe(multiverse, {**SCRIPT, TWO: f"{END}more"}, "kv-join")
    joined = f"{LEAD}<Path>\n1:{ONE}\n<Path>\n2:{TWO}{END}<Conclusion>\n"
    behind = (f"{LEAD}<Path>\n2:{TWO}", END, STOPS)
    found.assert_golden(*FORK[:4], behind, (joined, REST, STOPS), final=f"{joined}{REST}")


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
    found.assert_golden(*FORK, (JOINED, REST, STOPS), final=f"{JOINED}{REST}")
    assert found.requests[-1].start == len(found.ids(JOINED)) - len(found.ids("<Conclusion>\n"))


INNER = " in two\n<Parallel>\n<Goal>\n<Outline>\n1.1: c\n</Outline>\n</Goal>"
DEEP, AFTER = " deep\n</Path>", "in\n</Conclusion>\n</Parallel>\n</Path>"
NESTED = {
    **SCRIPT,
    "<Path>\n1:": INNER,
    "<Path>\n1.1:": DEEP,
    DEEP: "\n<",
    f"{DEEP}\n<Conclusion>\n": AFTER,
    AFTER: "\n<",
}


async def test_paths_fork_in_turn(multiverse: NativeDialect) -> None:
    found = await transcribe(multiverse, NESTED, "kv-join")
    inner = f"{LEAD}<Path>\n1:{INNER}\n<Path>\n1.1:"
    one = f"<Path>\n1:{INNER}\n<Path>\n1.1:{DEEP}\n<Conclusion>\n"
    joined = f"{LEAD}{one}{AFTER}\n<Path>\n2:{TWO}.<Conclusion>\n"
    found.assert_golden(
        FORK[0],
        (f"{LEAD}<Path>\n1:", INNER, STOPS),
        (inner, DEEP, STOPS),
        (f"{inner}{DEEP}", "\n", STOPS),
        (f"{LEAD}{one}", AFTER, STOPS),
        (f"{LEAD}{one}{AFTER}", "\n", STOPS),
        *FORK[3:],
        (joined, REST, STOPS),
        final=f"{joined}{REST}",
    )
    starts = {tuple(r.prompt): r.start for r in found.requests}
    g = len(found.ids(f"{PROMPT}{PLAN}")) - 1
    inner_g = g + len(found.ids(f"<Path>\n1:{INNER}"))
    assert starts[tuple(found.ids(inner))] == inner_g + 1
    longest = len(found.ids(f"<Path>\n1.1:{DEEP}<Conclusion>\n{AFTER}"))
    assert starts[tuple(found.ids(joined))] == inner_g + longest + 1


async def test_a_path_whose_inner_join_is_cut_keeps_what_stood_in_it(
    multiverse: NativeDialect,
) -> None:
    deep = " so deep down that it takes a while to come up\n</Path>"
    chain = sum(len(multiverse.encode(one)) for one in (PLAN, INNER, deep))
    script = {**NESTED, "<Path>\n1.1:": deep}
    found = await transcribe(multiverse, script, "kv-join", strategy=f"native:critical={chain}")
    kept = f"{LEAD}<Path>\n1:{INNER}\n<Path>\n1.1:{deep}<Path>\n2:{TWO}."
    assert found.final == found.ids(kept)
    assert found.solution.join_skipped == "the critical path is as long as it may become"
    assert found.solution.parallel is not None
    assert found.solution.parallel.critical_path == chain


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


async def test_a_fork_that_is_too_deep_is_mere_text(multiverse: NativeDialect) -> None:
    script = {**SCRIPT, "<Path>\n1:": PLAN, "</Goal>": f" alone{END}"}
    found = await transcribe(multiverse, script, "kv-join", strategy="native:depth=1")
    joined = f"{LEAD}<Path>\n1:{PLAN} alone<Path>\n2:{TWO}.<Conclusion>\n"
    script["assistant\n"] = PLAN
    found.assert_golden(
        FORK[0],
        (f"{LEAD}<Path>\n1:", PLAN, STOPS),
        (f"{LEAD}<Path>\n1:{PLAN}", f" alone{END}", STOPS),
        *FORK[3:],
        (joined, REST, STOPS),
        final=f"{joined}{REST}",
    )
    assert found.solution.refusals == ("thread 1.1: forks are 1 deep already",)


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ("<Think><Goal>\nno outline\n</Goal>", "its plan has no numbers"),
        ("hm</Goal>", "no <Goal> was opened"),
        (
            f"<Goal><Outline>{'1' * 400}: x</Outline></Goal>",
            "its plan has a number of 400 characters",
        ),
    ],
)
async def test_a_goal_that_is_none_goes_on_serially(
    multiverse: NativeDialect, plan: str, why: str
) -> None:
    rest = f" so</Think> \\boxed{{4}}{END}"
    found = await transcribe(multiverse, {"assistant\n": plan, "</Goal>": rest}, "kv-join")
    found.assert_golden(
        (PROMPT, plan, STOPS), (f"{PROMPT}{plan}", rest, STOPS), final=f"{PROMPT}{plan}{rest}"
    )
    assert found.solution.refusals == (f"thread 1: {why}",)
    assert (found.solution.answer, found.solution.forked) == ("4", False)


async def test_a_stray_end_of_a_path_ends_the_request(multiverse: NativeDialect) -> None:
    found = await transcribe(multiverse, {"assistant\n": "a</Path>"}, "kv-join")
    found.assert_golden((PROMPT, "a</Path>", STOPS), final=f"{PROMPT}a</Path>")
    assert found.solution.refusals == ("thread 1: the end of a branch stood outside of one",)


async def test_a_goal_without_an_end_ends_with_the_text(multiverse: NativeDialect) -> None:
    plan = "<Think><Parallel>\n<Goal>\n<Outline>\n1: a"
    found = await transcribe(multiverse, {"assistant\n": plan}, "kv-join")
    found.assert_golden((PROMPT, plan, STOPS), final=f"{PROMPT}{plan}")
    assert (found.solution.answer, found.solution.forked) == (None, False)


async def test_paths_that_end_otherwise_arrive_as_they_are(multiverse: NativeDialect) -> None:
    script = {**SCRIPT, "<Path>\n1:": f" one{END}", "<Path>\n2:": " tw"}
    found = await transcribe(multiverse, script, "kv-join")
    joined = f"{LEAD}<Path>\n1: one<Path>\n2: tw<Conclusion>\n"
    found.assert_golden(
        FORK[0],
        (f"{LEAD}<Path>\n1:", f" one{END}", STOPS),
        (f"{LEAD}<Path>\n2:", " tw", STOPS),
        (joined, REST, STOPS),
        final=f"{joined}{REST}",
    )


async def test_a_hundred_outlines_are_cut_to_the_bound(multiverse: NativeDialect) -> None:
    many = "".join(f"<Outline>\n{one}: x\n</Outline>\n" for one in range(1, 101))
    plan = f"<Goal>\n{many}</Goal>"
    script = {"assistant\n": plan, ":": "</Path>", "</Path>": "\n", "<Conclusion>\n": END}
    found = await transcribe(multiverse, script, "kv-join", context=100_000)
    numbers = range(1, 65)
    paths = "".join(f"<Path>\n{k}:</Path>\n" for k in numbers)
    lead, joined = f"{PROMPT}{plan}\n", f"{PROMPT}{plan}\n{paths}<Conclusion>\n"
    found.assert_golden(
        (PROMPT, plan, STOPS),
        *((f"{lead}<Path>\n{k}:", "</Path>", STOPS) for k in numbers),
        *((f"{lead}<Path>\n{k}:</Path>", "\n", STOPS) for k in numbers),
        (joined, END, STOPS),
        final=f"{joined}{END}",
    )
    assert found.solution.refusals == ("thread 1: 100 branches; only the first 64 were made",)


async def test_control_strings_in_the_question_are_mere_text(multiverse: NativeDialect) -> None:
    asked, said = "What is </Goal><Path> for?", f"\\boxed{{5}}{END}"
    found = await transcribe(multiverse, {"assistant\n": said}, "kv-join", question=asked)
    prompt = found.prompt(*PROMPT.split("Why?")[:1], asked, PROMPT.split("Why?")[1])
    found.assert_golden((prompt, said, STOPS), final=[*prompt, *found.ids(said)])


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


GUIDED = ("</guideline>", "</step>")
"""Where every thread of NPR stops, beside the model's end."""


def npr_prompt(dialect: NativeDialect) -> str:
    told = dialect.format.prompt.instruction
    return f"<|im_start|>user\nWhy?\n\n{told}<|im_end|>\n<|im_start|>assistant\n"


async def test_npr_has_steps_and_a_takeaway(npr: NativeDialect) -> None:
    found = await transcribe(npr, NPR, "kv-join", context=20_000)
    prompt = npr_prompt(npr)
    lead = f"{prompt}{GUIDE}\n"
    found.assert_golden(
        (prompt, GUIDE, GUIDED),
        (f"{lead}<step>\n1:", FIRST, GUIDED),
        (f"{lead}<step>\n1:{FIRST}", "\n", GUIDED),
        (f"{lead}<step>\n2:", SECOND, GUIDED),
        (f"{lead}<step>\n2:{SECOND}", "\n", GUIDED),
        (f"{prompt}{GUIDE}{STEPS}", TAKEN, GUIDED),
        final=f"{prompt}{GUIDE}{STEPS}{TAKEN}",
    )
    assert found.solution.answer == "7"
    assert {one.sampling.repetition_penalty for one in found.requests} == {None, 1.02}
    steps = [one for one in found.requests if one.sampling.repetition_penalty]
    assert len(steps) == 4


async def test_a_step_that_forked_has_nothing_behind_its_end(npr: NativeDialect) -> None:
    inner = " <guideline>\n<plan>1.1: c</plan>\n</guideline>"
    deep, after = " deep\n</step>", "in\n</takeaway>\n</step>"
    script = {
        **NPR,
        "<step>\n1:": inner,
        "<step>\n1.1:": deep,
        f"{deep}\n<takeaway>\n": after,
    }
    found = await transcribe(npr, script, "kv-join", context=20_000)
    prompt = npr_prompt(npr)
    lead = f"{prompt}{GUIDE}\n"
    nested = f"{lead}<step>\n1:{inner}\n<step>\n1.1:"
    joined = f"{nested}{deep}\n<takeaway>\n{after}<step>\n2:{SECOND}\n<takeaway>\n"
    found.assert_golden(
        (prompt, GUIDE, GUIDED),
        (f"{lead}<step>\n1:", inner, GUIDED),
        (nested, deep, GUIDED),
        (f"{nested}{deep}", "\n", GUIDED),
        (f"{nested}{deep}\n<takeaway>\n", after, GUIDED),
        (f"{lead}<step>\n2:", SECOND, GUIDED),
        (f"{lead}<step>\n2:{SECOND}", "\n", GUIDED),
        (joined, TAKEN, GUIDED),
        final=f"{joined}{TAKEN}",
    )
    starts = {tuple(one.prompt): one.start for one in found.requests}
    g = len(found.ids(f"{prompt}{GUIDE}")) - 1
    assert starts[tuple(found.ids(nested))] == g + len(found.ids(f"<step>\n1:{inner}")) + 1
    ends = [f"<step>\n1:{inner}<step>\n1.1:{deep}<takeaway>\n{after}", f"<step>\n2:{SECOND}"]
    longest = max(len(found.ids(one)) for one in ends)
    assert starts[tuple(found.ids(joined))] == g + longest + 1


async def test_steps_that_end_otherwise_arrive_as_they_are(npr: NativeDialect) -> None:
    script = {**NPR, "<step>\n1:": f" one{END}", "<step>\n2:": " tw"}
    found = await transcribe(npr, script, "kv-join", context=20_000)
    prompt = npr_prompt(npr)
    lead = f"{prompt}{GUIDE}\n"
    joined = f"{lead}<step>\n1: one<step>\n2: tw<takeaway>\n"
    found.assert_golden(
        (prompt, GUIDE, GUIDED),
        (f"{lead}<step>\n1:", f" one{END}", GUIDED),
        (f"{lead}<step>\n2:", " tw", GUIDED),
        (joined, TAKEN, GUIDED),
        final=f"{joined}{TAKEN}",
    )


async def test_tags_of_nprs_instruction_are_tokens_and_a_questions_are_not(
    npr: NativeDialect,
) -> None:
    asked, said = "Is </guideline> a tag?", f"\\boxed{{5}}{END}"
    found = await transcribe(npr, {"assistant\n": said}, "kv-join", question=asked, context=9000)
    before, after = npr_prompt(npr).split("Why?")
    prompt = found.prompt(before, asked, after)
    assert npr.tongue.ids["<plan>"] in prompt
    found.assert_golden((prompt, said, GUIDED), final=[*prompt, *found.ids(said)])


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
        ("a</step>", "the end of a branch stood outside of one"),
        ("<guideline>none</guideline>", "its plan has no numbers"),
        (
            "<guideline>" + "".join(f"<plan>{n}: x</plan>" for n in range(1, 7)) + "</guideline>",
            "6 branches; the family has 5",
        ),
        (
            "<guideline>" + "".join(f"<plan>{n}: x</plan>" for n in range(100)) + "</guideline>",
            "100 branches; the family has 5",
        ),
    ],
)
async def test_npr_ends_where_its_guards_say_no(npr: NativeDialect, plan: str, why: str) -> None:
    found = await transcribe(npr, {"assistant\n": plan}, "kv-join", context=20_000)
    prompt = npr_prompt(npr)
    found.assert_golden((prompt, plan, GUIDED), final=f"{prompt}{plan}")
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
