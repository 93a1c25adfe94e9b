"""A GGUF file as a Hugging Face folder, made once in the user's cache by transformers."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from orchestrator.errors import importing
from reasoning.errors import ModelUnusable

EDGE = 1 << 20
"""So many bytes at either end of a file tell it from others of its size."""


def folder_of(file: Path) -> Path:
    """The folder with what a GGUF file holds, its weights dequantised to float32.

    Raises:
        ExtraMissing: the packages that read such files are not there.
        ModelUnusable: transformers can't read it.
    """
    folder = _cache() / f"{file.stem}-{_mark(file)}"
    if not (folder / "config.json").is_file():
        _convert(file, folder)
    return folder


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "parallel-reason" / "gguf"


def _mark(file: Path) -> str:
    """Tells a file from others of its name."""
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as opened:
        digest.update(opened.read(EDGE))
        opened.seek(max(0, size - EDGE))
        digest.update(opened.read())
    return digest.hexdigest()[:12]


def _convert(file: Path, folder: Path) -> None:
    with importing("local", "a GGUF file"):
        import accelerate  # type: ignore[import-untyped]  # noqa: F401
        import gguf  # noqa: F401
        import torch
        import transformers
    transformers.utils.logging.disable_progress_bar()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                quantization_config=transformers.GgufConfig(dequantize=True),
                dtype=torch.float32,
            )
            model.save_pretrained(f"{work}/model")
            tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            tokenizer.save_pretrained(f"{work}/model")
        except Exception as error:  # transformers raises what it likes here
            raise ModelUnusable(
                f"{file} can't be read ({' '.join(str(error).split())[:200]}); give a Hugging Face "
                "folder, or serve it with llama.cpp and name that with --base-url"
            ) from error
        try:
            os.rename(f"{work}/model", folder)
        except OSError:
            if not (folder / "config.json").is_file():  # or somebody else was first
                raise
