"""What others wrote is shown, and does nothing to a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning.cli.printing import say, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b]0;title\x07b", "a\\x1b]0;title\\x07b"),
        ("\x1b[2J\x9b31m", "\\x1b[2J\\x9b31m"),
        ("over\rwritten\x08", "over\\x0dwritten\\x08"),
        ("\u202eright to left", "\\x202eright to left"),
        ("two\nlines\tand ünïcode 日本", "two\nlines\tand ünïcode 日本"),
    ],
)
def test_control_characters_are_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_nothing_visible_is_lost_and_nothing_invisible_is_left(text: str) -> None:
    shown = visible(text)
    assert visible(shown) == shown
    assert all(letter in "\n\t" or letter == "\xad" or ord(letter) > 31 for letter in shown)
    assert len(shown) >= len(text)


def test_what_is_said_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("\x1b[31mred")
    say("plain", err=False)
    assert capsys.readouterr() == ("plain\n", "\\x1b[31mred\n")
