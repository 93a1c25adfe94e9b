"""Where a step of work ends in a chat model's text, and where thoughts do.

A step is a paragraph, as in Hogwild! Inference (arXiv 2504.06261): a blank line ends it, unless it
stands in a fenced block of code or behind words that announce more.  It is looked for in the
decoded text, because many tokenizers have no token for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

LONG = 1_200
"""Characters after which the end of a sentence is enough."""


@dataclass(frozen=True, kw_only=True)
class StepEnds:
    """What ends a step.

    Attributes:
        tokens: Tokens after which a step may end, as far as they are known.
        found: Where the first step of a text ends, or None; without it each of the tokens ends one.
        within: Whether that may be within a token, because tokens are runs of text.
    """

    tokens: frozenset[int]
    found: Callable[[str], int | None] | None = None
    within: bool = False


def end_of_step(text: str) -> int | None:
    """Where the first step of a text ends, behind its blank line; None while it goes on.

    A step of more than `LONG` characters ends with its sentence.
    """
    for blank in _BLANK.finditer(text):
        before = text[: blank.start()]
        if not _goes_on(before):
            return blank.end()
    for sentence in _SENTENCE.finditer(text, min(LONG, len(text))):
        if not _in_code(text[: sentence.end()]):
            return sentence.end()
    return None


def may_end_step(piece: str) -> bool:
    """Whether a step may end with or before this last piece of its text."""
    return _MAY_END.search(piece) is not None


_BLANK = re.compile(r"\n[ \t\r]*\n[ \t\r\n]*")
_SENTENCE = re.compile(r"(?<=[^\W\d_])[.!?…]+[\"'”’)\]*_]*(?=\s|\Z)|[。！？]")
_MAY_END = re.compile(r"[\n.!?…。！？]")
MAY_END_RAW = re.compile(r"\n|Ċ|<0x0A>|[.!?…。！？]|ãĢĤ|ï¼ģ|ï¼Ł|âĢ¦")
"""`may_end_step` for tokens as vocabularies write them, byte by byte or not."""
_HEADING = re.compile(r"(?:#{1,6}[ \t].*|[*_]{2}[^*_\n]*[*_]{2}|[-=*_]{3,})")


def _goes_on(before: str) -> bool:
    """Whether more belongs to a step though a blank line follows."""
    before = before.rstrip()
    if not before or before[-1] in ",:;，：；" or _in_code(before):
        return True
    last = before.rpartition("\n")[2].strip()
    return _HEADING.fullmatch(last) is not None


def _in_code(text: str) -> bool:
    """Whether a fenced block is open at the end of a text."""
    fence = ""
    for mark in _FENCE.finditer(text):
        if not fence:
            fence = mark[1]
        elif mark[1].startswith(fence) and not mark[2].strip():
            fence = ""
    return bool(fence)


_FENCE = re.compile(r"^[ \t]{0,3}(`{3,}|~{3,})([^\n]*)$", re.M)


# ---- thoughts ----------------------------------------------------------------------------------

CLOSERS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
}
"""What ends thoughts, by what begins them."""

_MARKS = re.compile("|".join(map(re.escape, (*CLOSERS, *CLOSERS.values()))))


def left_open(text: str, closer: str = "") -> str:
    """What would end the thoughts in which a text ends; empty where it does not end in thoughts.

    ``closer`` ends those in which it begins.
    """
    for mark in _MARKS.finditer(text):
        closer = CLOSERS.get(mark[0], "")
    return closer


def final_part(text: str, closer: str = "") -> str:
    """What a text says after its thoughts; where these do not end, the last that was thought.

    ``closer`` ends those in which it begins.
    """
    marks = list(_MARKS.finditer(text))
    if left_open(text, closer):
        opener = next((mark for mark in reversed(marks) if mark[0] in CLOSERS), None)
        return text[opener.end() :] if opener else text
    return text[marks[-1].end() :].lstrip() if marks else text
