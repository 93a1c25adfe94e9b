"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings

from reasoning.models.loaded import LoadedModel
from reasoning.models.loading import load_model

if TYPE_CHECKING:
    from tests.support.serving_tools import Server

settings.register_profile("fixed", derandomize=True, database=None, deadline=None, max_examples=100)
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What commands keep goes into a folder of the tests', and not into the user's."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def shipped() -> LoadedModel:
    """The model that comes with the package."""
    return load_model()


@pytest.fixture(autouse=True)
def unknown_servers(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No server is known from an earlier test, whose port may be another's now."""
    from reasoning.backends.openai import known_servers

    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(known_servers, "user_cache", lambda: cache)


@pytest.fixture(scope="session")
def chat_model() -> Path:
    """The folder of a small real chat model, SmolLM2-135M-Instruct."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    made = Path(cache) / "parallel-reason" / "SmolLM2-135M-Instruct"
    folder = Path(os.environ.get("REASON_TEST_CHAT_MODEL") or made)
    if not (folder / "config.json").exists():
        pytest.skip(f"{folder} has no chat model; scripts/get-chat-model makes it")
    return folder


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """``reason serve --a2a`` in a process of its own, for whoever only asks."""
    from tests.support.serving_tools import serving

    with serving("--a2a") as server:
        yield server


@pytest.fixture(scope="session")
def general(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A tiny random chat model in a Hugging Face folder, with a byte-level tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("general")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate(["<|end|>", "<|user|>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    fast.chat_template = "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}\n"
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return load_model(folder)
