"""A native tongue in one model's token ids: checked once, when the model is loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from reasoning.engine.identities import PATHS_FILE
from reasoning.errors import ModelUnusable
from reasoning.language.chat_format.tokenizer import ChatTokenizer
from reasoning.language.dialect import StreamDecoder
from reasoning.language.native.description import NativeFormat

OTHERWISE = "or give --dialect none to ask it like any chat model"


class Tongue:
    """The control strings of a family as this tokenizer has them.

    Attributes:
        format: What they mean.
        ids: The number of each control string.
        notes: What is not as expected and is no reason to refuse the model.
    """

    def __init__(self, format: NativeFormat, tokenizer: ChatTokenizer, model: str) -> None:
        """Look the control strings up.

        Raises:
            ModelUnusable: one is not exactly one token, or has another number than the family's.
        """
        self.format = format
        self.notes: list[str] = []
        self._tokenizer = tokenizer
        self.ids = {one.text: self._resolved(one.text, model) for one in format.controls}
        self._check_numbers(model)

    def _resolved(self, text: str, model: str) -> int:
        found = self._tokenizer.encode(text)
        if len(found) != 1:
            raise ModelUnusable(
                f"{model}: the control string {text!r} of {self.format.name} is {len(found)} "
                f"tokens in its tokenizer and must be one; add it as a token, {OTHERWISE}"
            )
        return found[0]

    def _check_numbers(self, model: str) -> None:
        base = self.format.base
        if base is not None and self._tokenizer.id_of(base.text) != base.id:
            return
        for control in self.format.controls:
            found = self.ids[control.text]
            if control.id is None or found == control.id:
                continue
            what = f"{control.text!r} is token {found}, and {self.format.name} has {control.id}"
            if not self.format.derived:
                raise ModelUnusable(f"{model}: {what}; see whose tokenizer it is, {OTHERWISE}")
            self.notes.append(f"{what} (derived, not read)")

    def these(self, texts: Iterable[str]) -> frozenset[int]:
        """The numbers of control strings."""
        return frozenset(self.ids[text] for text in texts)

    def encode(self, text: str, number: str = "") -> list[int]:
        """What is given to a thread, its control strings as tokens."""
        return self._tokenizer.encode(text.replace("{number}", number)) if text else []

    def decoder(self) -> StreamDecoder:
        """What turns one thread's tokens into text, control strings included."""
        shown = {id: text for text, id in self.ids.items()}
        return _ControlDecoder(shown, self._tokenizer.decoder)

    def text_of(self, tokens: Sequence[int]) -> str:
        """Tokens as text, control strings included."""
        return "".join(map(self.decoder().feed, tokens))

    def numbers(self, written: Sequence[int]) -> list[str]:
        """The numbers of the plan that stands last in what a thread wrote.

        Raises:
            ValueError: it has none, and why.
        """
        plan = self.format.fork.plan
        if plan.opener:
            opener = self.ids[plan.opener]
            if opener not in written:
                raise ValueError(f"no {plan.opener} was opened")
            last = len(written) - 1 - list(reversed(written)).index(opener)
            written = written[last + 1 :]
        return plan.numbers(self.text_of(written))


class _ControlDecoder:
    """Shows control strings, which the tokenizer's own decoder leaves out."""

    def __init__(self, shown: dict[int, str], decoder: Callable[[], StreamDecoder]) -> None:
        self._shown, self._make = shown, decoder
        self._inner = decoder()

    def feed(self, token: int) -> str:
        text = self._shown.get(token)
        if text is None:
            return self._inner.feed(token)
        self._inner = self._make()
        return text


def check_tensors(format: NativeFormat, folder: Path, layers: int) -> None:
    """Check that a model's weights have what the family learnt beside the usual.

    A folder without weights is a server's tokenizer, and says nothing.

    Raises:
        ModelUnusable: one is missing or too small; naming it.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not format.tensors or not files or (folder / PATHS_FILE).is_file():
        return
    shapes: dict[str, Any] = {}
    for file in files:
        shapes |= _header(file)
    for tensor in format.tensors:
        for layer in range(layers):
            name = tensor.name.replace("{layer}", str(layer))
            rows = (shapes.get(name) or {}).get("shape", [0])[0]
            if rows < tensor.rows:
                has = f"has {rows} rows" if name in shapes else "is missing"
                raise ModelUnusable(
                    f"{folder}: the learnt tensor {name} of {format.name} {has}, and without it "
                    f"the model is another one; download it again, {OTHERWISE}"
                )


def _header(file: Path) -> dict[str, Any]:
    """The names and shapes of a file's tensors."""
    try:
        with file.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            found = json.loads(stream.read(size)) if size < 1 << 27 else {}
    except (OSError, ValueError, struct.error) as error:
        raise ModelUnusable(f"{file} is broken ({error}); download the model again") from error
    return found if isinstance(found, dict) else {}
