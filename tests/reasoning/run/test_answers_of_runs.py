"""What a user is told of an answer: the question as it was asked, where the answer stood, ties."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.errors import InvalidValue
from pruning import Tally
from reasoning import Reasoner, load_model
from reasoning.backends.text import TextBackend
from reasoning.problems import FreeForm
from reasoning.run.run import Run
from reasoning.run.solution import Solution
from reasoning.strategies import Multiverse
from reasoning.values.sampling import Sampling

pytestmark = pytest.mark.anyio

COUNTDOWN = "Use 3, 10, 21 and 23 to make 50"


class Replies(TextBackend):
    """Gives the next of its replies to each request."""

    name = "replies"

    def __init__(self, *replies: str) -> None:
        super().__init__(context=4000)
        self.replies = list(replies)
        self.asked: list[str] = []

    async def write(
        self, messages: list[dict[str, str]], sampling: Sampling, *, most: int
    ) -> AsyncIterator[str]:
        self.asked.append(messages[-1]["content"])
        yield self.replies.pop(0)


async def solved(question: str | FreeForm, *replies: str, **options: Any) -> Solution:
    options.setdefault("strategy", "single" if len(replies) == 1 else "self-consistency")
    if options["strategy"] == "self-consistency":
        options.setdefault("policy", f"sc:n={len(replies)}")
    async with Reasoner(load_model(backend=Replies(*replies))) as reasoner:
        return await reasoner.solve(question, **options)


def a_run(backend: Replies, problem: FreeForm) -> Run:
    dialect, context = backend.dialect, backend.context
    return Run(problem=problem, backend=backend, dialect=dialect, max_tokens=context)


@pytest.mark.parametrize(
    "question", ["  def f(x):\n\treturn x  # what?\n", f"{COUNTDOWN}\n", "Ünï\r\nx\u2028y"]
)
async def test_a_question_arrives_word_for_word(question: str) -> None:
    backend = Replies("\\boxed{1}")
    async with Reasoner(load_model(backend=backend)) as reasoner:
        solution = await reasoner.solve(question)
    assert backend.asked[0].startswith(question)
    assert solution.problem.question == question
    assert solution.problem.domain == "free-form"


@pytest.mark.parametrize(
    "question",
    [
        "A shop sells boxes with 6, 12 and 24 eggs. Use 6, 12 and 24 to make 100",
        "Use 1, 1, 1 and 1 to make 99",
        "Compute (3+4",
        "List 900 multiples of 900",
    ],
)
async def test_no_limit_of_the_shipped_model_refuses_another_model(question: str) -> None:
    solution = await solved(question, "The answer is 3.")
    assert solution.answer == "3"
    assert solution.verified is None


async def test_a_stated_domain_verifies_any_models_answer() -> None:
    right = await solved(COUNTDOWN, r"So \boxed{10(23 - (21 - 3)) = 50}.")
    wrong = await solved(COUNTDOWN, r"\boxed{50}")
    assert right.verified is True
    assert wrong.verified is False


async def test_a_solution_says_where_its_answer_stood() -> None:
    solution = await solved("How many?", "<think>Hm, 5?</think>The answer is 7. Done.")
    assert (solution.answer, solution.answer_source) == ("7", "cue")
    assert solution.final_text == "The answer is 7. Done."
    report = solution.report()
    assert (report.answer_source, report.final_text) == ("cue", "The answer is 7. Done.")
    assert report.threads[0].answer_source == "cue"
    assert report.domain == "free-form"


async def test_a_solution_without_an_answer_has_its_text() -> None:
    solution = await solved("How many?", "There may be 7, or 8.")
    assert (solution.answer, solution.answer_source) == (None, "none")
    assert solution.final_text == "There may be 7, or 8."


async def test_equal_answers_vote_together() -> None:
    replies = [rf"\boxed{{{form}}}" for form in (r"\frac12", "1/2", "0.5", "2")]
    solution = await solved("What is half?", *replies)
    assert list(solution.votes.values()) == [3, 1]
    assert not solution.tied


async def test_answers_that_algebra_equates_vote_together_and_are_told() -> None:
    replies = [rf"\boxed{{{form}}}" for form in (r"\sqrt8", "3", r"2\sqrt2")]
    solution = await solved("How long is the diagonal?", *replies)
    assert (solution.answer, solution.votes) == (r"\sqrt8", {"√8": 2, "3": 1})
    assert solution.merged == solution.report().merged == {"2√2": "√8"}


async def test_votes_that_no_policy_counted_are_merged_too() -> None:
    backend = Replies(r"\boxed{\sqrt8}", r"\boxed{2\sqrt2}", r"\boxed{3}")
    run = a_run(backend, FreeForm(question="How long is the diagonal?"))
    tally = Tally(winner="3", votes={"3": 2, "√8": 1, "2√2": 2}, abstained=1)
    found = await run.merged(tally)
    assert (found.winner, found.votes, found.abstained) == ("√8", {"√8": 3, "3": 2}, 1)


async def test_a_domains_keys_are_never_merged_by_algebra() -> None:
    ways = ("(23-(21-3))*10", "10*(3+23-21)")
    solution = await solved(COUNTDOWN, *(rf"\boxed{{{way}}}" for way in ways))
    assert solution.merged == {}


@pytest.mark.parametrize("forms", [("1", "2", "3", "4"), ("1", "2", "1", "2")])
async def test_a_tie_is_told(forms: tuple[str, ...]) -> None:
    solution = await solved("How many?", *(rf"\boxed{{{form}}}" for form in forms))
    assert solution.tied
    assert solution.report().tied
    assert solution.confidence <= 0.5


async def test_the_asked_form_of_an_answer_is_read_and_no_box_is_asked_for() -> None:
    backend = Replies("Roses are red.")
    async with Reasoner(load_model(backend=backend)) as reasoner:
        solution = await reasoner.solve("Write a line.", answer="text")
    assert (solution.answer, solution.answer_source) == ("Roses are red.", "text")
    assert backend.asked[0].strip() == "Write a line."


async def test_a_domains_problem_takes_no_other_form() -> None:
    with pytest.raises(InvalidValue, match="answer: a countdown answer has a form of its own"):
        await solved(COUNTDOWN, "50", domain="countdown", answer="json")


async def test_a_thread_answers_by_its_own_words_only() -> None:
    backend = Replies("Plan.\n1: count\n2: add", "5", "6", "The answer is 11.")
    async with backend:
        run = a_run(backend, FreeForm(question="How many?"))
        tally = await Multiverse(n=2).solve(run)
    assert tally.winner == "11"
    threads = list(run.threads.values())
    assert any("Do part 1" in thread.text for thread in threads)
    assert {thread.own_text for thread in threads} == {
        "Plan.\n1: count\n2: add\n\nThe answer is 11.",
        "5",
        "6",
    }


# ---- ties ----------------------------------------------------------------------------------------


async def test_a_tie_may_cost_more_samples_until_one_leads() -> None:
    replies = [rf"\boxed{{{n}}}" for n in (1, 2, 1, 2, 3, 2)]
    solution = await solved("How many?", *replies, policy="sc:n=4", on_tie="more")
    assert (solution.answer, solution.votes) == ("2", {"2": 3, "1": 2, "3": 1})
    assert not solution.tied
    assert solution.steering is not None
    assert solution.steering.policy == "sc:n=4, more on a tie"
    assert solution.steering.finish.reason == "3 votes to 2 after 2 more"


async def test_no_more_samples_than_as_many_again_are_spent_on_a_tie() -> None:
    replies = [rf"\boxed{{{n}}}" for n in (1, 2, 3, 4, 5, 6, 7, 8)]
    solution = await solved("How many?", *replies, policy="sc:n=4", on_tie="more")
    assert (len(solution.threads), solution.answer, solution.tied) == (8, "1", True)


async def test_too_little_agreement_may_count_as_a_tie() -> None:
    replies = [rf"\boxed{{{n}}}" for n in (1, 1, 2, 3, 1)]
    rest = {"on_tie": "more", "min_confidence": 0.6}
    solution = await solved("How many?", *replies, policy="sc:n=4", **rest)
    assert (solution.answer, len(solution.threads), solution.confidence) == ("1", 5, 0.6)


@pytest.mark.parametrize(
    ("forms", "least", "why"),
    [
        ((1, 2, 1, 2), 0.0, "tied 2 to 2"),
        ((1, 2, 3, 4), 0.0, "tied 1 to 1"),
        ((1, 1, 2, 3), 0.75, "confidence 50% is below 75%"),
        ((1, 1, 2, 3), 0.5, None),
    ],
)
async def test_a_tie_may_have_no_answer(forms: tuple[int], least: float, why: str | None) -> None:
    replies = [rf"\boxed{{{n}}}" for n in forms]
    solution = await solved("How many?", *replies, on_tie="abstain", min_confidence=least)
    assert (solution.abstained, solution.answer) == (why, None if why else "1")
    assert solution.report().abstained == why
    assert sum(solution.votes.values()) == 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"on_tie": "guess"}, "on-tie: 'guess' does not exist; choose first, more, abstain"),
        ({"select": "best"}, "select: 'best' does not exist"),
        ({"min_confidence": 2.0, "on_tie": "more"}, "min-confidence: 2.0 is out of range"),
        ({"min_confidence": 0.5}, "min-confidence: it is for --on-tie more or abstain"),
        ({"strategy": "single", "on_tie": "more"}, "on-tie: strategy 'single' has one sample"),
    ],
)
async def test_what_can_not_decide_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        await solved("How many?", r"\boxed{1}", **wrong)


# ---- open questions ------------------------------------------------------------------------------

TEXTS = (
    "Bread had become dear after two bad harvests, and the crown was deep in debt.",
    "It began because of a comet.",
    "Two bad harvests had made bread dear, and the crown could not pay its debts.",
)
WHY = "Why did the revolution begin?"


@pytest.mark.parametrize(
    "choice",
    [
        "3",
        "Answer 3",
        "**Answer 3**",
        "The answer is 3.",
        "My choice is answer number 3: it says what answer 1 says.",
        r"\boxed{3}",
        "<think>Answer 1? No.</think>The answer that agrees most with the others is Answer 3.",
        "Answer 3 says the same as Answer 1.",
        "Answers 1 and 3 name harvests, answer 2 does not.  The best is therefore answer #3.",
    ],
)
async def test_of_texts_the_one_that_the_model_chooses_is_the_answer(choice: str) -> None:
    solution = await solved(WHY, *TEXTS, choice, strategy="self-consistency", policy="sc:n=3")
    assert (solution.answer, solution.selected_by) == (TEXTS[2], "usc")
    assert sorted(solution.votes.values()) == [1, 1, 1]
    assert solution.confidence == pytest.approx(1 / 3)
    assert solution.report().selected_by == "usc"
    chooser = solution.threads[-1]
    assert (chooser.name, chooser.answer) == ("choose", None)
    assert solution.usage.completion_tokens == sum(thread.tokens for thread in solution.threads)
    assert solution.usage.span_tokens > max(thread.context for thread in solution.threads[:3])


@pytest.mark.parametrize("choice", ["", "Answer 4", "1 or 3", "Answer 1 and Answer 3", "None", "0"])
async def test_a_choice_that_can_not_be_read_is_told_and_made_otherwise(choice: str) -> None:
    first = await solved(WHY, *TEXTS, choice, policy="sc:n=3", select="usc")
    assert first.selected_by in ("medoid", "first")
    assert "usc-unread" in first.emulated


async def test_the_medoid_of_texts_is_the_one_nearest_to_the_others() -> None:
    solution = await solved(WHY, TEXTS[1], TEXTS[0], TEXTS[2], policy="sc:n=3", select="medoid")
    assert solution.selected_by == "medoid"
    assert solution.answer in (TEXTS[0], TEXTS[2])
    assert len(solution.threads) == 3


async def test_texts_that_agree_are_votes() -> None:
    solution = await solved(WHY, TEXTS[1], TEXTS[0], TEXTS[0].upper())
    assert (solution.answer, solution.selected_by) == (TEXTS[0], "votes")


async def test_the_first_text_may_be_asked_for_and_is_no_decision() -> None:
    solution = await solved(WHY, *TEXTS, select="first")
    assert (solution.answer, solution.selected_by) == (TEXTS[0], "first")
    abstained = await solved(WHY, *TEXTS, select="first", on_tie="abstain")
    assert (abstained.answer, abstained.abstained) == (None, "tied 1 to 1")


async def test_boxed_answers_vote_whatever_the_question() -> None:
    solution = await solved(WHY, r"\boxed{a}", r"\boxed{b}")
    assert (solution.tied, solution.selected_by, len(solution.threads)) == (True, "votes", 2)


async def test_long_texts_are_cut_to_fit_the_choice() -> None:
    long = [f"{n} " + " ".join(f"word{at * n}" for at in range(3000)) for n in (1, 2, 3)]
    solution = await solved(WHY, *long, "2", policy="sc:n=3")
    assert (solution.answer, solution.selected_by) == (long[1].strip(), "usc")
    assert "paths-cut" in solution.emulated


async def test_a_choice_without_room_is_told_and_made_otherwise() -> None:
    solution = await solved(WHY, *TEXTS, policy="sc:n=3", max_tokens=150)
    assert solution.selected_by in ("medoid", "first")
    assert "usc-no-room" in solution.emulated
