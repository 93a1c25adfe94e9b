"""The two forms of a judge: a cross-encoder reads both texts at once, a bi-encoder each alone.

Both read *items*, from whose values they compute the logit of a pair.  An item of a cross-encoder
is a sorted pair of texts, so that the judge is symmetric.  An item of a bi-encoder is a single
text, which is read once however many pairs it is in.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from orchestrator.errors import importing
from reasoning.errors import ModelUnusable
from reasoning.judging.base_encoders import silence
from reasoning.judging.card import EncoderForm

Texts: TypeAlias = tuple[str, str]
Item: TypeAlias = tuple[str, ...]
ELLIPSIS = " … "
MOST_FITTED = 50_000  # texts that are tokenised once and kept
HEAD = "head.safetensors"


@dataclass(frozen=True, slots=True)
class Reading:
    """The model's output for an item, the tokens read, and its share of the batch's time."""

    value: Tensor
    tokens: int
    seconds: float


class PairEncoder(ABC):
    """An encoder with a head that predicts whether two texts lead to the same answer.

    Attributes:
        max_length: The most tokens of a text; the middle of a longer one is left out.
    """

    name: ClassVar[EncoderForm]

    def __init__(self, encoder: Any, *, max_length: int) -> None:
        self.encoder = encoder
        self.max_length = max_length
        self._fitted: dict[str, str] = {}

    @abstractmethod
    def items(self, pair: Texts) -> tuple[Item, ...]:
        """The items that must be read for a pair."""

    @abstractmethod
    def inputs(self, item: Item) -> Any:
        """An item in the form that the encoder's tokenizer takes."""

    @abstractmethod
    def values(self, features: dict[str, Any]) -> Tensor:
        """The model's output for each item, one row each, with gradients unless they are off."""

    @abstractmethod
    def combine(self, values: Sequence[tuple[Tensor, ...]]) -> Tensor:
        """The logit of each pair, from the values of its items."""

    @abstractmethod
    def parameters(self, *, frozen: bool) -> list[nn.Parameter]:
        """The parameters to train: all, or only the head where the encoder is ``frozen``."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the weights to a new folder as safetensors."""

    def logits(self, pairs: Sequence[Texts]) -> Tensor:
        """The logits of pairs ``(len(pairs),)``, with gradients."""
        items = list(dict.fromkeys(item for pair in pairs for item in self.items(pair)))
        rows = dict(zip(items, self.values(self.features(items)), strict=True))
        return self.combine([tuple(rows[item] for item in self.items(pair)) for pair in pairs])

    def train(self, training: bool) -> None:
        """Turn dropout on or off."""
        self.encoder.train(training)

    def read(
        self,
        items: Sequence[Item],
        batch: int = 32,
        on_batch: Callable[[int], None] = lambda count: None,
    ) -> Iterator[tuple[Item, Reading]]:
        """Read items in batches of similar length, without gradients."""
        self.train(False)
        ordered = sorted(items, key=lambda item: (sum(map(len, item)), item))
        for start in range(0, len(ordered), batch):
            part = ordered[start : start + batch]
            started = time.perf_counter()
            with torch.inference_mode():
                features = self.features(part)
                values = self.values(features)
            took = (time.perf_counter() - started) / len(part)
            counts = features["attention_mask"].sum(dim=1).tolist()
            for item, value, tokens in zip(part, values, counts, strict=True):
                yield item, Reading(value, tokens, took)
            on_batch(len(part))

    def fit(self, text: str) -> str:
        """The text, or its beginning and end if it is longer than ``max_length`` tokens."""
        if text not in self._fitted:
            if len(self._fitted) >= MOST_FITTED:
                self._fitted.clear()
            self._fitted[text] = self._fit(text)
        return self._fitted[text]

    def _fit(self, text: str) -> str:
        tokenizer = self.encoder.tokenizer
        spans = tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            truncation=False,
            verbose=False,
        )["offset_mapping"]
        if len(spans) <= self.max_length:
            return text
        half = (self.max_length - 4) // 2
        return text[: spans[half - 1][1]] + ELLIPSIS + text[spans[-half][0] :]

    def features(self, items: Sequence[Item]) -> dict[str, Any]:
        """The tokens of items as one batch."""
        features: dict[str, Any] = self.encoder.preprocess([self.inputs(item) for item in items])
        return features


class CrossPairEncoder(PairEncoder):
    """A cross-encoder with one output: the logit that both will agree."""

    name = "cross"

    @classmethod
    def load(cls, folder: Path, *, max_length: int) -> CrossPairEncoder:
        sentence_transformers = _library()
        encoder = _open(
            sentence_transformers.CrossEncoder, folder, num_labels=1, max_length=2 * max_length + 3
        )
        return cls(encoder, max_length=max_length)

    def items(self, pair: Texts) -> tuple[Item, ...]:
        return (tuple(sorted(pair)),)

    def inputs(self, item: Item) -> Any:
        return [self.fit(text) for text in item]

    def values(self, features: dict[str, Any]) -> Tensor:
        scores: Tensor = self.encoder(features)["scores"]
        return scores.reshape(-1)

    def combine(self, values: Sequence[tuple[Tensor, ...]]) -> Tensor:
        return torch.stack([value for (value,) in values])

    def parameters(self, *, frozen: bool) -> list[nn.Parameter]:
        named = list(self.encoder.named_parameters())
        head = [one for name, one in named if "classifier" in name or "pooler" in name]
        return head if frozen else [one for _, one in named]

    def save(self, folder: Path) -> None:
        with silence():
            self.encoder.save_pretrained(str(folder), create_model_card=False)


class BiPairEncoder(PairEncoder):
    """A bi-encoder with a linear head on u ⊙ v and |u - v|, initially five times the cosine."""

    name = "bi"

    def __init__(self, encoder: Any, *, max_length: int) -> None:
        super().__init__(encoder, max_length=max_length)
        size = encoder.get_embedding_dimension()
        self.head = nn.Linear(2 * size, 1)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.weight[:, :size] = 5.0
            self.head.bias.fill_(-4.0)

    @classmethod
    def load(cls, folder: Path, *, max_length: int) -> BiPairEncoder:
        sentence_transformers = _library()
        encoder = _open(sentence_transformers.SentenceTransformer, folder)
        encoder.max_seq_length = max_length + 2
        made = cls(encoder, max_length=max_length)
        if (folder / HEAD).is_file():
            from safetensors.torch import load_file

            made.head.load_state_dict(load_file(folder / HEAD))
        return made

    def items(self, pair: Texts) -> tuple[Item, ...]:
        return tuple((text,) for text in pair)

    def inputs(self, item: Item) -> Any:
        return self.fit(item[0])

    def values(self, features: dict[str, Any]) -> Tensor:
        return functional.normalize(self.encoder(features)["sentence_embedding"], dim=-1)

    def combine(self, values: Sequence[tuple[Tensor, ...]]) -> Tensor:
        one = torch.stack([left for left, _ in values])
        other = torch.stack([right for _, right in values])
        features = torch.cat([one * other, (one - other).abs()], dim=-1)
        logits: Tensor = self.head(features)
        return logits.reshape(len(values))

    def parameters(self, *, frozen: bool) -> list[nn.Parameter]:
        head = list(self.head.parameters())
        return head if frozen else [*head, *self.encoder.parameters()]

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        with silence():
            self.encoder.save_pretrained(str(folder), create_model_card=False)
        save_file(self.head.state_dict(), folder / HEAD)


PAIR_ENCODERS: dict[EncoderForm, type[CrossPairEncoder] | type[BiPairEncoder]] = {
    "cross": CrossPairEncoder,
    "bi": BiPairEncoder,
}


def _library() -> Any:
    with importing("judge", "a judge"):
        import sentence_transformers
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # as in the engine: two would spin beside a busy process
    return sentence_transformers


def _open(encoder: Any, folder: Path, **options: Any) -> Any:
    """Load an encoder from a local folder only."""
    try:
        with silence():
            return encoder(str(folder), device="cpu", local_files_only=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        raise ModelUnusable(
            f"encoder: {str(folder)!r} can't be loaded: {why}; give another"
        ) from error
