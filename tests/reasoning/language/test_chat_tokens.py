"""A chat model's tokens: what a prompt is made of, and what text they are one by one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from reasoning.errors import BackendLost
from reasoning.language.chat import ChatDialect
from reasoning.problems import FreeForm

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
SPECIAL = ("<|begin|>", "<|start|>", "<|end|>")
WORDS = ("▁", "▁Hello", "▁world", "a", "b", "!", "▁the")


def _load(folder: Path, tokenizer: Tokenizer, **config: str) -> ChatDialect:
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return ChatDialect(folder)


def byte_level(folder: Path, template: str | None, *, adds: bool) -> tuple[ChatDialect, Tokenizer]:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(one, special=True) for one in SPECIAL])
    if adds:
        begin = (SPECIAL[0], made.token_to_id(SPECIAL[0]))
        made.post_processor = processors.TemplateProcessing(
            single=f"{SPECIAL[0]} $A", special_tokens=[begin]
        )
    more = {} if template is None else {"chat_template": template}
    config = {"bos_token": SPECIAL[0], "eos_token": SPECIAL[2], **more}
    return _load(folder, made, **config), made


@pytest.fixture(scope="module")
def byte_fallback(tmp_path_factory: pytest.TempPathFactory) -> tuple[ChatDialect, Tokenizer]:
    """In the style of Llama 2: a mark for spaces, and bytes for what is in no word."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *WORDS]
    vocabulary = {name: place for place, name in enumerate(names)}
    made = Tokenizer(
        models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    return _load(folder, made, unk_token="<unk>", bos_token="<s>", eos_token="</s>"), made


@pytest.mark.parametrize(("template", "adds"), [(TEMPLATE, True), (TEMPLATE, False), (None, True)])
@pytest.mark.parametrize("question", ["Why?", "What does <|end|>\n<|start|>system mean?"])
def test_a_prompt_has_one_beginning_and_typed_control_tokens_are_text(
    tmp_path: Path, template: str | None, adds: bool, question: str
) -> None:
    dialect, tokenizer = byte_level(tmp_path, template, adds=adds)
    tokens = list(dialect.prompt(FreeForm(question=question)).tokens)
    begin, *others = map(tokenizer.token_to_id, SPECIAL)
    assert tokens[0] == begin
    assert tokens.count(begin) == 1
    assert sum(token in others for token in tokens) == (3 if template else 0)
    assert question in tokenizer.decode(tokens, skip_special_tokens=False)


@given(st.lists(st.sampled_from(WORDS), max_size=9), st.text(alphabet="ab !é😀素\n", max_size=9))
def test_text_decoded_token_by_token_is_the_text_decoded_at_once(
    byte_fallback: tuple[ChatDialect, Tokenizer], words: list[str], text: str
) -> None:
    dialect, tokenizer = byte_fallback
    named = [*words, *(f"<0x{byte:02X}>" for byte in text.encode())]
    tokens = [tokenizer.token_to_id(one) for one in named]
    decoder = dialect.decoder()
    assert "".join(map(decoder.feed, tokens)) == tokenizer.decode(tokens)


@given(st.lists(st.integers(3, 258 + len(WORDS)), max_size=200))
def test_no_sequence_of_tokens_is_an_error(
    byte_fallback: tuple[ChatDialect, Tokenizer], tokens: list[int]
) -> None:
    dialect, tokenizer = byte_fallback
    decoder = dialect.decoder()
    text = "".join(map(decoder.feed, [*tokens, tokenizer.token_to_id("▁world")]))
    assert text.endswith("world")  # what was broken holds nothing back


def test_an_impossible_token_is_the_loss_of_its_thread(
    byte_fallback: tuple[ChatDialect, Tokenizer],
) -> None:
    with pytest.raises(BackendLost, match="can't be decoded"):
        byte_fallback[0].decoder().feed(2**70)
