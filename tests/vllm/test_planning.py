"""A real language model, held by a real grammar, plans: a tiny random one on a real vLLM.

What it writes is nonsense of the right form: every reply is valid by the schema that was asked for,
and is carried out by a real worker, or refused by name.
"""

from __future__ import annotations

import gc
import json
import logging
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import pytest
import torch

from orchestrator import Event
from protocol import Hub, Registry
from reasoning.errors import CapabilityMissing
from reasoning.models.loaded import LoadedModel
from reasoning.models.loading import load_model
from reasoning.models.vllm import VllmSource
from reasoning.planning import (
    ChatClient,
    Constellation,
    ConstellationResult,
    PlanApplied,
    PlanRefused,
    ReplyBounds,
)
from reasoning.planning.prompts import RULES
from reasoning.planning.reply import PlannerReply, json_object
from tests.support.protocol_tools import working
from tests.support.vllm_server import COMMAND, started
from tests.vllm.conftest import SIZES

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("default")]

log = logging.getLogger(__name__)
CONTEXT = 8192
COMPACT = {"backend": "xgrammar", "disable_any_whitespace": True}
"""A random model would write white space for ever, where JSON allows it."""
BOUNDS = ReplyBounds(edits=3, thought=20, text=12, items=2)
tools = Registry()


@tools.tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tools.tool
def join(words: list[str], loud: bool = False) -> str:
    """Join words."""
    return " ".join(words).upper() if loud else " ".join(words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random chat model whose tokenizer was trained on the planner's rules."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    found = tmp_path_factory.mktemp("chat")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=640,
        special_tokens=["<|pad|>", "<|user|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([RULES], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    fast.chat_template = "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}\n"
    fast.save_pretrained(found)
    torch.manual_seed(0)
    sizes = {"vocab_size": len(fast), "max_position_embeddings": CONTEXT, "num_hidden_layers": 2}
    sizes |= {"initializer_range": 0.02}  # nearly all tokens are alike to it
    Qwen2ForCausalLM(Qwen2Config(**SIZES | sizes)).save_pretrained(found)
    return found


class Kept:
    """A chat that keeps what it was asked for and what it wrote.

    It has to edit: left to itself, nonsense is an answer more often than not.
    """

    def __init__(self, chat: ChatClient) -> None:
        self.chat = chat
        self.replies: list[tuple[str, str]] = []

    async def reply(self, prompt: str, schema: str) -> str:
        form = json.loads(schema)
        form["properties"]["answer"] = {"type": "null"}
        form["properties"]["edits"]["minItems"] = 1
        schema = json.dumps(form)
        text = await self.chat.reply(prompt, schema)
        self.replies.append((schema, text))
        return text


async def planned(model: LoadedModel, requests: int = 3, turns: int = 3) -> None:
    """Have a model plan on two devices, as nonsensically as it likes; check all that it wrote."""
    events: list[Event] = []
    outcomes: list[ConstellationResult] = []
    chat = ChatClient(model, temperature=1.0, seed=3, held=True)
    kept = Kept(chat)
    async with (
        Hub() as hub,
        working(hub, "kitchen", registry=tools, tags=frozenset({"warm"})),
        working(hub, "cellar", registry=tools, slots=4),
    ):

        async def plan(number: int) -> None:
            constellation = Constellation(hub, kept, most_turns=turns, bounds=BOUNDS)
            constellation.events.subscribe(events.append)
            outcomes.append(await constellation.run(f"Request {number}", seconds=300))

        async with anyio.create_task_group() as group:
            for number in range(requests):
                group.start_soon(plan, number)
    assert chat.unheld is None
    assert len({text for _, text in kept.replies}) == len(kept.replies)
    check(kept, events, outcomes)


def check(kept: Kept, events: list[Event], outcomes: list[ConstellationResult]) -> None:
    """Valid by its schema, and carried out or refused by name: all of it."""
    for schema, text in kept.replies:
        assert len(text) < 2500
        jsonschema.validate(json_object(text), json.loads(schema))
        PlannerReply.parse(text)
    refused = [event for event in events if isinstance(event, PlanRefused)]
    applied = [event for event in events if isinstance(event, PlanApplied)]
    for event in refused:
        assert event.reasons
        assert not any("no device offers" in why or "is not here" in why for why in event.reasons)
    tasks = [task for outcome in outcomes for task in outcome.tasks]
    assert applied
    assert {task.device for task in tasks if task.state == "succeeded"} <= {"kitchen", "cellar"}
    for task in tasks:
        if task.state == "succeeded" and task.name.startswith("add"):
            assert isinstance(task.value, int)
    assert any(task.state == "succeeded" for task in tasks)
    edits = [edit.op for event in applied for edit in event.plan.edits]
    log.info(
        "%d replies, %d applied (%d edits), %d refused, tasks: %s; refused: %s",
        *(len(kept.replies), len(applied), len(edits), len(refused)),
        *(sorted(task.state for task in tasks), [event.reasons for event in refused[:8]]),
    )


@pytest.fixture(scope="module")
async def here(folder: Path) -> AsyncIterator[LoadedModel]:
    """The model on the vllm backend, started once."""
    settings = VllmSource(
        kv_cache_gib=1,
        context=CONTEXT,
        dtype="float32",
        max_num_seqs=8,
        engine={"structured_outputs_config": COMPACT, "max_num_batched_tokens": CONTEXT},
    )
    model = settings.load(folder)
    async with model.backend:
        yield model
    with warnings.catch_warnings():  # vLLM leaves it to the garbage collector to close its sockets
        warnings.simplefilter("ignore")
        del model
        gc.collect()


async def test_vllm_holds_a_random_model_to_plans_that_run_or_are_refused(
    here: LoadedModel,
) -> None:
    await planned(here)


async def test_a_schema_that_vllm_refuses_is_let_go_by_name_or_is_an_error(
    here: LoadedModel,
) -> None:
    unusable = json.dumps({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}})
    chat = ChatClient(here, temperature=1.0)
    await chat.reply("Hello", unusable)
    assert chat.unheld is not None
    assert "vLLM refuses the request" in chat.unheld
    with pytest.raises(CapabilityMissing, match="can't be held to a schema"):
        await ChatClient(here, temperature=1.0, held=True).reply("Hello", unusable)


# ---- over HTTP -----------------------------------------------------------------------------------


@contextmanager
def serving(folder: Path, log: Path) -> Iterator[str]:
    command = [
        *(COMMAND, "serve", str(folder), "--served-model-name", "tiny"),
        *("--dtype", "float32", "--enforce-eager", "--block-size", "32"),
        *("--max-model-len", str(CONTEXT), "--max-num-seqs", "8"),
        *("--structured-outputs-config", json.dumps(COMPACT)),
    ]
    with started(command, log) as running:
        yield running.url


@pytest.fixture(scope="module")
def url(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(folder, tmp_path_factory.mktemp("serve") / "log") as url:
        yield url


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["chat", "tokens"])
async def test_a_vllm_server_holds_it_in_chat_and_in_completions(
    url: str, folder: Path, mode: str
) -> None:
    settings = [f"mode={mode}", *([f"tokenizer={folder}"] if mode == "tokens" else [])]
    model: Any = await anyio.to_thread.run_sync(
        lambda: load_model(None, base_urls=[url], settings=settings)
    )
    if mode == "chat":  # for completions, structured output is what holds a reply
        assert model.backend.profile.json_schema
    assert "json-schema" in model.capabilities
    async with model.backend:
        await planned(model)
