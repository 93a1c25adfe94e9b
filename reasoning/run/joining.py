"""Text joins: what branches wrote, put one after the other so that it fits into a context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reasoning.language.dialect import Dialect
from reasoning.language.steps import final_part
from reasoning.values.context import Context

LEAST = 16
"""Fewer tokens of a branch say nothing."""


class Part(NamedTuple):
    """The tokens of a branch: those that it was given, and those that it wrote."""

    given: list[int]
    written: list[int]

    def __len__(self) -> int:
        return len(self.given) + len(self.written)


def parts_of(dialect: Dialect, base: Context, ends: Sequence[Context]) -> list[Part]:
    """What branches added to a context, without what a chat model thought on the way."""
    segments = dict.fromkeys(
        entry.segment for end in ends for entry in end.entries[len(base.entries) :]
    )
    parts = [Part(one.tokens[: one.given], one.tokens[one.given :]) for one in segments]
    if dialect.trained:
        return parts
    return [Part(part.given, said(dialect, part.written)) for part in parts]


def said(dialect: Dialect, tokens: list[int]) -> list[int]:
    """What a chat model said after its thoughts; where they do not end, what it thought last."""
    decoder, text, ends = dialect.decoder(), "", []
    for token in tokens:
        text += decoder.feed(token)
        ends.append(len(text))
    dropped = len(text) - len(final_part(text))
    return [token for token, end in zip(tokens, ends, strict=True) if end > dropped or not dropped]


def shortened(parts: Sequence[Part], room: int) -> list[Part]:
    """The parts, the ends of the longest of them only, so that all together fit into ``room``.

    A part that has no room for `LEAST` of its tokens loses them all.
    """
    most = level([len(part.written) for part in parts], room - sum(len(p.given) for p in parts))
    if most < LEAST:
        most = 0
    return [
        Part(given, written[len(written) - min(most, len(written)) :]) for given, written in parts
    ]


def latest(parts: Sequence[Part], room: int) -> list[Part]:
    """The last of the parts that fit into ``room``; of a single one that does not, its end."""
    kept: list[Part] = []
    for part in reversed(parts):
        room -= len(part)
        if room < 0:
            break
        kept.insert(0, part)
    return kept or shortened(parts[-1:], room + len(parts[-1]) if parts else 0)


def level(lengths: Sequence[int], room: int) -> int:
    """The largest length to which all may be cut so that their sum is at most ``room``."""
    left = max(room, 0)
    for index, length in enumerate(ordered := sorted(lengths)):
        share = left // (len(ordered) - index)
        if length > share:
            return share
        left -= length
    return max(lengths, default=0)
