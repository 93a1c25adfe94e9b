"""What a scorer asks, and reads, is what vLLM's own server takes and gives for a reward model."""

from __future__ import annotations

from pathlib import Path

import pytest

from reasoning.judging.scoring import load_scorer
from tests.support.vllm_server import COMMAND, started

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


def reward_model(folder: Path) -> Path:
    """A tiny classifier of one label with random weights, whose tokens are words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

    words = ["<pad>", "?", "user", "assistant", ":", "Q", "so", "4", "5"]
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="?", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        num_labels=1,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    LlamaForSequenceClassification(config).float().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("reward")
    options = ("--runner", "pooling", "--dtype", "float32", "--enforce-eager")
    command = (COMMAND, "serve", str(reward_model(folder / "model")), *options)
    with started(command, folder / "log") as server:
        yield server.url.removesuffix("/v1")


@pytest.mark.parametrize("endpoint", ["score", "v1/score", "rerank", "classify", "pooling"])
def test_each_endpoint_gives_each_answer_its_own_score(url: str, endpoint: str) -> None:
    scorer = load_scorer(f"{url}/{endpoint}")
    four, five = (scorer("Q", f"so {answer}", answer) for answer in "45")
    assert four != five
    assert min(four, five) > 0
    assert max(four, five) < 1
    assert scorer("Q", "so 4", "4") == pytest.approx(four, abs=1e-5)


def test_a_chat_is_scored_alike_by_both_of_its_endpoints(url: str) -> None:
    scores = [load_scorer(f"{url}/{end}")("Q", "so 4", "4") for end in ("classify", "pooling")]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
