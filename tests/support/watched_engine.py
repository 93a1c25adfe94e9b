"""An engine on tiny random weights that keeps all logits, to be compared with a flat pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reasoning.engine.engine import Engine
from reasoning.engine.threads import StepRow, ThreadFailure
from reasoning.values.context import Segment
from reasoning.values.sampling import Sampling
from tests.support.reading import ReadEngine

VOCABULARY = 128
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
ANY = range(VOCABULARY)


def random_model(folder: Path, kind: str, **extra: Any) -> Path:
    """A model folder whose weights are bfloat16 without loss; ``kind`` as transformers names it."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES | extra)
    made = getattr(transformers, f"{kind}ForCausalLM")(config)
    for parameter in made.parameters():
        parameter.data = parameter.data.bfloat16().float()
    made.save_pretrained(folder)
    return folder


class Watched(Engine):
    """An engine that keeps all logits, by segment and index of the token that they follow."""

    logits: dict[tuple[Segment, int], Tensor]

    def watch(self) -> None:
        self.logits = {}
        fed = self.segments.record

        def keep(rows: list[StepRow], logits: Tensor) -> None:
            fed(rows, logits)
            for row, last in zip(rows, logits, strict=True):
                self.logits[row.segment, len(row.segment.steps) - 1] = last.clone()

        self.segments.record = keep  # type: ignore[assignment, method-assign]


class Case(Watched, ReadEngine):
    """One whose tokens are read at once."""

    failures = 0

    def write(self, segments: list[Segment], count: int, **options: Any) -> list[int]:
        """Let a thread on each segment write so many tokens."""
        ids = [
            self.open(segment, Sampling(temperature=1.0, seed=7 + i), stop=ANY, **options)
            for i, segment in enumerate(segments)
        ]
        self.more(ids, count - 1)
        return ids

    def write_each(self, segments: Sequence[Segment], counts: Sequence[int]) -> None:
        """Let a thread on each segment write as many tokens as it is to, side by side."""
        ids = self.write(list(segments), 1)
        for done in range(1, max(counts)):
            self.more([id for id, count in zip(ids, counts, strict=True) if done < count], 1)
        self.close_all(ids)

    def more(self, ids: list[int], count: int) -> None:
        lost = self.run()
        for _ in range(count):
            for id in lost:
                self.close(id)
            for id in set(ids) - lost:
                self.extend(id, [])
            lost |= self.run()

    def run(self) -> set[int]:
        """Step until nothing runs; those for whom there was no room are closed."""
        lost = set()
        for _ in range(400):
            for item in self.step() if self.running else ():
                if isinstance(item, ThreadFailure):
                    lost.add(item.thread)
                    self.failures += 1
                    self.close(item.thread)
        assert not self.running
        return lost

    def close_all(self, ids: list[int]) -> None:
        for id in ids:
            self.close(id)
