"""APR's, SPRINT's and PaCoRe's transcripts: tongues in plain text."""

from __future__ import annotations

import pytest

from reasoning.errors import ProblemRefused
from reasoning.language.native.catalog import choose_format
from reasoning.language.native.dialect import NativeDialect
from reasoning.problems import Countdown
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


async def test_apr_rebuilds_states_and_replaces_the_call(apr: NativeDialect) -> None:
    found = await transcribe(apr, SCRIPT, question=SUM)
    assert found.requests[0].prompt == found.ids(f"{BOS}{ROOT}")
    assert [one.prompt for one in found.requests[1:3]] == [
        found.ids(f"{BOS}{FIRST}"),
        found.ids(f"{BOS}{SECOND}"),
    ]
    assert found.requests[3].prompt == found.ids(f"{BOS}{ROOT}{GENERATED}{TOLD}")
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
    again = f"{BOS}{ROOT}{GENERATED}\n<Calling Sub Searches>"
    assert found.requests[1].prompt == found.ids(again)
    assert found.requests[-1].prompt == found.ids(f"{BOS}{ROOT}{GENERATED}{TOLD}")
    assert found.solution.verified is True


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
    found = await transcribe(apr, {ROOT: f"{GENERATED}{call}{END}"}, question=SUM)
    assert found.solution.refusals == (f"thread 1: {why}",)
    assert (found.solution.answer, found.solution.forked) == (None, False)


async def test_calls_without_end_are_bounded(apr: NativeDialect) -> None:
    script = {**SCRIPT, TOLD: f"again{CALL}{END}", "": f"{CALL}{END}", FIRST: END, SECOND: END}
    found = await transcribe(apr, script, question=SUM, strategy="native:rounds=3")
    assert found.solution.refusals == ("thread 1: the thread has forked 3 times already",)
    assert len(found.solution.threads) == 1 + 3 * 2


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


async def test_sprint_renumbers_plans_and_writes_executions_behind_them(
    sprint: NativeDialect,
) -> None:
    told = sprint.format.prompt.instruction
    prompt = f"{BOS}{told}\n\n<Question>\nWhy?\n</Question>\n\n<think>\n"
    wrong = "<Plan_7>\n<prompt_7.1> first </prompt_7.1>\n<prompt_7.5>second</prompt_7.5>\n</Plan_"
    plan = (
        "<Plan_1>\n<prompt_1.1>\nfirst\n</prompt_1.1>\n<prompt_1.2>\nsecond\n</prompt_1.2>\n"
        "</Plan_1>\n\n"
    )
    only = "<Plan_1>\n<prompt_1.1>\nsecond\n</prompt_1.1>\n</Plan_1>\n\n"
    task = "<Execution_1>\n<execution_1.1>\n"
    done = (
        "<Execution_1>\n<execution_1.1>\none\n</execution_1.1>\n\n<execution_1.2>\ntwo\n"
        "</execution_1.2>\n\n</Execution_1>\n\n"
    )
    final = "<Final_answer>\n\\boxed{9}\n</Final_answer>"
    script = {
        "<think>\n": f"Hm.\n{wrong}",
        f"{plan}{task}": "one\n</execution_",
        f"{only}{task}": "two\n</execution_",
        done: final,
    }
    found = await transcribe(sprint, script)
    assert [one.prompt for one in found.requests] == [
        found.ids(prompt),
        found.ids(f"{prompt}Hm.\n{plan}{task}"),
        found.ids(f"{prompt}Hm.\n{only}{task}"),
        found.ids(f"{prompt}Hm.\n{plan}{done}"),
    ]
    assert (found.solution.answer, found.solution.forked) == ("9", True)


async def test_a_plan_without_tasks_is_asked_for_again_and_then_answered(
    sprint: NativeDialect,
) -> None:
    script = {"<think>\n": "<Plan_1>\nnothing</Plan_", "<Final_answer>": "\\boxed{1}</think>"}
    found = await transcribe(sprint, script)
    assert found.solution.refusals == ("thread 1: its plan has no tasks",) * 4
    assert (found.solution.answer, found.solution.forked) == ("1", False)


async def test_the_last_phase_is_the_answer(sprint: NativeDialect) -> None:
    script = {
        "": "<Plan_1><prompt_1.1>x</prompt_1.1></Plan_",
        "<execution_": "",
        ".1>\n": "y</execution_",
        "<Final_answer>": "\\boxed{2}</Final_answer>",
    }
    found = await transcribe(sprint, script, context=20_000, allow_repetition=True)
    assert len(found.requests) == 12 * 2 + 1
    assert found.solution.answer == "2"


# ---- PaCoRe --------------------------------------------------------------------------------------


async def test_later_rounds_see_answers_without_their_thoughts(pacore: NativeDialect) -> None:
    script = {
        f"Why?{END}\n<|im_start|>assistant\n": f"<think>no</think>\nA 5{END}",
        "<|im_start|>assistant\n": f"<think>so</think>\n\\boxed{{5}}{END}",
    }
    found = await transcribe(pacore, script)
    assert len(found.requests) == 4 + 1
    listed = "\n\n".join(f"Reference {k}:\nA 5" for k in range(1, 5))
    told = pacore.format.prompt.instruction.replace("{question}", "Why?")
    told = told.replace("{references}", listed)
    asked = f"<|im_start|>user\n{told}<|im_end|>\n<|im_start|>assistant\n"
    assert found.requests[-1].prompt == found.ids(asked)
    assert found.solution.answer == "5"
    wide = await transcribe(pacore, script, n=2)
    assert len(wide.requests) == 2 + 1


def test_rounds_may_be_given_in_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nfunction = "references"\nwidths = [32, 4, 1]\n')
    assert choose_format(str(file)).widths == (32, 4, 1)
