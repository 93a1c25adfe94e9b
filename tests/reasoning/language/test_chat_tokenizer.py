"""A chat model's tokens and templates are those that transformers makes of the same folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer

from orchestrator.errors import InvalidValue
from reasoning.errors import ModelUnusable
from reasoning.language.chat_format.tokenizer import ChatTokenizer

TEMPLATE = """\
{{- bos_token }}
{%- macro said(m) %}{{ m.content | trim }}{% endmacro %}
{%- set ns = namespace(tools=0) %}
{%- if tools %}
    {{- '<|start|>tools\\n' }}
    {%- for tool in tools %}{{ tool | tojson }}{{ '\\n' }}{% endfor %}
{%- endif %}
{% for m in messages %}
  {% if m.role not in ['system', 'user', 'assistant', 'tool'] %}
    {{ raise_exception('unknown role ' + m.role) }}
  {% endif %}
  {% if loop.first and m.role == 'system' %}
    {{- '<|start|>system\\n' + said(m) }}{% continue %}
  {% endif %}
  {% if m.role == 'assistant' %}{% generation %}
{{- '<|start|>assistant\\n' }}{{ m.reasoning_content or '' }}
    {%- for call in m.tool_calls or [] %}
      {{- call.function.name }}({{ call.function.arguments | tojson(indent=1) }})
    {%- endfor %}
    {{- m.content or '' }}{{ eos_token }}{% endgeneration %}
  {% else %}
{{- '<|start|>' + m.role + '\\n' + said(m) + '<|end|>\\n' }}
  {% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}
{% if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}{% endif %}"""
SPECIAL = ("<|begin|>", "<|start|>", "<|end|>")


def byte_level(**flags: Any) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ċ", "Ċ")]
    words = [*alphabet, *("".join(pair) for pair in merges)]
    made = Tokenizer(models.BPE({word: id for id, word in enumerate(words)}, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(one, special=True) for one in SPECIAL])
    made.add_tokens([AddedToken("<think>"), AddedToken("</think>", lstrip=True)])
    return made


def bounded(**flags: Any) -> Tokenizer:
    made = byte_level()
    begin = (SPECIAL[0], made.token_to_id(SPECIAL[0]))
    made.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[0]} $A", special_tokens=[begin]
    )
    made.enable_truncation(8)
    made.enable_padding(length=12)
    return made


def byte_fallback() -> Tokenizer:
    names = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "▁the", "a", "é"]
    made = Tokenizer(
        models.BPE(
            {name: id for id, name in enumerate(names)},
            [],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return made


NAMES = {"bos_token": SPECIAL[0], "eos_token": SPECIAL[2]}
AS_OBJECT = {"__type": "AddedToken", "content": SPECIAL[2], "special": True}
FOLDERS: dict[str, tuple[Tokenizer, dict[str, Any]]] = {
    "plain": (byte_level(), {**NAMES, "chat_template": TEMPLATE}),
    "several": (
        bounded(),
        {
            "bos_token": SPECIAL[0],
            "eos_token": AS_OBJECT,
            "additional_special_tokens": ["<think>"],
            "chat_template": [
                {"name": "default", "template": TEMPLATE},
                {"name": "tool_use", "template": "with tools " + TEMPLATE},
            ],
        },
    ),
    "fallback": (
        byte_fallback(),
        {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE},
    ),
}
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": " Be <brief> & good.\n"},
    {"role": "user", "content": "the the\n\n  é素 "},
    {
        "role": "assistant",
        "content": None,
        "reasoning": "hm",
        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"x": "<é>"}}}],
    },
    {"role": "tool", "content": "3"},
]
TOOL = {"type": "function", "function": {"name": "f", "description": "<é> it's"}}


@pytest.fixture(scope="module", params=FOLDERS)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ChatTokenizer, Any]:
    """Ours and transformers' reading of one folder."""
    made, config = FOLDERS[request.param]
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return ChatTokenizer.load(folder), AutoTokenizer.from_pretrained(str(folder))


texts = st.text(alphabet="the a\n.é素😀", max_size=20)
pieces = st.lists(st.one_of(texts, st.sampled_from([*SPECIAL, "<think>", "</think>", "<s>"])))


@settings(max_examples=60)
@given(pieces.map("".join))
def test_texts_become_the_same_tokens_and_tokens_the_same_text(
    both: tuple[ChatTokenizer, Any], text: str
) -> None:
    ours, theirs = both
    ids = ours.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False)
    assert ours.encode(text, whole=True) == theirs.encode(text)
    literal = ours.encode(text, literal=True)
    assert literal == theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)
    decoder = ours.decoder()
    shown = "".join(map(decoder.feed, ids))
    assert theirs.backend_tokenizer.decode(ids, skip_special_tokens=True).startswith(shown)


@pytest.mark.parametrize("talk", [TALK[:1], TALK[:2], TALK[1:2], TALK])
@pytest.mark.parametrize("more", [{}, {"tools": [TOOL]}, {"enable_thinking": False}])
def test_a_conversation_is_written_as_transformers_writes_it(
    both: tuple[ChatTokenizer, Any], talk: list[dict[str, Any]], more: dict[str, Any]
) -> None:
    ours, theirs = both
    expected = theirs.apply_chat_template(talk, tokenize=False, add_generation_prompt=True, **more)
    assert ours.render(talk, **more) == expected
    assert (ours.end, ours.end_id) == (theirs.eos_token, theirs.eos_token_id)


def test_arguments_of_calls_are_values_for_a_template(both: tuple[ChatTokenizer, Any]) -> None:
    ours, _ = both
    call = {"id": "1", "function": {"name": "f", "arguments": '{"x": "<é>"}'}}
    assert ours.render([{**TALK[2], "tool_calls": [call]}]) == ours.render(TALK[2:3])


def test_what_a_template_refuses_is_said_in_its_words(both: tuple[ChatTokenizer, Any]) -> None:
    with pytest.raises(InvalidValue, match="unknown role developer"):
        both[0].render([{"role": "developer", "content": "?"}])


@pytest.mark.parametrize("source", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}"])
def test_a_template_reaches_nothing_but_its_messages(tmp_path: Path, source: str) -> None:
    byte_level().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text(source)
    with pytest.raises(InvalidValue, match="messages:"):
        ChatTokenizer.load(tmp_path).render([{"role": "user", "content": "?"}])


def test_a_broken_tokenizer_or_template_is_the_models_fault(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelUnusable, match="can't be loaded"):
        ChatTokenizer.load(tmp_path)
    byte_level().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(ModelUnusable, match="chat template can't be read"):
        ChatTokenizer.load(tmp_path).render([{"role": "user", "content": "?"}])


def test_the_real_model_is_read_as_transformers_reads_it(chat_model: Path) -> None:
    ours, theirs = ChatTokenizer.load(chat_model), AutoTokenizer.from_pretrained(str(chat_model))
    talk = [TALK[0], {"role": "user", "content": "Why?\n<|im_end|>  1 + 1 = é"}]
    written = ours.render(talk)
    assert written == theirs.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert ours.encode(written) == theirs.encode(written, add_special_tokens=False)
    assert ours.encode("a\n\nb") == theirs.encode("a\n\nb", add_special_tokens=False)
