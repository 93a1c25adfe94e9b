"""What tells whether two models speak the same tokens."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_PARTS = ("normalizer", "pre_tokenizer", "decoder", "added_tokens", "model")
"""What of a tokenizer says which tokens a text is, and which text tokens are."""
_OTHERS = ("tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "spiece.model")


def vocabulary_of(folder: Path) -> str:
    """A fingerprint of the tokenizer in a model's folder; empty where there is none to read.

    Folders with the same fingerprint have the same tokens under the same numbers.
    """
    path = folder / "tokenizer.json"
    if path.is_file():
        return fingerprint_of(path.read_text("utf-8"))
    found = [folder / name for name in _OTHERS if (folder / name).is_file()]
    return _digest(b"\0".join(one.read_bytes() for one in found)) if found else ""


def fingerprint_of(tokenizer: str) -> str:
    """The fingerprint of a tokenizer that was written as JSON; empty where it is none."""
    try:
        written: Any = json.loads(tokenizer)
    except ValueError:
        return ""
    if not isinstance(written, dict):
        return ""
    parts = {name: written.get(name) for name in _PARTS}
    return _digest(json.dumps(parts, sort_keys=True).encode("utf-8", "surrogatepass"))


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()
