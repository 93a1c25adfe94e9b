"""Stop texts: found wherever tokens are cut, never shown, and the thread's own end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reasoning.run.stop_texts import StopTexts

words = st.text(alphabet="ab\n", max_size=6)


@given(pieces=st.lists(words, max_size=12), stops=st.lists(words.filter(bool), max_size=3))
def test_however_a_text_is_cut_it_ends_before_the_first_stop_text(
    pieces: list[str], stops: list[str]
) -> None:
    seen, shown = StopTexts(stops), ""
    text = "".join(pieces)
    places = [text.find(stop) for stop in stops if stop in text]
    for piece in pieces:
        shown += seen.feed(piece)
        assert text.startswith(shown)
    assert shown + seen.end() == (text[: min(places)] if places else text)
    assert (seen.found is not None) == bool(places)
