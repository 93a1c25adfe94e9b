"""Where a model's thoughts begin and end in its text."""

from __future__ import annotations

import re

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
