"""Answers in what a model wrote."""

from __future__ import annotations

import re


def boxed(text: str) -> str | None:
    r"""The content of the last complete ``\boxed{...}``, braces balanced."""
    for start in reversed([match.end() for match in re.finditer(r"\\boxed\s*{", text)]):
        depth = 1
        for end in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                return text[start:end].strip() or None
    return None


def last_number(text: str) -> str | None:
    """The last number in a text, without commas."""
    numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    return numbers[-1].replace(",", "") if numbers else None
