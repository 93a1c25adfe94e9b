"""ParaThinker's, Parallel-R1's and SSFT's transcripts, token for token."""

from __future__ import annotations

import pytest

from reasoning.language.native.dialect import NativeDialect
from reasoning.strategies.tongues.speaker import MOST_STOPS
from tests.support.native_tools import END, native_dialect, transcribe

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def parathinker(tmp_path_factory: pytest.TempPathFactory) -> NativeDialect:
    return native_dialect(tmp_path_factory.mktemp("parathinker"), "parathinker")


@pytest.fixture(scope="module")
def parallel_r1(tmp_path_factory: pytest.TempPathFactory) -> NativeDialect:
    return native_dialect(tmp_path_factory.mktemp("parallel-r1"), "parallel-r1-unseen")


@pytest.fixture(scope="module", params=["parallel-r1-unseen", "parallel-r1-seen"])
def either_r1(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> NativeDialect:
    return native_dialect(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def ssft(tmp_path_factory: pytest.TempPathFactory) -> NativeDialect:
    return native_dialect(tmp_path_factory.mktemp("ssft"), "ssft")


# ---- ParaThinker ---------------------------------------------------------------------------------

FORCED = (
    "<summary>By analyzing multiple reasoning processes above, I concluded that: "
    "The final answer is"
)
SUMMED = " \\boxed{5}</summary>"


CLOSERS = ("</think>", *(f"</think{i}>" for i in range(1, 9)), "</summary>")
PATHS = (*CLOSERS, *(f"<think{i}>" for i in range(1, 9)), "<summary>")
"""Where a path stops beside the model's end, which ends nothing; a summary stops at the closers."""


def prompt_of(dialect: NativeDialect, question: str = "Why?") -> str:
    """Two tokens that begin a text, and pads up to a multiple of 16 behind ``<think>``."""
    told = dialect.format.prompt.instruction
    text = f"<|endoftext|><|endoftext|><｜User｜>{question} {told}<｜Assistant｜><think>"
    return text + "<vllm_pad>" * (-len(dialect.encode(text)) % 16)


async def test_the_first_path_to_end_cuts_the_others(parathinker: NativeDialect) -> None:
    prompt = prompt_of(parathinker)
    script = {
        "<think1>": "a long, long way that goes on",
        "<think2>": "two</think>",
        FORCED: SUMMED,
    }
    found = await transcribe(parathinker, script, "kv-join", n=2, context=2048)
    wrote = parathinker.tongue.text_of(found.requests[0].written)  # before it heard of its end
    cut = "a lon"  # as many tokens as the second has; "on" is one
    assert wrote.startswith(cut)
    joined = f"{prompt}<think1>{cut}<think2>two</think2>{FORCED}"
    found.assert_golden(
        (f"{prompt}<think1>", wrote, PATHS),
        (f"{prompt}<think2>", "two</think>", PATHS),
        (joined, SUMMED, CLOSERS),
        final=f"{joined}{SUMMED}",
    )
    assert len(found.ids(prompt)) % 16 == 0
    assert [one.path for one in found.requests] == [1, 2, 0]
    assert found.solution.answer == "5"
    assert found.requests[-1].sampling.max_new_tokens == 128


async def test_a_path_is_cut_before_what_was_rewritten_later(parathinker: NativeDialect) -> None:
    prompt = prompt_of(parathinker)
    script = {
        "<think1>": "abcdefg<summary>",
        "g<think1>": "h" * 40,
        "<think2>": "x<summary>",
        "x<think1>": "y<summary>",
        "y<think1>": "z</think>",
        FORCED: SUMMED,
    }
    found = await transcribe(parathinker, script, "kv-join", n=2, context=2048)
    paths = "<think1>abcdef<think2>x<think1>y<think1>z</think2>"
    assert found.final == found.ids(f"{prompt}{paths}{FORCED}{SUMMED}")


async def test_paths_that_all_are_cut_are_joined_as_they_stand(parathinker: NativeDialect) -> None:
    prompt = prompt_of(parathinker)
    script = {"<think1>": "one", "<think2>": "two", FORCED: SUMMED}
    found = await transcribe(parathinker, script, "kv-join", n=2, context=2048)
    joined = f"{prompt}<think1>one<think2>two{FORCED}"
    found.assert_golden(
        (f"{prompt}<think1>", "one", PATHS),
        (f"{prompt}<think2>", "two", PATHS),
        (joined, SUMMED, CLOSERS),
        final=f"{joined}{SUMMED}",
    )


async def test_an_instructions_tags_are_tokens_and_a_questions_are_text(
    parathinker: NativeDialect,
) -> None:
    asked = "Is <think3> or </think> a tag?"
    script = {"<think1>": "a</think1>", FORCED: SUMMED}
    found = await transcribe(parathinker, script, "kv-join", n=1, context=2048, question=asked)
    before, after = prompt_of(parathinker).replace("<vllm_pad>", "").split("Why?")
    prompt = found.prompt(before, asked, after)
    prompt += found.ids("<vllm_pad>") * (-len(prompt) % 16)
    assert parathinker.tongue.ids["<summary>"] in prompt
    joined = [*prompt, *found.ids(f"<think1>a</think1>{FORCED}")]
    found.assert_golden(
        ([*prompt, *found.ids("<think1>")], "a</think1>", PATHS),
        (joined, SUMMED, CLOSERS),
        final=[*joined, *found.ids(SUMMED)],
    )


async def test_stray_tags_are_rewritten_where_they_stand(parathinker: NativeDialect) -> None:
    prompt = prompt_of(parathinker)
    script = {"<think1>": "x<summary>", "x<think1>": "y<think3>", "y<think1>": "z</summary>"}
    script[FORCED] = SUMMED
    found = await transcribe(parathinker, script, "kv-join", n=1, context=2048)
    joined = f"{prompt}<think1>x<think1>y<think1>z</think1>{FORCED}"
    found.assert_golden(
        (f"{prompt}<think1>", "x<summary>", PATHS),
        (f"{prompt}<think1>x<think1>", "y<think3>", PATHS),
        (f"{prompt}<think1>x<think1>y<think1>", "z</summary>", PATHS),
        (joined, SUMMED, CLOSERS),
        final=f"{joined}{SUMMED}",
    )


async def test_an_end_token_ends_neither_path_nor_summary(parathinker: NativeDialect) -> None:
    prompt = prompt_of(parathinker)
    script = {"<think1>": f"a{END}", f"a{END}": "b</think1>", FORCED: f"c{END}", f"c{END}": SUMMED}
    found = await transcribe(parathinker, script, "kv-join", n=1, context=2048)
    joined = f"{prompt}<think1>a{END}b</think1>{FORCED}"
    found.assert_golden(
        (f"{prompt}<think1>", f"a{END}", PATHS),
        (f"{prompt}<think1>a{END}", "b</think1>", PATHS),
        (joined, f"c{END}", CLOSERS),
        (f"{joined}c{END}", SUMMED, CLOSERS),
        final=f"{joined}c{END}{SUMMED}",
    )


@pytest.mark.parametrize("ends", ["", "</think3>"])
async def test_a_summary_ends_with_its_own_end(parathinker: NativeDialect, ends: str) -> None:
    prompt, summary = prompt_of(parathinker), f" \\boxed{{6}}{ends}"
    script = {"<think1>": "a</think1>", FORCED: summary}
    found = await transcribe(parathinker, script, "kv-join", n=1, context=2048)
    joined = f"{prompt}<think1>a</think1>{FORCED}"
    found.assert_golden(
        (f"{prompt}<think1>", "a</think1>", PATHS),
        (joined, summary, CLOSERS),
        final=f"{joined} \\boxed{{6}}</summary>",
    )
    assert found.solution.answer == "6"


async def test_an_end_that_is_written_over_and_over_ends_the_path(
    parathinker: NativeDialect,
) -> None:
    script = {"<think1>": "<think2>", FORCED: SUMMED}
    found = await transcribe(parathinker, script, "kv-join", n=1, allow_repetition=True)
    assert len(found.requests) == MOST_STOPS + 1 + 1
    assert found.solution.refusals == (f"thread 1.1: it stopped {MOST_STOPS} times in vain",)
    assert found.solution.answer == "5"


@pytest.mark.parametrize(("which", "later"), [("trained", 0), ("engine", 1)])
async def test_the_summary_stands_where_it_was_asked_for(
    parathinker: NativeDialect, which: str, later: int
) -> None:
    script = {"<think1>": "a" * 20 + "</think1>", FORCED: SUMMED}
    how = f"native:positions={which}"
    found = await transcribe(parathinker, script, "kv-join", context=2048, strategy=how, n=1)
    prompt = len(found.ids(prompt_of(parathinker)))
    length = 22
    if which == "engine":  # filled up to a multiple of its blocks
        length = 32
        assert (
            found.requests[-1].prompt[prompt + 22 : prompt + 32]
            == [parathinker.tongue.ids["<vllm_pad>"]] * 10
        )
    assert found.requests[0].start == prompt
    assert found.requests[-1].start == prompt + length + later * prompt


async def test_text_alone_has_neither_the_geometry_nor_the_vectors(
    parathinker: NativeDialect,
) -> None:
    script = {"<think1>": "a</think1>", FORCED: SUMMED}
    found = await transcribe(parathinker, script, n=1, context=2048)
    assert found.solution.emulated == ("text-join", "without-path-vectors")
    assert [one.path for one in found.requests] == [0, 0]


async def test_the_authors_width_is_four_and_eight_the_most(parathinker: NativeDialect) -> None:
    ends = {f"<think{i}>": f"{'a' * 50}</think{i}>" for i in range(1, 9)}
    script = {**ends, FORCED: SUMMED}
    four = await transcribe(parathinker, script, "kv-join", context=4096)
    assert len(four.solution.threads) == 4 + 1
    more = await transcribe(parathinker, script, "kv-join", context=4096, n=20)
    assert len(more.solution.threads) == 8 + 1
    assert more.solution.refusals == ("thread 1: 20 branches; only the first 8 were made",)


# ---- Parallel-R1 ---------------------------------------------------------------------------------

TEXT = "Hm.\n\n<Parallel>"
PATH = "one way</Path>"
SHORT = "both agree</Summary>"
LAST = f"\n\nFinal Answer: 12{END}"
BLOCK = f"<Path>{PATH}<Path>{PATH}</Parallel>\n<Summary>"
R1 = {"assistant\n": TEXT, "<Path>": PATH, "<Summary>": SHORT, "</Summary>": LAST}
MAIN, WAY = ("<Parallel>", "</Summary>"), ("</Path>",)
"""Where the trunk and a path stop, beside the model's end."""


def r1_prompt(dialect: NativeDialect, question: str = "Why?") -> str:
    told = dialect.format.prompt.instruction
    return f"<|im_start|>user\n{told}\n\nProblem: {question}<|im_end|>\n<|im_start|>assistant\n"


async def test_two_equal_paths_differ_by_their_seed_alone(either_r1: NativeDialect) -> None:
    found = await transcribe(either_r1, R1)
    prompt = r1_prompt(either_r1)
    found.assert_golden(
        (prompt, TEXT, MAIN),
        (f"{prompt}{TEXT}<Path>", PATH, WAY),
        (f"{prompt}{TEXT}<Path>", PATH, WAY),
        (f"{prompt}{TEXT}{BLOCK}", SHORT, MAIN),
        (f"{prompt}{TEXT}{BLOCK}{SHORT}", LAST, MAIN),
        final=f"{prompt}{TEXT}{BLOCK}{SHORT}{LAST}",
    )
    one, two = found.requests[1:3]
    assert one.sampling.seed != two.sampling.seed
    assert one.sampling.temperature == two.sampling.temperature == 1.0
    assert one.sampling.max_new_tokens == 4096
    assert (found.solution.answer, found.solution.answer_source) == ("12", "pattern")
    assert found.solution.emulated == ()


@pytest.mark.parametrize(("way", "kept"), [(f"one{END}", "one"), ("one", "one"), (END, "")])
async def test_a_path_and_a_summary_without_an_end_get_one(
    either_r1: NativeDialect, way: str, kept: str
) -> None:
    found = await transcribe(either_r1, {**R1, "<Path>": way, "<Summary>": f"both{END}"})
    prompt = r1_prompt(either_r1)
    block = f"{TEXT}<Path>{kept}</Path><Path>{kept}</Path></Parallel>\n<Summary>"
    found.assert_golden(
        (prompt, TEXT, MAIN),
        *((f"{prompt}{TEXT}<Path>", way, WAY) for _ in range(2)),
        (f"{prompt}{block}", f"both{END}", MAIN),
        (f"{prompt}{block}both</Summary>", LAST, MAIN),
        final=f"{prompt}{block}both</Summary>{LAST}",
    )


async def test_a_summary_that_is_cut_is_closed_and_ends_the_run(either_r1: NativeDialect) -> None:
    found = await transcribe(either_r1, {**R1, "<Summary>": "bo"})
    prompt = r1_prompt(either_r1)
    found.assert_golden(
        (prompt, TEXT, MAIN),
        *((f"{prompt}{TEXT}<Path>", PATH, WAY) for _ in range(2)),
        (f"{prompt}{TEXT}{BLOCK}", "bo", MAIN),
        final=f"{prompt}{TEXT}{BLOCK}bo</Summary>",
    )


async def test_a_block_inside_a_path_or_summary_is_mere_text(either_r1: NativeDialect) -> None:
    way, part = "a<Parallel>b</Path>", "a<Parallel>"
    script = {**R1, "<Path>": way, "<Summary>": part, part: SHORT}
    found = await transcribe(either_r1, script)
    prompt = r1_prompt(either_r1)
    block = f"{prompt}{TEXT}<Path>{way}<Path>{way}</Parallel>\n<Summary>"
    found.assert_golden(
        (prompt, TEXT, MAIN),
        *((f"{prompt}{TEXT}<Path>", way, WAY) for _ in range(2)),
        (block, part, MAIN),
        (f"{block}{part}", SHORT, MAIN),
        (f"{block}{part}{SHORT}", LAST, MAIN),
        final=f"{block}{part}{SHORT}{LAST}",
    )


async def test_after_four_blocks_a_fifth_is_mere_text(either_r1: NativeDialect) -> None:
    again = {**R1, "</Summary>": TEXT, f"{TEXT}": f" no more{LAST}"}
    found = await transcribe(either_r1, again, context=20_000)
    blocks = [f"{r1_prompt(either_r1)}{f'{TEXT}{BLOCK}{SHORT}' * k}" for k in range(5)]
    found.assert_golden(
        *((block, TEXT, MAIN) for block in blocks),
        *((f"{block}{TEXT}<Path>", PATH, WAY) for block in (*blocks[:4], *blocks[:4])),
        *((f"{block}{TEXT}{BLOCK}", SHORT, MAIN) for block in blocks[:4]),
        (f"{blocks[4]}{TEXT}", f" no more{LAST}", MAIN),
        final=f"{blocks[4]}{TEXT} no more{LAST}",
    )
    assert found.solution.refusals == ("thread 1: the thread has forked 4 times already",)
    assert found.solution.answer == "12"


@pytest.mark.parametrize("stray", ["</Path>", "</Parallel>", "<Path>", "<Summary>"])
async def test_stray_tags_of_parallel_r1_are_mere_text(
    either_r1: NativeDialect, stray: str
) -> None:
    found = await transcribe(either_r1, {"assistant\n": f"a{stray}b{LAST}"})
    prompt = r1_prompt(either_r1)
    found.assert_golden((prompt, f"a{stray}b{LAST}", MAIN), final=f"{prompt}a{stray}b{LAST}")
    assert (found.solution.answer, found.solution.forked) == ("12", False)


async def test_a_stray_end_of_a_summary_is_mere_text(either_r1: NativeDialect) -> None:
    found = await transcribe(either_r1, {"assistant\n": "a</Summary>", "</Summary>": LAST})
    prompt = r1_prompt(either_r1)
    found.assert_golden(
        (prompt, "a</Summary>", MAIN),
        (f"{prompt}a</Summary>", LAST, MAIN),
        final=f"{prompt}a</Summary>{LAST}",
    )


async def test_a_questions_tags_are_text_for_parallel_r1(either_r1: NativeDialect) -> None:
    found = await transcribe(either_r1, {"assistant\n": LAST}, question="What is <Path>?")
    before, after = r1_prompt(either_r1).split("Why?")
    prompt = found.prompt(before, "What is <Path>?", after)
    found.assert_golden((prompt, LAST, MAIN), final=[*prompt, *found.ids(LAST)])


async def test_unseen_can_run_as_it_was_updated(parallel_r1: NativeDialect) -> None:
    found = await transcribe(parallel_r1, R1, "kv-join", strategy="native:positions=trained")
    p = len(found.requests[0].prompt) + len(found.ids(TEXT)) - 1
    prompt = r1_prompt(parallel_r1)
    assert found.final == found.ids(f"{prompt}{TEXT}{BLOCK}{SHORT}{LAST}")
    starts = [one.start for one in found.requests]
    assert starts[1:3] == [p + 1, p + 1]
    assert starts[3] == p + len(found.ids(f"<Path>{PATH}")) + 1


async def test_an_answer_far_from_the_end_does_not_count(parallel_r1: NativeDialect) -> None:
    found = await transcribe(parallel_r1, {"assistant\n": f"Final Answer: 1\n{'x' * 300}{END}"})
    assert found.solution.answer is None
    assert found.solution.forked is False


# ---- SSFT ----------------------------------------------------------------------------------------


async def test_each_forking_token_answers_and_a_majority_decides(ssft: NativeDialect) -> None:
    answers = {f"<think{i}>": f"so \\boxed{{{7 if i > 2 else i}}}{END}" for i in range(1, 7)}
    found = await transcribe(ssft, answers)
    prompt = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    found.assert_golden(
        *((f"{prompt}{tag}", text, ()) for tag, text in answers.items()),
        final=f"{prompt}<think6>{answers['<think6>']}",
    )
    assert (found.solution.answer, found.solution.votes) == ("7", {"7": 4, "1": 1, "2": 1})
    one = await transcribe(ssft, answers, n=1)
    one.assert_golden(
        (f"{prompt}<think1>", answers["<think1>"], ()),
        final=f"{prompt}<think1>{answers['<think1>']}",
    )
    assert one.solution.answer == "1"


async def test_a_run_of_ssft_that_is_cut_does_not_vote(ssft: NativeDialect) -> None:
    prompt = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    script = {"<think1>": "so", "<think2>": f"a<think3> \\boxed{{2}}{END}"}
    found = await transcribe(ssft, script, n=2)
    found.assert_golden(
        *((f"{prompt}{tag}", text, ()) for tag, text in script.items()),
        final=f"{prompt}<think2>{script['<think2>']}",
    )
    assert (found.solution.answer, found.solution.votes) == ("2", {"2": 1})


async def test_more_runs_than_ssft_has_tokens_for_are_refused(ssft: NativeDialect) -> None:
    found = await transcribe(ssft, {"": f"\\boxed{{2}}{END}"}, n=20)
    assert len(found.requests) == 6
    assert found.solution.refusals == ("thread 1: 20 branches; only the first 6 were made",)
