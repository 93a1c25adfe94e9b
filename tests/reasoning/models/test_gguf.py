"""A GGUF file as a model: read once, refused in a line where it can't be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reasoning.cli import main

gguf = pytest.importorskip("gguf", reason="the extra gguf reads such files")
pytest.importorskip("accelerate", reason="the extra gguf reads such files")

WIDTH, INNER, HEADS, CONTEXT = 32, 64, 2, 128
LETTERS = [*map(chr, range(33, 127)), "Ġ", "Ċ", "ab"]
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def written(path: Path) -> Path:
    """A Llama of one layer with a tokenizer of letters, as llama.cpp's converter writes them."""
    import numpy

    control = ["<|start|>", "<|end|>"]
    words = [*LETTERS, *control]
    made: Any = gguf.GGUFWriter(str(path), "llama")
    made.add_context_length(CONTEXT)
    made.add_embedding_length(WIDTH)
    made.add_block_count(1)
    made.add_feed_forward_length(INNER)
    made.add_head_count(HEADS)
    made.add_head_count_kv(HEADS)
    made.add_rope_dimension_count(WIDTH // HEADS)
    made.add_rope_freq_base(10_000.0)
    made.add_layer_norm_rms_eps(1e-5)
    made.add_vocab_size(len(words))
    made.add_tokenizer_model("gpt2")
    made.add_token_list(words)
    made.add_token_types([1] * len(LETTERS) + [3] * len(control))
    made.add_token_merges(["a b"])
    made.add_bos_token_id(len(LETTERS))
    made.add_eos_token_id(len(LETTERS) + 1)
    made.add_chat_template(TEMPLATE)
    random = numpy.random.default_rng(0)
    square = [f"blk.0.attn_{part}.weight" for part in ("q", "k", "v", "output")]
    shapes = {
        "token_embd.weight": (len(words), WIDTH),
        "output.weight": (len(words), WIDTH),
        **dict.fromkeys(square, (WIDTH, WIDTH)),
        "blk.0.ffn_gate.weight": (INNER, WIDTH),
        "blk.0.ffn_up.weight": (INNER, WIDTH),
        "blk.0.ffn_down.weight": (WIDTH, INNER),
    }
    for name, shape in shapes.items():
        made.add_tensor(name, random.normal(0, 0.2, shape).astype(numpy.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        made.add_tensor(f"{name}.weight", numpy.ones(WIDTH, numpy.float32))
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()
    return path


def test_a_gguf_file_is_a_model_and_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = written(tmp_path / "tiny.gguf")
    asked = ("solve", "Why?", "--model", str(file), "--strategy", "single", "--max-tokens", "80")
    first = CliRunner().invoke(main, [*asked, "--json"])
    assert first.exit_code in (0, 1), first.output  # it writes letters; there may be no answer
    assert '"model": "tiny' in first.stdout
    (folder,) = (tmp_path / "cache" / "parallel-reason" / "gguf").iterdir()
    made = (folder / "config.json").stat().st_mtime_ns
    again = CliRunner().invoke(main, [*asked, "--json"])
    assert again.exit_code == first.exit_code
    assert (folder / "config.json").stat().st_mtime_ns == made


def test_a_gguf_file_that_is_none_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(60))
    refused = CliRunner().invoke(main, ["solve", "Why?", "--model", str(tmp_path / "broken.gguf")])
    assert refused.exit_code != 0
    (line,) = refused.stderr.splitlines()
    assert "broken.gguf can't be read" in line
    assert "serve it with llama.cpp" in line
