"""A trained judge: from pairs of texts to probabilities, with the cost for each run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import torch

from pruning import Judgement, JudgeSession, Trace
from reasoning.judging.card import JudgeCard, read_card
from reasoning.judging.pair_encoders import PAIR_ENCODERS, Item, PairEncoder, Reading, Texts

MOST_CACHED = 200_000


@dataclass(kw_only=True)
class LearnedJudge:
    """A judge loaded from its folder: a `pruning.Judge` that works in batches and has a cost.

    It caches what it has read, so that a replay of many orders reads each text once; each run is
    charged for it all the same.  Sessions may be asked in several threads at once, and take turns;
    the judge itself is not safe for that.

    Attributes:
        fingerprint: A hash that differs between any two judges.
        turn: Held by the session that asks.
    """

    card: JudgeCard
    form: PairEncoder
    fingerprint: str = ""
    turn: Lock = field(default_factory=Lock, repr=False, compare=False)
    _read: dict[Item, Reading] = field(default_factory=dict)
    _known: dict[Texts, float] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: str | Path) -> LearnedJudge:
        """Load the judge that ``reason judge train`` wrote.

        Raises:
            ModelUnusable: the folder is no judge, or was changed.
            ExtraMissing: sentence-transformers is not installed.
        """
        folder = Path(folder)
        card, fingerprint = read_card(folder)
        form = PAIR_ENCODERS[card.form].load(folder / "encoder", max_length=card.max_length)
        return cls(card=card, form=form, fingerprint=fingerprint)

    def __post_init__(self) -> None:
        self.cut = self.card.cut

    def __call__(self, trace: Trace, other: Trace, tokens: int) -> float:
        """The probability that the two will agree, from the first ``tokens`` tokens of each."""
        return self.judge([self.texts(trace, other, tokens)])[0]

    def texts(self, trace: Trace, other: Trace, tokens: int | None = None) -> Texts:
        """The texts that it reads of two traces, sorted, so that their order is irrelevant."""
        one, two = sorted((self.cut.of(trace, tokens), self.cut.of(other, tokens)))
        return one, two

    def judge(
        self, pairs: Sequence[Texts], on_batch: Callable[[int], None] = lambda count: None
    ) -> list[float]:
        """The probability of each pair of texts, to four decimals (batches differ in the sixth)."""
        if len(self._read) > MOST_CACHED or len(self._known) > MOST_CACHED:
            self.forget()
        new = list(dict.fromkeys(pair for pair in pairs if pair not in self._known))
        self.read((item for pair in new for item in self.form.items(pair)), on_batch)
        if new:
            values = [tuple(self._read[i].value for i in self.form.items(pair)) for pair in new]
            with torch.inference_mode():
                self._known.update(zip(new, self.form.combine(values).tolist(), strict=True))
        return [self._probability(self._known[pair]) for pair in pairs]

    def logit(self, pair: Texts) -> float:
        """The raw logit of a pair that was judged before."""
        return self._known[pair]

    def read(
        self, items: Iterable[Item], on_batch: Callable[[int], None] = lambda count: None
    ) -> None:
        """Read the items that are not in the cache."""
        missing = [item for item in dict.fromkeys(items) if item not in self._read]
        self._read.update(self.form.read(missing, on_batch=on_batch))

    def cost(self, item: Item) -> Reading:
        """The reading of an item, with its tokens and seconds."""
        self.read([item])
        return self._read[item]

    def open_session(self) -> JudgeSession:
        """Open the judge for a new run."""
        return _LearnedJudgeSession(self)

    def _probability(self, logit: float) -> float:
        exponent = -(self.card.scale * logit + self.card.bias)
        return round(1 / (1 + math.exp(max(-60.0, min(60.0, exponent)))), 4)

    def forget(self) -> None:
        """Empty the cache."""
        self._read.clear()
        self._known.clear()


@dataclass
class _LearnedJudgeSession:
    """The judge during one run, and the items that the run has paid for."""

    judge: LearnedJudge
    paid: set[Item] = field(default_factory=set)

    def ask(self, trace: Trace, others: Sequence[Trace], tokens: int) -> list[Judgement]:
        pairs = [self.judge.texts(trace, other, tokens) for other in others]
        with self.judge.turn:
            sames = self.judge.judge(pairs)
            return [self._charge(pair, same) for pair, same in zip(pairs, sames, strict=True)]

    def _charge(self, pair: Texts, same: float) -> Judgement:
        new = [i for i in dict.fromkeys(self.judge.form.items(pair)) if i not in self.paid]
        self.paid.update(new)
        costs = [self.judge.cost(item) for item in new]
        return Judgement(
            same=same,
            tokens=sum(cost.tokens for cost in costs),
            seconds=sum(cost.seconds for cost in costs),
        )
