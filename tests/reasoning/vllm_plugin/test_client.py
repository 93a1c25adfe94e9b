"""The plugin's client: which requests and notes contexts become, without any vLLM."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidValue
from reasoning.errors import CapabilityMissing
from reasoning.values.context import Context, Segment
from reasoning.vllm_plugin.client import SegmentClient, is_plain
from reasoning.vllm_plugin.note import KEY, AttentionView, Member, Note, SeenSegment, read_note


def wrote(client: SegmentClient, segment: Segment, *tokens: int) -> None:
    """As if the request for a segment had written these and ended."""
    client.plan_requests(segment)
    segment.tokens += tokens
    client.ended(segment)


def test_a_plain_thread_is_an_ordinary_request_whose_segments_are_named() -> None:
    client = SegmentClient("join")
    base = Context.given([1, 2, 3])
    own = Segment(base, [4])
    (asked,) = client.plan_requests(own)
    assert asked.prompt == [1, 2, 3, 4]
    assert asked.note.view is None
    assert [(hold.first, hold.count) for hold in asked.note.keeps] == [(0, 3), (3, None)]


def test_a_join_copies_its_branches_after_their_last_tokens_are_computed() -> None:
    client = SegmentClient("join")
    base = Context.given([1, 2, 3])
    branches = [Segment(base, [10]), Segment(base, [11])]
    wrote(client, branches[0], 20, 21)
    wrote(client, branches[1], 30)
    joined = Segment(base.join([base.after(branch) for branch in branches]), [9])
    *fills, asked = client.plan_requests(joined)
    assert [(fill.prompt, fill.fill) for fill in fills] == [
        ([1, 2, 3, 10, 20, 21], True),
        ([1, 2, 3, 11, 30], True),
    ]
    assert [fill.note.copied for fill in fills] == [5, 4]
    assert [fill.note.home for fill in fills] == [5, 4]
    assert asked.prompt == [1, 2, 3, 10, 20, 21, 11, 30, 9]
    assert asked.note.copied == 8
    assert asked.note.home == 6
    assert asked.note.view is not None
    assert [seen.upto for seen in asked.note.view.segments] == [3, 2, 1, 1, 1]


def test_a_path_and_what_follows_it_are_no_ordinary_text() -> None:
    base = Context.given([1, 2, 3])
    path = Segment(base, [10], path=2)
    after = Segment(base.after(path), [9])
    assert not is_plain(path)
    assert not is_plain(after)
    client = SegmentClient("join")
    *_, asked = client.plan_requests(path)
    assert (asked.note.path, asked.note.copied, asked.note.home) == (2, 3, 3)
    path.tokens += [20, 21]
    client.ended(path)
    fill, asked = client.plan_requests(after)
    assert (fill.fill, fill.note.path) == (True, 2)
    assert (asked.note.path, asked.note.copied) == (0, 6)
    with pytest.raises(InvalidValue, match="path"):
        read_note({KEY: '{"path":1}'})


def test_a_flowing_context_is_read_in_place_and_refused_by_a_mere_join() -> None:
    head = Segment(Context(), [1, 2, 3])
    own, other = (Segment(Context.flow([head]), [token]) for token in (4, 5))
    own.look(Context.flow([head, other]))
    live = SegmentClient("live")
    live.reserve(other)
    fill, asked = live.plan_requests(own, Member(gang="g", size=2, member=0))
    assert fill.prompt == [1, 2, 3]
    assert fill.note.member is None
    assert asked.prompt == [4]
    assert asked.note.view is not None
    assert asked.note.view.flowing
    assert [seen.upto for seen in asked.note.view.segments] == [3, None]
    with pytest.raises(CapabilityMissing, match="live"):
        SegmentClient("join").plan_requests(own)


def test_a_members_stop_token_is_computed_beside_its_gangs_next_step() -> None:
    client = SegmentClient("live")
    head = Segment(Context(), [1, 2, 3])
    own, other = (Segment(Context.flow([head]), [token]) for token in (4, 5))
    places = [Member(gang="g", size=2, member=index) for index in range(2)]
    for one, another in (own, other), (other, own):
        one.look(Context.flow([head, another]))
        client.reserve(one)
    for one, place in zip((own, other), places, strict=True):
        client.plan_requests(one, place)
    own.tokens += [6, 7]
    client.ended(own)
    following = Segment(Context.flow([head, own]), [8])
    following.look(Context.flow([head, own, other]))
    other.look(Context.flow([head, own, following]))
    client.reserve(following)
    fill, asked = client.plan_requests(following, places[0], [other])
    assert fill.prompt == [7]
    assert fill.note.member is not None
    assert fill.note.member.once
    ((name, view),) = asked.note.views.items()
    assert name == client.stored(other).runs[-1].name
    assert [seen.upto for seen in view.segments] == [3, 2, 1, None]
    _, note = client.farewell(places[0], [other])
    assert note is not None
    assert note.leave == (("g", 0),)
    assert note.views == {}


def test_members_that_stop_in_the_same_step_see_each_others_last_tokens() -> None:
    client = SegmentClient("live")
    head = Segment(Context(), [1, 2, 3])
    live = [Segment(Context.flow([head]), [4 + index]) for index in range(2)]
    places = [Member(gang="g", size=2, member=index) for index in range(2)]
    for own, other in zip(live, reversed(live), strict=True):
        own.look(Context.flow([head, other]))
        client.reserve(own)
    for own, place in zip(live, places, strict=True):
        client.plan_requests(own, place)
    for own in live:
        own.tokens += [6, 7]
        client.ended(own)
    following = Segment(Context.flow([head, *live]), [8])
    client.reserve(following)
    *fills, _ = client.plan_requests(following, places[0])
    assert [fill.prompt for fill in fills] == [[7], [7]]
    named = [fill.note.keeps[0].name for fill in fills]
    for fill, other in zip(fills, reversed(named), strict=True):
        assert fill.note.view is not None
        assert other in [seen.name for seen in fill.note.view.segments]


def test_what_nobody_holds_any_more_is_released_once() -> None:
    client = SegmentClient("join")
    own = Segment(Context(), [1, 2])
    wrote(client, own, 3)
    name = client.stored(own).runs[0].name
    del own
    gc.collect()
    _, note = client.farewell()
    assert note is not None
    assert note.release == (name,)
    assert client.farewell() == ([], None)


def test_what_was_reserved_and_never_sent_is_seen_by_nobody() -> None:
    client = SegmentClient("live")
    own = Segment(Context(), [1, 2])
    client.reserve(own)
    client.ended(own)
    assert client.stored(own).runs == []


def test_a_request_that_was_not_heard_of_is_computed_again_where_it_is_joined() -> None:
    client = SegmentClient("join")
    base = Context.given([1, 2, 3])
    branches = [Segment(base, [10]), Segment(base, [11])]
    (asked,) = client.plan_requests(branches[0])  # and stopped before it came, with the prompt
    client.lost(branches[0], asked.note)
    client.ended(branches[0])
    (other,) = client.plan_requests(branches[1])
    branches[1].tokens.append(30)
    client.ended(branches[1])
    joined = Segment(base.join([base.after(branch) for branch in branches]), [9])
    *fills, after = client.plan_requests(joined)
    lost = {kept.name for kept in asked.note.keeps}
    seen = {one.name for one in after.note.view.segments} if after.note.view else set()
    assert len(lost) == 2
    assert set(other.note.release) == lost
    assert [1, 2, 3, 10] in [fill.prompt for fill in fills]
    assert seen <= {kept.name for one in (other, *fills) for kept in one.note.keeps}


def test_a_thread_without_a_token_is_refused_where_it_needs_one() -> None:
    base = Context.given([1, 2])
    joined = base.join([base.after(Segment(base, [3])), base.after(Segment(base, [4]))])
    with pytest.raises(InvalidValue, match="token of its own"):
        SegmentClient("join").plan_requests(Segment(joined))


def test_only_a_text_that_sees_all_of_itself_is_plain() -> None:
    base = Context.given([1, 2])
    branches = [Segment(base, [3]), Segment(base, [4])]
    joined = Segment(base.join([base.after(branch) for branch in branches]), [5])
    assert is_plain(branches[0])
    assert is_plain(Segment(base.after(branches[0]), [6]))
    assert not is_plain(joined)
    assert not is_plain(Segment(joined.context.after(joined), [7]))
    assert not is_plain(Segment(Context.flow([base.entries[0].segment]), [8]))


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 400), st.integers(-9, 9), st.booleans()),
        max_size=6,
    ),
    st.integers(0, 100),
    st.integers(0, 100),
    st.booleans(),
)
def test_turns_are_those_of_the_context(
    seen: list[tuple[int, int, int, bool]], position: int, base: int, flowing: bool
) -> None:
    """A viewer of given keys stands as far from them as `Context.turns` says."""
    from reasoning.values.context import Placed

    others = []
    for limit, home, shift, own in seen:
        segment = Segment(Context(), range(limit))
        segment.home = home
        others.append((Placed(segment, shift), limit, home, own))
    foreign = [(entry, limit) for entry, limit, _, own in others if not own]
    context = Context(
        entries=tuple(entry for entry, _ in foreign), position=position, flowing=flowing
    )
    view = AttentionView(
        segments=tuple(
            SeenSegment(name=str(index), shift=entry.shift, own=own)
            for index, (entry, _, _, own) in enumerate(others)
        ),
        position=position,
        base=base,
        flowing=flowing,
    )
    turns = view.turns([limit for _, limit, _, _ in others], [home for _, _, home, _ in others])
    assert [t for t, (*_, own) in zip(turns, others, strict=True) if own] == [0] * sum(
        own for *_, own in others
    )
    assert [t for t, (*_, own) in zip(turns, others, strict=True) if not own] == context.turns(
        [limit for _, limit in foreign], base
    )


def test_a_note_survives_the_wire() -> None:
    note = Note(
        home=3,
        release=("a",),
        leave=(("g", 1),),
        view=AttentionView(segments=(SeenSegment(name="x"),)),
    )
    assert read_note(note.arguments()) == note
    assert read_note(None) is read_note({}) is None


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", "JSON"),
        ('{"nope": 1}', "nope"),
        ('{"home": -1}', "home"),
        ('{"view": {}}', "home"),
        ('{"home": 1, "copied": 2}', "copied"),
        ('{"home": 1, "copied": 2, "view": {"segments": [{"name": "a"}]}}', "upto"),
    ],
)
def test_a_malformed_note_is_refused_by_its_field(text: str, field: str) -> None:
    with pytest.raises(InvalidValue, match=field):
        read_note({KEY: text})
