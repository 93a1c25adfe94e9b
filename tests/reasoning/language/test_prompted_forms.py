"""The strategies that share text, on any chat model: turns, plans, paragraphs, and whole runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator import Event
from reasoning import Reasoner, Solution, load_model
from reasoning.language.chat import ChatDialect
from reasoning.language.prompted import PromptedFork
from reasoning.models.loaded import LoadedModel
from reasoning.problems import Arithmetic, FreeForm
from reasoning.run.run import ForkRefused
from tests.support.sharing_tools import Script, Turn, letter_model

pytestmark = pytest.mark.anyio

SUM = Arithmetic(expression="( 1 + 2 ) * ( 3 + 4 )")
USER, BOT, END = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ARMS = ["multiverse", "parathinker", "hogwild", "group-think"]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A tiny random chat model with the usual template; its turns end with a token of its own."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("chat")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate([*alphabet, "ĊĊ"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ċ", "Ċ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|im_start|>"), AddedToken(END)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=[fast.eos_token_id, 7],
        pad_token_id=0,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["eos_token_id"][1] == 7
    return load_model(folder)


@pytest.fixture
def dialect(chat: LoadedModel) -> ChatDialect:
    assert isinstance(chat.dialect, ChatDialect)
    return chat.dialect


def whole(dialect: ChatDialect, *turns: str) -> str:
    """A conversation as the template writes it, up to the model's next turn."""
    roles = ("user", "assistant", "user")
    return dialect._tokenizer.render(
        [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
    )


# ---- how a chat model is spoken to -------------------------------------------------------------


def test_another_turn_makes_the_conversation_that_the_template_would_write(
    dialect: ChatDialect,
) -> None:
    said = whole(dialect, "Why?") + "So." + END + dialect._turn("And then?")
    assert said == whole(dialect, "Why?", "So.", "And then?")
    cut = whole(dialect, "Why?") + "So" + dialect._turn("And then?", cut=True)
    assert cut == whole(dialect, "Why?", "So", "And then?")


def test_a_template_without_ends_or_no_template_at_all_does_as_well(general: LoadedModel) -> None:
    bare = general.dialect
    assert isinstance(bare, ChatDialect)
    assert bare._turn("Next?") == "<|user|>Next?"
    assert bare._turn("Next?", cut=True) == "<|end|><|user|>Next?"
    templates, bare._tokenizer.templates = bare._tokenizer.templates, None
    try:
        assert bare._turn("Next?") == "\n\nNext?\n"
    finally:
        bare._tokenizer.templates = templates


def test_every_end_token_that_the_model_names_ends_a_turn(dialect: ChatDialect) -> None:
    assert dialect.ends == {dialect._tokenizer.end_id, 7}


@pytest.mark.parametrize(
    ("plan", "goals"),
    [
        ("1: add 1 and 2\n2: add 3 and 4", ["add 1 and 2", "add 3 and 4"]),
        (" 1. first\n\n 2) second \n3: third\n", ["first", "second", "third"]),
        ("Here it is:\n1: an egg\n2: a boat\nThat is all.", ["an egg", "a boat"]),
        ("<think>1: no\n2: not\n</think>\n1: add\n2: take", ["add", "take"]),
        ("- **1.** **Add the first**\n- **2.** Add the rest", ["Add the first", "Add the rest"]),
    ],
)
def test_a_plan_of_numbered_lines_is_read(
    dialect: ChatDialect, plan: str, goals: list[str]
) -> None:
    fork = dialect.forms(SUM).fork()
    assert isinstance(fork, PromptedFork)
    assert fork.asks(plan, 0)
    assert not fork.asks(plan, 1)
    outlines = fork.outlines(plan)
    assert [outline.goal for outline in outlines] == goals
    assert all(outline.goal in outline.opening for outline in outlines)


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ("none", "fewer than two parts"),
        ("", "fewer than two parts"),
        ("1: only this", "fewer than two parts"),
        ("1: " + "x" * 9000, "fewer than two parts"),
        ("<think>1: add\n2: take", "fewer than two parts"),
        ("1: add\n1: take", "numbered twice"),
        ("1: what to do\n2: what to do", "says nothing"),
        ("1: add\n2: ...", "says nothing"),
        ("1: <goal>\n2: <goal>", "says nothing"),
        ("1: Part 1\n2: Part 2", "says nothing"),
        ("1: Add them.\n2: add them", "two parts are the same"),
    ],
)
def test_what_is_no_plan_is_refused(dialect: ChatDialect, plan: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        dialect.forms(SUM).fork().outlines(plan)


# ---- strategies, on a model that says what it is told to ---------------------------------------


async def told(
    dialect: ChatDialect, strategy: str, say: Callable[[str, str], str], **options: Any
) -> tuple[Solution, list[Turn]]:
    script = Script(say, "kv-join", encode=dialect.encode, decode=dialect._tokenizer.decode)
    model = letter_model(dialect=dialect, script=script, context=4096)
    async with Reasoner(model) as reasoner:
        return await reasoner.solve(SUM, strategy=strategy, **options), script.turns


async def test_a_plans_parts_are_done_apart_and_put_together(dialect: ChatDialect) -> None:
    def say(seen: str, own: str) -> str:
        if own == "":
            return f"1: add 1 and 2\n2: add 3 and 4{END}"
        if "Do part" in own:
            return f"It is {3 if 'part 1' in own else 7}.{END}"
        return f"So \\boxed{{21}}{END}"

    solution, turns = await told(dialect, "multiverse", say, n=4)
    assert solution.answer == "21"
    assert solution.verified
    assert [thread.name for thread in solution.threads] == [
        "trunk",
        "branch 1: add 1 and 2",
        "branch 2: add 3 and 4",
    ]
    plan, one, two, conclusion = turns
    assert plan.seen.endswith(BOT)
    assert "Do not answer this yet" in plan.seen
    assert one.seen == two.seen == f"{plan.seen}1: add 1 and 2\n2: add 3 and 4{END}"
    assert one.own.startswith(f"\n{USER}Do part 1 of your plan")
    assert one.own.endswith(BOT)
    assert conclusion.seen == f"{one.seen}{one.own}It is 3.{END}{two.own}It is 7.{END}"
    assert conclusion.home == one.home + max(len(dialect.encode(f"{one.own}It is 3.{END}")), 0)


@pytest.mark.parametrize("plan", ["none", "1: everything"])
async def test_a_model_that_sees_no_parts_solves_it_alone(dialect: ChatDialect, plan: str) -> None:
    events: list[Event] = []

    def say(seen: str, own: str) -> str:
        return f"{plan}{END}" if "Only plan" in seen else f"\\boxed{{21}}{END}"

    solution, turns = await told(dialect, "multiverse", say, listener=events.append)
    assert solution.verified
    assert [thread.name for thread in solution.threads] == ["trunk", "alone"]
    assert sum(isinstance(event, ForkRefused) for event in events) == 1
    assert turns[-1].seen == dialect._tokenizer.decode(dialect.prompt(SUM).tokens)


async def test_attempts_are_compared_in_a_turn_of_their_own(dialect: ChatDialect) -> None:
    def say(seen: str, own: str) -> str:
        if "step by step" in own:
            return f"I say \\boxed{{20}}{END}"
        return "slowly, " * 9 + END if "First, let me" in own else f"\\boxed{{21}}{END}"

    solution, turns = await told(dialect, "parathinker", say, n=2)
    assert solution.verified
    first, second, summary = turns
    assert first.seen == second.seen
    assert first.own != second.own
    assert f"{first.own}I say \\boxed{{20}}{END}{second.own}slow" in summary.seen
    assert summary.own.startswith(f"{END}\n{USER}Several attempts")


@pytest.mark.parametrize("strategy", ["hogwild", "group-think"])
async def test_workers_write_paragraphs_until_one_knows_the_answer(
    dialect: ChatDialect, strategy: str
) -> None:
    def say(seen: str, own: str) -> str:
        if own == "Ada: ":
            return "1 + 2 = 3\n\n" if "7" not in seen else f"\\boxed{{21}}{END}"
        return "7\n\n" if "7" not in seen else f"I agree.{END}"

    solution, turns = await told(dialect, strategy, say, n=2)
    assert solution.verified
    assert solution.emulated == ("step-wise",)
    assert "Ada and Ben answer a question together" in turns[0].seen
    assert any(turn.seen.endswith("Ben: 7\n\nAda: 1 + 2 = 3\n\n") for turn in turns)


async def test_a_finisher_concludes_where_no_worker_did(dialect: ChatDialect) -> None:
    def say(seen: str, own: str) -> str:
        return f"\\boxed{{21}}{END}" if "Time is up" in own else f"3 and 7{END}"

    solution, turns = await told(dialect, "hogwild", say, n=2)
    assert solution.verified
    assert turns[-1].own.startswith(f"{END}\n{USER}Time is up")
    assert "Ada: 3 and 7" in turns[-1].seen
    assert "Ben: 3 and 7" in turns[-1].seen


# ---- on the engine, with a random model --------------------------------------------------------


@pytest.mark.parametrize("strategy", ARMS)
async def test_any_chat_model_folder_runs_every_strategy(chat: LoadedModel, strategy: str) -> None:
    async with Reasoner(chat) as reasoner:
        first, again = [
            await reasoner.solve(
                FreeForm(question="Why?"),
                strategy=strategy,
                n=3,
                temperature=1.0,
                seed=2,
                max_tokens=1280,
                timeout=60,
            )
            for _ in range(2)
        ]
    assert first.status == "finished"
    assert first.emulated == ()
    assert [t.text for t in first.threads] == [t.text for t in again.threads]
    assert sum(thread.tokens for thread in first.threads) > 20
    chat.backend.engine.segments.sweep()
    assert chat.backend.engine.open_threads == chat.backend.engine.pool.used == 0


def test_the_question_stands_in_every_prompt(dialect: ChatDialect) -> None:
    forms = dialect.forms(SUM)
    for form in (forms.fork(), forms.paths(), forms.share(3)):
        assert SUM.question in dialect._tokenizer.decode(form.prompt.tokens)


def test_the_fixture_is_what_a_hub_folder_is(chat: LoadedModel, tmp_path: Path) -> None:
    assert chat.dialect.default_strategy(SUM) == "self-consistency:n=8,ahead=16"
    assert {"kv-join", "live-contexts", "shared-threads"} <= chat.capabilities
