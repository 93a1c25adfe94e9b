"""APR's, SPRINT's and PaCoRe's transcripts: tongues in plain text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reasoning.errors import CapabilityMissing, ProblemRefused
from reasoning.language.native.catalog import choose_format
from reasoning.language.native.dialect import NativeDialect
from reasoning.problems import Countdown
from reasoning.strategies.tongues.speaker import MOST_STOPS
from reasoning.values.conversation import Conversation
from tests.support.native_tools import END, native_dialect, transcribe

pytestmark = pytest.mark.anyio

BOS = "<|endoftext|>"
SUM = Countdown(numbers=(3, 10, 21, 23), target=50)


@pytest.fixture(scope="module")
def apr(tmp_path_factory: pytest.TempPathFactory) -> NativeDialect:
    return native_dialect(tmp_path_factory.mktemp("apr"), "apr")


@pytest.fixture(scope="module")
def sprint(tmp_path_factory: pytest.TempPathFactory) -> NativeDialect:
    return native_dialect(tmp_path_factory.mktemp("sprint"), "sprint")


@pytest.fixture(scope="module")
def pacore(tmp_path_factory: pytest.TempPathFactory) -> NativeDialect:
    return native_dialect(tmp_path_factory.mktemp("pacore"), "pacore")


# ---- APR -----------------------------------------------------------------------------------------

ROOT = "Moving to Node #0\nCurrent State: 50:[3, 10, 21, 23], Operations: []"
GENERATED = (
    "\nExploring Operation: 21-3=18, Resulting Numbers: [10, 23, 18]"
    "\nGenerated Node #0,0: 50:[10, 23, 18] Operation: 21-3=18"
    "\nExploring Operation: 21+3=24, Resulting Numbers: [10, 23, 24]"
    "\nGenerated Node #0,1: 50:[10, 23, 24] Operation: 21+3=24"
)
STARTS = (
    "\n<Start Sub Search 0 at level 1> Moving to Node #0,0"
    "\n<Start Sub Search 1 at level 1> Moving to Node #0,1"
    "\n<End Calling Sub Searches>"
)
CALL = f"\n<Calling Sub Searches>{STARTS}"
FIRST = "Moving to Node #0,0\nCurrent State: 50:[10, 23, 18], Operations: ['21-3=18']"
SECOND = "Moving to Node #0,1\nCurrent State: 50:[10, 23, 24], Operations: ['21+3=24']"
PATH = (
    f"{FIRST}\nExploring Operation: 23-18=5, Resulting Numbers: [10, 5]"
    "\nExploring Operation: 10*5=50, Resulting Numbers: [50]\n50,50 equal: Goal Reached"
)
FOUND = f"\nExploring …\n50,50 equal: Goal Reached\n{PATH}\n"
TOLD = (
    "\n<Sub Searches>\n<Goal Reached in Sub Search 0 at level 1 at Node #0,0>\n"
    f"{PATH}\n<No Solution in Sub Search 1 at level 1 at Node #0,1>\n<End Sub Searches>\n"
)
SCRIPT = {
    ROOT: f"{GENERATED}{CALL}{END}",
    FIRST: f"{FOUND}{END}",
    SECOND: f"\nNo luck\n{END}",
    TOLD: f"50,50 equal: Goal Reached\n{PATH}\n{END}",
}


TRUNK = ("<Sub Searches>",)
"""Where APR's root stops, beside the model's end; a child has its end alone."""
LAST = f"50,50 equal: Goal Reached\n{PATH}\n{END}"
SEARCHES = (
    (f"{BOS}{FIRST}", f"{FOUND}{END}", ()),
    (f"{BOS}{SECOND}", f"\nNo luck\n{END}", ()),
)


async def test_apr_rebuilds_states_and_replaces_the_call(apr: NativeDialect) -> None:
    found = await transcribe(apr, SCRIPT, question=SUM)
    found.assert_golden(
        (f"{BOS}{ROOT}", SCRIPT[ROOT], TRUNK),
        *SEARCHES,
        (f"{BOS}{ROOT}{GENERATED}{TOLD}", LAST, TRUNK),
        final=f"{BOS}{ROOT}{GENERATED}{TOLD}{LAST}",
    )
    solution = found.solution
    assert (solution.answer, solution.verified) == ("21-3=18, 23-18=5, 10*5=50", True)
    assert solution.forked is True


async def test_apr_asks_for_searches_in_place_of_what_they_found(apr: NativeDialect) -> None:
    script = {
        **SCRIPT,
        ROOT: f"{GENERATED}\n<Sub Searches>",
        "<Calling Sub Searches>": STARTS + END,
    }
    found = await transcribe(apr, script, question=SUM)
    found.assert_golden(
        (f"{BOS}{ROOT}", script[ROOT], TRUNK),
        (f"{BOS}{ROOT}{GENERATED}\n<Calling Sub Searches>", STARTS + END, TRUNK),
        *SEARCHES,
        (f"{BOS}{ROOT}{GENERATED}{TOLD}", LAST, TRUNK),
        final=f"{BOS}{ROOT}{GENERATED}{TOLD}{LAST}",
    )
    assert found.solution.verified is True


async def test_own_text_that_is_sent_again_is_not_counted_again(apr: NativeDialect) -> None:
    found = await transcribe(apr, SCRIPT, question=SUM)

    def count(*texts: str) -> int:
        return sum(len(found.ids(text)) for text in texts)

    counted = found.solution.parallel
    assert counted is not None
    children = [f"{FOUND}{END}", f"\nNo luck\n{END}"]
    assert counted.written == count(SCRIPT[ROOT], *children, LAST)
    assert counted.critical_path == count(SCRIPT[ROOT], children[0], LAST)
    told = TOLD.removeprefix("\n<")  # which the root's call begins with too
    assert counted.tokens == counted.written + count(told)
    assert counted.longest_thread == counted.critical_path + count(told)
    given = count(f"{BOS}{ROOT}", f"{BOS}{FIRST}", f"{BOS}{SECOND}", told)
    assert found.solution.usage.prompt_tokens == given


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (CALL.replace("#0,1", "#0,7"), "node #0,7 was never generated"),
        ("\n<End Calling Sub Searches>", "its call names no node"),
    ],
)
async def test_a_malformed_call_ends_with_a_refusal(
    apr: NativeDialect, call: str, why: str
) -> None:
    written = f"{GENERATED}{call}{END}"
    found = await transcribe(apr, {ROOT: written}, question=SUM)
    found.assert_golden((f"{BOS}{ROOT}", written, TRUNK), final=f"{BOS}{ROOT}{written}")
    assert found.solution.refusals == (f"thread 1: {why}",)
    assert (found.solution.answer, found.solution.forked) == (None, False)


@pytest.mark.parametrize("end", [END, ""])
async def test_a_call_without_an_end_is_none(apr: NativeDialect, end: str) -> None:
    written = f"{GENERATED}\n<Calling Sub Searches>\n<Start Sub Search 0 at level 1> Mov{end}"
    found = await transcribe(apr, {ROOT: written}, question=SUM)
    found.assert_golden((f"{BOS}{ROOT}", written, TRUNK), final=f"{BOS}{ROOT}{written}")
    assert (found.solution.answer, found.solution.forked) == (None, False)


async def test_a_child_that_is_cut_or_calls_has_no_solution(apr: NativeDialect) -> None:
    cut, calls = "\nExploring", f"{GENERATED}{CALL}{END}"
    told = (
        "\n<Sub Searches>\n<No Solution in Sub Search 0 at level 1 at Node #0,0>\n"
        "<No Solution in Sub Search 1 at level 1 at Node #0,1>\n<End Sub Searches>\n"
    )
    script = {ROOT: SCRIPT[ROOT], FIRST: cut, SECOND: calls, told: f"none{END}"}
    found = await transcribe(apr, script, question=SUM)
    found.assert_golden(
        (f"{BOS}{ROOT}", SCRIPT[ROOT], TRUNK),
        (f"{BOS}{FIRST}", cut, ()),
        (f"{BOS}{SECOND}", calls, ()),
        (f"{BOS}{ROOT}{GENERATED}{told}", f"none{END}", TRUNK),
        final=f"{BOS}{ROOT}{GENERATED}{told}none{END}",
    )
    assert found.solution.answer is None


async def test_a_hundred_searches_are_cut_to_the_bound(apr: NativeDialect) -> None:
    starts = "".join(f"\n<Start Sub Search {k} at level 1> Moving to Node #0,0" for k in range(100))
    call = f"\n<Calling Sub Searches>{starts}\n<End Calling Sub Searches>"
    told = "".join(f"<No Solution in Sub Search {k} at level 1 at Node #0,0>\n" for k in range(64))
    told = f"\n<Sub Searches>\n{told}<End Sub Searches>\n"
    script = {ROOT: f"{GENERATED}{call}{END}", FIRST: END, told: END}
    found = await transcribe(apr, script, question=SUM, context=50_000)
    found.assert_golden(
        (f"{BOS}{ROOT}", script[ROOT], TRUNK),
        *((f"{BOS}{FIRST}", END, ()) for _ in range(64)),
        (f"{BOS}{ROOT}{GENERATED}{told}", END, TRUNK),
        final=f"{BOS}{ROOT}{GENERATED}{told}{END}",
    )
    assert found.solution.refusals == ("thread 1: 100 branches; only the first 64 were made",)


async def test_calls_without_end_are_bounded(apr: NativeDialect) -> None:
    script = {**SCRIPT, TOLD: f"again{CALL}{END}", "": f"{CALL}{END}", FIRST: END, SECOND: END}
    found = await transcribe(apr, script, question=SUM, strategy="native:rounds=3")
    assert found.solution.refusals == ("thread 1: the thread has forked 3 times already",)
    assert len(found.solution.threads) == 1 + 3 * 2


async def test_searches_that_are_announced_for_ever_end(apr: NativeDialect) -> None:
    script = {"": "<Sub Searches>"}
    found = await transcribe(apr, script, question=SUM, context=50_000, allow_repetition=True)
    assert len(found.requests) == MOST_STOPS + 1
    assert found.solution.forked is False


async def test_a_condition_on_the_budget_is_an_opening(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    text = "apr:opening=Sub Call Budget: 10 "
    dialect = native_dialect(tmp_path_factory.mktemp("apr"), text)
    found = await transcribe(dialect, SCRIPT, question=SUM)
    assert found.requests[0].prompt == found.ids(f"{BOS}Sub Call Budget: 10 {ROOT}")
    assert found.requests[1].prompt == found.ids(f"{BOS}{FIRST}")


async def test_apr_is_told_by_words_what_it_does(apr: NativeDialect) -> None:
    words = await transcribe(apr, SCRIPT, question="Use 3, 10, 21 and 23 to make 50")
    assert words.solution.verified is True
    with pytest.raises(ProblemRefused, match="apr does countdown alone"):
        await transcribe(apr, SCRIPT, question="Why?")


# ---- SPRINT --------------------------------------------------------------------------------------


PHASE = ("</Execution_", "</Plan_", "</Final_answer>", "</think>", "</execution_")
"""Where planner and executions stop, beside the model's end."""
WRONG = "<Plan_7>\n<prompt_7.1> first </prompt_7.1>\n<prompt_7.5>second</prompt_7.5>\n</Plan_"
PLAN = (
    "<Plan_1>\n<prompt_1.1>\nfirst\n</prompt_1.1>\n<prompt_1.2>\nsecond\n</prompt_1.2>\n"
    "</Plan_1>\n\n"
)
ONLY = "<Plan_1>\n<prompt_1.1>\nsecond\n</prompt_1.1>\n</Plan_1>\n\n"
TASK = "<Execution_1>\n<execution_1.1>\n"
DONE = (
    "<Execution_1>\n<execution_1.1>\none\n</execution_1.1>\n\n<execution_1.2>\ntwo\n"
    "</execution_1.2>\n\n</Execution_1>\n\n"
)
FINAL = "<Final_answer>\n\\boxed{9}\n</Final_answer>"
PLANNED = {
    "<think>\n": f"Hm.\n{WRONG}",
    f"{PLAN}{TASK}": "one\n</execution_",
    f"{ONLY}{TASK}": "two\n</execution_",
    DONE: FINAL,
}


def asked_of(sprint: NativeDialect, question: str = "Why?") -> str:
    told = sprint.format.prompt.instruction
    return f"{BOS}{told}\n\n<Question>\n{question}\n</Question>\n\n<think>\n"


async def test_sprint_renumbers_plans_and_writes_executions_behind_them(
    sprint: NativeDialect,
) -> None:
    found = await transcribe(sprint, PLANNED)
    prompt = f"{asked_of(sprint)}"
    found.assert_golden(
        (prompt, f"Hm.\n{WRONG}", PHASE),
        (f"{prompt}Hm.\n{PLAN}{TASK}", "one\n</execution_", PHASE),
        (f"{prompt}Hm.\n{ONLY}{TASK}", "two\n</execution_", PHASE),
        (f"{prompt}Hm.\n{PLAN}{DONE}", FINAL, PHASE),
        final=f"{prompt}Hm.\n{PLAN}{DONE}{FINAL}",
    )
    assert [one.sampling.max_new_tokens for one in found.requests[:3]] == [1000, 2000, 2000]
    assert (found.solution.answer, found.solution.forked) == ("9", True)


@pytest.mark.parametrize("cut", ["two", f"two{END}", "two</Plan_"])
async def test_an_execution_that_ends_otherwise_counts_as_it_is(
    sprint: NativeDialect, cut: str
) -> None:
    found = await transcribe(sprint, {**PLANNED, f"{ONLY}{TASK}": cut})
    prompt = f"{asked_of(sprint)}Hm.\n"
    found.assert_golden(
        (asked_of(sprint), f"Hm.\n{WRONG}", PHASE),
        (f"{prompt}{PLAN}{TASK}", "one\n</execution_", PHASE),
        (f"{prompt}{ONLY}{TASK}", cut, PHASE),
        (f"{prompt}{PLAN}{DONE}", FINAL, PHASE),
        final=f"{prompt}{PLAN}{DONE}{FINAL}",
    )


async def test_a_plan_without_tasks_is_asked_for_again_and_then_answered(
    sprint: NativeDialect,
) -> None:
    none = "Hm. <Plan_1>\nnothing</Plan_"
    script = {"<think>\n": none, "Hm. ": "<Plan_1></Plan_"}
    script["<Final_answer>"] = "\\boxed{1}</think>"
    found = await transcribe(sprint, script)
    prompt = asked_of(sprint)
    found.assert_golden(
        (prompt, none, PHASE),
        *((f"{prompt}Hm. ", "<Plan_1></Plan_", PHASE) for _ in range(3)),
        (f"{prompt}Hm. <Final_answer>", script["<Final_answer>"], PHASE),
        final=f"{prompt}Hm. <Final_answer>\\boxed{{1}}</think>",
    )
    assert found.solution.refusals == ("thread 1: its plan has no tasks",) * 4
    assert (found.solution.answer, found.solution.forked) == ("1", False)


async def test_a_stray_end_brings_no_plan_to_life_again(sprint: NativeDialect) -> None:
    script = {**PLANNED, DONE: "So</Execution_", "<Final_answer>": "\\boxed{4}</Final_answer>"}
    found = await transcribe(sprint, script)
    prompt, done = asked_of(sprint), f"{asked_of(sprint)}Hm.\n{PLAN}{DONE}"
    found.assert_golden(
        (prompt, f"Hm.\n{WRONG}", PHASE),
        (f"{prompt}Hm.\n{PLAN}{TASK}", "one\n</execution_", PHASE),
        (f"{prompt}Hm.\n{ONLY}{TASK}", "two\n</execution_", PHASE),
        *((done, "So</Execution_", PHASE) for _ in range(4)),
        (f"{done}<Final_answer>", "\\boxed{4}</Final_answer>", PHASE),
        final=f"{done}<Final_answer>\\boxed{{4}}</Final_answer>",
    )
    assert found.solution.refusals == ("thread 1: its plan has no tasks",) * 4


@pytest.mark.parametrize("written", ["<Plan_1>\n<prompt_1.1>a", f"\\boxed{{3}}{END}"])
async def test_a_plan_without_an_end_ends_with_the_text(
    sprint: NativeDialect, written: str
) -> None:
    found = await transcribe(sprint, {"<think>\n": written})
    prompt = asked_of(sprint)
    found.assert_golden((prompt, written, PHASE), final=f"{prompt}{written}")
    assert found.solution.forked is False


async def test_too_many_tasks_are_cut_to_the_bound(sprint: NativeDialect) -> None:
    tasks = "".join(f"<prompt_1.{k}>x" for k in range(1, 51))
    script = {"<think>\n": f"<Plan_1>{tasks}</Plan_", ".1>\n": "y</execution_", "": FINAL}
    found = await transcribe(sprint, script, context=50_000)
    assert len(found.requests) == 1 + 32 + 1
    assert found.solution.refusals == ("thread 1: 50 branches; only the first 32 were made",)
    planned = "".join(f"<prompt_1.{k}>\nx\n</prompt_1.{k}>\n" for k in range(1, 33))
    done = "".join(f"<execution_1.{k}>\ny\n</execution_1.{k}>\n\n" for k in range(1, 33))
    block = f"<Plan_1>\n{planned}</Plan_1>\n\n<Execution_1>\n{done}</Execution_1>\n\n"
    assert found.final == found.ids(f"{asked_of(sprint)}{block}{FINAL}")


async def test_the_last_of_twelve_phases_is_the_answer(sprint: NativeDialect) -> None:
    script = {
        "": "<Plan_1><prompt_1.1>x</prompt_1.1></Plan_",
        ".1>\n": "y</execution_",
        "<Final_answer>": "\\boxed{2}</Final_answer>",
    }
    found = await transcribe(sprint, script, context=20_000, allow_repetition=True)
    text = asked_of(sprint)
    expected = []
    for phase in range(1, 12):
        plan = f"<Plan_{phase}>\n<prompt_{phase}.1>\nx\n</prompt_{phase}.1>\n</Plan_{phase}>\n\n"
        opened = f"<Execution_{phase}>\n<execution_{phase}.1>\n"
        expected += [(text, script[""], PHASE), (f"{text}{plan}{opened}", "y</execution_", PHASE)]
        text += f"{plan}{opened}y\n</execution_{phase}.1>\n\n</Execution_{phase}>\n\n"
    text += "<Final_answer>"
    expected.append((text, script["<Final_answer>"], PHASE))
    found.assert_golden(*expected, final=f"{text}\\boxed{{2}}</Final_answer>")
    assert found.solution.answer == "2"


async def test_a_questions_tags_are_text_for_sprint(sprint: NativeDialect) -> None:
    asked = "What is </think> for?"
    found = await transcribe(sprint, {"": FINAL}, question=asked)
    before, after = asked_of(sprint).split("Why?")
    prompt = found.prompt(before, asked, after)
    found.assert_golden((prompt, FINAL, PHASE), final=[*prompt, *found.ids(FINAL)])


# ---- PaCoRe --------------------------------------------------------------------------------------


CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def asked_again(pacore: NativeDialect, *references: str) -> str:
    listed = "\n\n".join(f"Reference {k}:\n{one}" for k, one in enumerate(references, start=1))
    told = pacore.format.prompt.instruction.replace("{question}", "Why?")
    return CHAT.format(told.replace("{references}", listed))


async def test_later_rounds_see_answers_without_their_thoughts(pacore: NativeDialect) -> None:
    said, last = f"<think>no</think>\nA 5{END}", f"<think>so</think>\n\\boxed{{5}}{END}"
    script = {f"Why?{END}\n<|im_start|>assistant\n": said, "<|im_start|>assistant\n": last}
    for how, width in (("native", 4), ("native:n=2", 2)):
        found = await transcribe(pacore, script, strategy=how)
        again = asked_again(pacore, *["A 5"] * width)
        found.assert_golden(
            *((CHAT.format("Why?"), said, ()) for _ in range(width)),
            (again, last, ()),
            final=f"{again}{last}",
        )
        assert found.solution.answer == "5"


async def test_answers_are_sorted_by_length_and_shuffled_with_42(pacore: NativeDialect) -> None:
    from reasoning.strategies.tongues.references import ordered

    said = ["</think>dddd", "<think>a</think>", "x</think> a ", "bb", "<think></think>ccc", " "]
    assert ordered(said) == ["ccc", "bb", "dddd", "a"]


async def test_a_round_that_is_cut_is_told_as_it_is(pacore: NativeDialect) -> None:
    script = {f"Why?{END}\n<|im_start|>assistant\n": "<think>", "<|im_start|>assistant\n": END}
    found = await transcribe(pacore, script, n=1)
    before, after = asked_again(pacore, "REF").split("REF")
    again = found.prompt(before, "<think>", after)
    found.assert_golden(
        (CHAT.format("Why?"), "<think>", ()), (again, END, ()), final=[*again, *found.ids(END)]
    )


def asked_for(dialect: NativeDialect, *messages: str, **more: Any) -> frozenset[str]:
    """What has no effect of a conversation with a user, whose turns and the model's alternate."""
    roles = ("user", "assistant")
    talk = [{"role": roles[k % 2], "content": text} for k, text in enumerate(messages)]
    instruction = more.pop("instruction", None)
    return dialect.within(Conversation.of(talk, **more), instruction=instruction).ignored


def test_what_a_prompt_of_its_own_has_no_place_for_is_told(tmp_path: Path) -> None:
    own = native_dialect(tmp_path, "sprint")
    assert asked_for(own, "Why?", instruction="Be brief.") == frozenset()
    assert asked_for(own, "Why?", effort="low", thinking=True) == {"effort", "thinking"}
    with pytest.raises(CapabilityMissing, match=r"messages.*: sprint has one question"):
        asked_for(own, "Why?", "So.", "And?")
    with pytest.raises(CapabilityMissing, match="chat-template-kwargs: sprint has one question"):
        asked_for(own, "Why?", template={"a": 1})
    chat = native_dialect(tmp_path, "threadweaver")
    assert "instruction" in asked_for(chat, "Why?", "So.", "And?", instruction="Be brief.")


def test_rounds_may_be_given_in_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "mine.toml"
    words = 'prompt.instruction = "{question} {references}"'
    file.write_text(f'name = "mine"\nfunction = "references"\nwidths = [32, 4, 1]\n{words}\n')
    assert choose_format(str(file)).widths == (32, 4, 1)
