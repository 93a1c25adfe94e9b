"""A model's name: a folder, or org/name where it is in Hugging Face's cache; nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from reasoning.errors import ModelUnusable
from reasoning.models.catalog import find, name_of


def test_a_repository_is_found_in_the_cache_and_else_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelUnusable, match="hf download org/some-model"):
        find("org/some-model")
    snapshot = tmp_path / "models--org--some-model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    refs = snapshot.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc\n")
    (snapshot / "config.json").write_text("{}")
    with pytest.raises(ModelUnusable, match="hf download"):  # weights are not there yet
        find("org/some-model")
    (snapshot / "model.safetensors").write_bytes(b"")
    assert find("org/some-model") == snapshot
    assert name_of(snapshot) == "org/some-model"


@pytest.mark.parametrize("name", ["nothing", "no/such/folder", "missing.gguf", "\0"])
def test_what_is_nowhere_is_refused_in_a_line(name: str) -> None:
    with pytest.raises(ModelUnusable, match="neither a shipped one"):
        find(name)
