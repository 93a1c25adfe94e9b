"""ParaThinker's, Parallel-R1's and SSFT's transcripts, token for token."""

from __future__ import annotations

import pytest

from reasoning.language.native.dialect import NativeDialect
from tests.support.native_tools import END, native_dialect, transcribe

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def parathinker(tmp_path_factory: pytest.TempPathFactory) -> NativeDialect:
    return native_dialect(tmp_path_factory.mktemp("parathinker"), "parathinker")


@pytest.fixture(scope="module")
def parallel_r1(tmp_path_factory: pytest.TempPathFactory) -> NativeDialect:
    return native_dialect(tmp_path_factory.mktemp("parallel-r1"), "parallel-r1-unseen")


@pytest.fixture(scope="module")
def ssft(tmp_path_factory: pytest.TempPathFactory) -> NativeDialect:
    return native_dialect(tmp_path_factory.mktemp("ssft"), "ssft")


# ---- ParaThinker ---------------------------------------------------------------------------------

FORCED = (
    "<summary>By analyzing multiple reasoning processes above, I concluded that: "
    "The final answer is"
)
SUMMED = " \\boxed{5}</summary>"


def prompt_of(dialect: NativeDialect) -> str:
    told = dialect.format.prompt.instruction
    return f"<|endoftext|><｜User｜>Why? {told}<｜Assistant｜><think>"


async def test_the_first_path_to_end_cuts_the_others(parathinker: NativeDialect) -> None:
    prompt = prompt_of(parathinker)
    script = {
        "<think1>": "a long, long way that goes on",
        "<think2>": "two</think>",
        FORCED: SUMMED,
    }
    found = await transcribe(parathinker, script, "kv-join", n=2, context=2048)
    first, second, last = found.requests
    assert first.prompt == found.ids(f"{prompt}<think1>")
    assert second.prompt == found.ids(f"{prompt}<think2>")
    cut = f"<think1>{parathinker.tongue.text_of(first.written)}"
    joined = f"{prompt}{cut}<think2>two</think2>{FORCED}"
    assert last.prompt == found.ids(joined)
    assert found.final == found.ids(f"{joined}{SUMMED}")
    assert [one.path for one in found.requests] == [1, 2, 0]
    assert found.solution.answer == "5"
    assert last.sampling.max_new_tokens == 128
    closers = [f"</think{i}>" for i in ("", *range(1, 9))]
    tags = parathinker.tongue.ids
    assert {*(tags[one] for one in closers), tags["</summary>"]} <= second.stop


async def test_an_instructions_tags_are_tokens_and_a_questions_are_text(
    parathinker: NativeDialect,
) -> None:
    tags = parathinker.tongue.ids
    assert tags["<summary>"] in parathinker.ask("Why?").tokens
    asked = parathinker.ask("Is <think3> or </think> a tag?").tokens
    assert tags["<think3>"] not in asked
    assert tags["</think>"] not in asked


async def test_stray_tags_are_rewritten_where_they_stand(parathinker: NativeDialect) -> None:
    prompt = prompt_of(parathinker)
    script = {"<think2>": "x<summary>", "<think2>x<think1>": "y</summary>", FORCED: SUMMED}
    script["<think1>"] = "z" * 40
    found = await transcribe(parathinker, script, "kv-join", n=2, context=2048)
    asked = [one.prompt for one in found.requests]
    assert found.ids(f"{prompt}<think2>x<think1>") in asked
    assert found.asked[-1].endswith(f"<think2>x<think1>y</think2>{FORCED}")


async def test_an_end_token_ends_no_path(parathinker: NativeDialect) -> None:
    script = {"<think1>": f"a{END}", f"a{END}": "b</think1>", FORCED: SUMMED}
    found = await transcribe(parathinker, script, "kv-join", n=1, context=2048)
    end = parathinker.encode(END)
    assert found.requests[1].prompt[-1:] == end
    assert found.final[-len(found.ids(SUMMED)) :] == found.ids(SUMMED)


async def test_a_summary_that_is_cut_is_closed(parathinker: NativeDialect) -> None:
    script = {"<think1>": "a</think1>", FORCED: " \\boxed{6}"}
    found = await transcribe(parathinker, script, "kv-join", n=1, context=2048)
    assert found.final[-1] == parathinker.tongue.ids["</summary>"]
    assert found.solution.answer == "6"


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


async def test_two_equal_paths_differ_by_their_seed_alone(parallel_r1: NativeDialect) -> None:
    found = await transcribe(parallel_r1, R1)
    told = parallel_r1.format.prompt.instruction
    prompt = f"<|im_start|>user\n{told}\n\nProblem: Why?<|im_end|>\n<|im_start|>assistant\n"
    found.assert_requests(
        [
            (prompt, TEXT),
            (f"{prompt}{TEXT}<Path>", PATH),
            (f"{prompt}{TEXT}<Path>", PATH),
            (f"{prompt}{TEXT}{BLOCK}", SHORT),
            (f"{prompt}{TEXT}{BLOCK}{SHORT}", LAST),
        ]
    )
    assert found.final == found.ids(f"{prompt}{TEXT}{BLOCK}{SHORT}{LAST}")
    one, two = found.requests[1:3]
    assert one.sampling.seed != two.sampling.seed
    assert one.sampling.temperature == two.sampling.temperature == 1.0
    assert one.sampling.max_new_tokens == 4096
    assert (found.solution.answer, found.solution.answer_source) == ("12", "pattern")
    assert found.solution.emulated == ()


async def test_a_path_and_a_summary_without_an_end_get_one(parallel_r1: NativeDialect) -> None:
    script = {**R1, "<Path>": f"one{END}", "<Summary>": f"both{END}"}
    found = await transcribe(parallel_r1, script)
    prompt = parallel_r1.ask("Why?").tokens
    block = "<Path>one</Path><Path>one</Path></Parallel>\n<Summary>both</Summary>"
    assert found.final == [*prompt, *found.ids(f"{TEXT}{block}{LAST}")]


async def test_after_four_blocks_a_fifth_is_mere_text(parallel_r1: NativeDialect) -> None:
    again = {**R1, "</Summary>": TEXT, f"{TEXT}": f" no more{LAST}"}
    found = await transcribe(parallel_r1, again, context=20_000)
    assert len(found.requests) == 1 + 4 * 4 + 1
    assert found.solution.refusals == ("thread 1: the thread has forked 4 times already",)
    assert found.solution.answer == "12"


async def test_a_block_inside_a_path_is_mere_text(parallel_r1: NativeDialect) -> None:
    found = await transcribe(parallel_r1, {**R1, "<Path>": "a<Parallel>b</Path>"})
    assert len(found.requests) == 5


async def test_unseen_can_run_as_it_was_updated(parallel_r1: NativeDialect) -> None:
    found = await transcribe(parallel_r1, R1, "kv-join", strategy="native:positions=trained")
    p = len(found.requests[0].prompt) + len(found.ids(TEXT)) - 1
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
    found.assert_requests([(f"{prompt}{tag}", text) for tag, text in answers.items()])
    assert (found.solution.answer, found.solution.votes) == ("7", {"7": 4, "1": 1, "2": 1})
    one = await transcribe(ssft, answers, n=1)
    assert one.solution.answer == "1"
