"""Where a step of work ends in a text, whatever tokens it came in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning.language.steps import LONG, end_of_step, final_part, left_open, may_end_step

CODE = "Here:\n\n```python\nx = 1\n\ny = 2\n```\n\n"


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("It is 3.\n\nNext", "It is 3.\n\n"),
        ("It is 3.\n \nNext", "It is 3.\n \n"),
        ("It is 3.\r\n\r\nNext", "It is 3.\r\n\r\n"),
        ("\n\nIt is 3.\n\n", "\n\nIt is 3.\n\n"),
        ("Let us see:\n\nIt is 3.\n\n", "Let us see:\n\nIt is 3.\n\n"),
        ("First,\n\nsecond\n\n", "First,\n\nsecond\n\n"),
        ("### Step 1\n\nAdd.\n\n", "### Step 1\n\nAdd.\n\n"),
        ("**Step 1**\n\nAdd.\n\n", "**Step 1**\n\nAdd.\n\n"),
        (f"{CODE}More", CODE),
        ("~~~~\na\n\n~~~\n\nb\n~~~~\n\n", "~~~~\na\n\n~~~\n\nb\n~~~~\n\n"),
        ("```\nnever closed\n\nmore\n\n", None),
        ("one line\nand another\n", None),
        ("我们先算。\n\n然后", "我们先算。\n\n"),
    ],
)
def test_a_step_ends_with_a_blank_line_that_ends_something(text: str, step: str | None) -> None:
    end = end_of_step(text)
    assert (None if end is None else text[:end]) == step


def test_a_long_step_ends_with_its_sentence_but_not_in_code() -> None:
    long = "and so on " * (LONG // 10)
    assert end_of_step(f"{long}until 3.14 or so. Then") == len(f"{long}until 3.14 or so.")
    assert end_of_step(f"{long}然后。") == len(f"{long}然后。")
    assert end_of_step(f"```\n{long}a. b. ") is None
    assert end_of_step(long) is None


PIECES = st.sampled_from(["a", "\n", ".", " ", ":", "\n```\n", "\n\n", "x" * 400])


@given(st.lists(PIECES, max_size=30))
def test_a_step_ends_where_it_did_as_soon_as_that_was_written(pieces: list[str]) -> None:
    text = ""
    for piece in pieces:
        text += piece
        end = end_of_step(text)
        if end is None:
            continue
        assert may_end_step(piece)
        assert end_of_step(text[:end]) == end
        assert not text[:end].count("```") % 2
        return


def test_thoughts_are_told_from_what_is_said() -> None:
    assert left_open("<think>hm") == "</think>"
    assert left_open("hm", "</think>") == "</think>"
    assert left_open("hm</think>So", "</think>") == ""
    assert left_open("[THINK]a[/THINK] b") == ""
    assert final_part("<think>a\n</think>\n\nb") == "b"
    assert final_part("a</think>b", "</think>") == "b"
    assert final_part("<think>still at it") == "still at it"
    assert final_part("plain") == "plain"
