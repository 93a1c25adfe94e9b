"""What could break a gang in a busy engine, and what would happen without the fix."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from reasoning.values.context import Context, Placed, Segment

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = pytest.mark.filterwarnings("default")

SMALL = {
    "num_gpu_blocks_override": 72,
    "max_num_seqs": 16,
    "max_num_batched_tokens": 96,
    "max_model_len": 1024,
}
"""A pool of 2,300 tokens, and steps that cut long prompts into chunks."""
STEPS = 96
ANY = range(256)


def prompt(length: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(3, 256) for _ in range(length)]


def workers(count: int, length: int, opening: int = 60) -> list[Segment]:
    head = Segment(Context(), prompt(length, length))
    live = [Segment(Context.flow([head]), [opening + index, 7]) for index in range(count)]
    for own in live:
        own.views = [(0, Context.flow([head, *(one for one in live if one is not own)]))]
    return [head, *live]


@pytest.fixture
def author(start: Callable[..., Any]) -> Any:
    author = start("qwen2-gqa", "live", extra={"patience_s": 3.0}, **SMALL)
    yield author
    busy = [id for id, written in author.driver.written.items() if written.finish is None]
    author.driver.engine.abort_request(busy)
    for id in busy:
        author.driver.written[id].finish = "abort"
    for extent in list(author.driver.scheduler.connector.segments.extents):
        author.driver.scheduler.connector.segments.release([extent])
    for _ in range(3):
        author.driver.step()
    author.driver.engine.reset_prefix_cache()


@pytest.fixture
def flat(reference: Callable[[str], Any]) -> Any:
    return reference("qwen2-gqa")


def ended(author: Any, segments: Sequence[Segment], ids: Sequence[str]) -> list[str]:
    """Let a submitted gang end; the reasons, with the segments ready to be compared."""
    head, *live = segments
    given = [len(one) for one in live]
    written = author.driver.run(*ids)
    for segment, id in zip(live, ids, strict=True):
        author.end(segment, id)
    author.steps([head])
    author.in_step(live, given)
    return [one.finish for one in written]


def traffic(author: Any, count: int, length: int, writes: int, seed: int = 100) -> list[Segment]:
    """Ordinary requests, submitted and not waited for."""
    texts = [Segment(Context(), prompt(length, seed + index)) for index in range(count)]
    author.others = [(text, author.driver.add(text.tokens, writes)) for text in texts]
    return texts


def exact_others(author: Any, flat: Any) -> None:
    """The ordinary requests wrote what they would have written alone."""
    author.driver.run(*(id for _, id in author.others))
    for text, id in author.others:
        author.end(text, id)
        author.steps([text])
        count, worst = author.compare(flat, [text])
        assert count > 0
        assert worst < 1e-4


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "control: not kept"])
def test_what_a_member_wrote_is_kept_when_it_finishes_early(
    author: Any, flat: Any, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    from reasoning.vllm_plugin.scheduling.segments import SegmentExtent, SegmentTable

    if not kept:
        keep = SegmentTable._keep

        def forget(self: Any, extent: SegmentExtent, blocks: list[Any], computed: int) -> None:
            keep(self, extent, blocks, computed)
            self._pool.free_blocks(reversed(extent.blocks))

        monkeypatch.setattr(SegmentTable, "_keep", forget)
        monkeypatch.setattr(SegmentTable, "_drop", lambda self, e: self.extents.pop(e.name, None))
    segments = workers(3, 45, opening=60 + 5 * kept)
    ids = author.gang(segments[1:], [20, STEPS, STEPS])
    traffic(author, 14, 70, 60)
    assert ended(author, segments, ids) == ["length"] * 3
    count, worst = author.compare(flat, segments)
    if kept:
        assert count == 20 + 2 * STEPS
        assert worst < 1e-4
        exact_others(author, flat)
    else:
        assert count < 0
        author.driver.run()
        author.driver.scheduler.connector.segments.extents.clear()


@pytest.mark.parametrize("reserved", [True, False], ids=["reserved", "control: not reserved"])
def test_members_are_not_preempted_where_others_are(
    author: Any, flat: Any, monkeypatch: pytest.MonkeyPatch, reserved: bool
) -> None:
    scheduler = author.driver.scheduler
    preempted: list[str] = []
    preempt = scheduler._preempt_request

    def count(request: Any, *args: Any, **options: Any) -> None:
        preempted.append(request.request_id)
        preempt(request, *args, **options)

    monkeypatch.setattr(scheduler, "_preempt_request", count)
    if not reserved:
        monkeypatch.setattr(
            type(scheduler), "_request_blocks_can_be_freed", lambda self, request: True
        )
        monkeypatch.setattr(type(scheduler), "_member", lambda self, request: None)
    segments = workers(3, 45, opening=80 + 5 * reserved)
    if not reserved:  # or it would be first in the queue, and safe
        traffic(author, 8, 70, 160)
        author.driver.step()
    ids = author.gang(segments[1:], [STEPS * 2] * 3)
    traffic(author, 13 if reserved else 4, 70, 160)
    reasons = ended(author, segments, ids) if reserved else []
    assert preempted or not reserved
    if reserved:
        assert reasons == ["length"] * 3
        count_, worst = author.compare(flat, segments)
        assert count_ == 6 * STEPS
        assert worst < 1e-4
        exact_others(author, flat)
        return
    whole = ended(author, segments, ids) == ["length"] * 3
    assert not whole or author.compare(flat, segments)[0] < 0
    assert preempted


@pytest.mark.parametrize("salted", [True, False], ids=["salted", "control: not salted"])
def test_what_gangs_and_joins_wrote_is_not_found_in_the_prefix_cache(
    author: Any, flat: Any, monkeypatch: pytest.MonkeyPatch, salted: bool
) -> None:
    from reasoning.vllm_plugin.connector import SegmentConnector

    if not salted:
        monkeypatch.setattr(SegmentConnector, "_separate", lambda self, one: None)
    segments = workers(2, 45, opening=100 + 5 * salted)
    ids = author.gang(segments[1:], [STEPS] * 2)
    assert ended(author, segments, ids) == ["length"] * 2
    base = Context.given(prompt(40, salted))
    branches = [Segment(base, [10 + 2 * index + salted]) for index in range(2)]
    author.write(branches, 40)
    conclusion = Segment(base.join([base.after(branch) for branch in branches]), [9])
    author.write([conclusion], 30)
    texts = [segments[1].tokens, conclusion.context.tokens + conclusion.tokens]
    worst = []
    for tokens in texts:
        again = Segment(Context(), tokens)
        author.write([again], 2)
        author.steps([again])
        worst.append(author.compare(flat, [again])[1])
    assert (max(worst) < 1e-4) == salted
    assert (min(worst) > 1e-3) == (not salted)


@pytest.mark.parametrize("first", [True, False], ids=["first", "control: in turn"])
def test_members_that_arrive_apart_between_long_prompts_start_together(
    author: Any, flat: Any, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    scheduler = author.driver.scheduler
    if not first:
        monkeypatch.setattr(scheduler, "_let_in", lambda gang: None)
    segments = workers(3, 300, opening=120 + 5 * first)
    live = segments[1:]
    for segment in live:
        author.client.reserve(segment)
    ids = []
    for index, segment in enumerate(live):
        from reasoning.vllm_plugin.note import Member

        traffic(author, 2, 290, 4, seed=1000 + 10 * index)
        ids.append(author.start(segment, STEPS, member=Member(gang="apart", size=3, member=index)))
        for _ in range(3):
            author.driver.step()
    reasons = ended(author, segments, ids) if first else [w.finish for w in author.driver.run(*ids)]
    assert reasons == ["length" if first else "error"] * 3
    if first:
        count, worst = author.compare(flat, segments)
        assert count == 3 * STEPS
        assert worst < 1e-4


def test_a_gang_an_ordinary_request_and_a_join_run_in_one_batch(author: Any, flat: Any) -> None:
    base = Context.given(prompt(50, 5))
    branches = [Segment(base, [10 + index]) for index in range(3)]
    author.write(branches, 30)
    conclusion = Segment(base.join([base.after(branch) for branch in branches]), [9])
    segments = workers(2, 45, opening=140)
    ids = author.gang(segments[1:], [STEPS] * 2)
    traffic(author, 2, 60, 90)
    joining = author.start(conclusion, 40)
    assert ended(author, segments, ids) == ["length"] * 2
    author.driver.run(joining)
    author.end(conclusion, joining)
    every = [base.entries[0].segment, *branches, conclusion]
    author.steps(every)
    for one, wanted in (segments, 2 * STEPS), (every, 130):
        count, worst = author.compare(flat, one)
        assert count == wanted
        assert worst < 1e-4
    exact_others(author, flat)


def test_a_join_that_is_preempted_joins_again(author: Any, flat: Any) -> None:
    base = Context.given(prompt(60, 6))
    branches = [Segment(base, [10 + index]) for index in range(3)]
    author.write(branches, 40)
    conclusion = Segment(base.join([base.after(branch) for branch in branches]), [9])
    id = author.start(conclusion, 60)
    while not author.driver.written[id].tokens:
        author.driver.step()
    for _ in range(20):
        author.driver.step()
    scheduler = author.driver.scheduler
    (request,) = scheduler.running
    scheduler.running.remove(request)
    scheduler._preempt_request(request, 0.0)
    traffic(author, 14, 70, 20)  # which takes the blocks that it had
    author.driver.run(id)
    author.end(conclusion, id)
    every = [base.entries[0].segment, *branches, conclusion]
    author.steps(every)
    count, worst = author.compare(flat, every)
    assert count == 180
    assert worst < 1e-4
    assert request.num_preemptions == 1


def test_a_gang_whose_member_never_comes_fails_and_frees_what_it_held(author: Any) -> None:
    driver = author.driver
    before = driver.free_blocks
    segments = workers(3, 45, opening=160)
    for segment in segments[1:]:
        author.client.reserve(segment)
    from reasoning.vllm_plugin.note import Member

    ids = [
        author.start(segment, 5, member=Member(gang="missing", size=3, member=index))
        for index, segment in enumerate(segments[1:3])
    ]
    other = driver.add(prompt(20, 9), 30)
    assert driver.run(other)[0].finish == "length"
    assert [written.finish for written in driver.run(*ids, steps=100_000)] == ["error"] * 2
    driver.scheduler.connector.segments.release(list(driver.scheduler.connector.segments.extents))
    assert driver.free_blocks == before


def test_the_others_go_on_when_a_member_is_aborted(author: Any, flat: Any) -> None:
    segments = workers(3, 45, opening=180)
    ids = author.gang(segments[1:], [STEPS] * 3)
    while len(author.driver.written[ids[0]].tokens) < 10:
        author.driver.step()
    author.driver.engine.abort_request([ids[1]])
    author.driver.written[ids[1]].finish = "abort"
    assert ended(author, segments, ids) == ["length", "abort", "length"]
    live = segments[1:]
    fed = len(live[1]) - len(author.driver.written[ids[1]].tokens) + 10
    live[1].tokens = live[1].tokens[: max(fed, len(live[1]))]
    count, worst = author.compare(flat, segments)
    assert count > 2 * STEPS
    assert worst < 1e-4


def test_workers_go_on_in_new_segments_and_the_gang_waits_for_them(author: Any, flat: Any) -> None:
    """Hogwild!: a finished step moves into the history, for everybody at once."""
    from reasoning.vllm_plugin.note import Member

    head, *live = workers(3, 45, opening=200)
    every, history = [head, *live], [head]
    author.steps([head])
    for own in live:
        author.client.reserve(own)
    clock = author.clock
    for round_ in range(12):
        ids, fed = [], {}
        if round_ in (4, 6, 7):
            turn = round_ % 3
            history.append(live[turn])
            live[turn] = Segment(Context.flow(history), [210 + round_, 8])
            author.client.reserve(live[turn])
            every.append(live[turn])
            for own in live:
                own.look(Context.flow([*history, *(one for one in live if one is not own)]))
        for own in live:
            author.client.reserve(own)
        for index, own in enumerate(live):
            member = Member(gang="steps", size=3, member=index)
            ids.append(author.start(own, 50, stop=ANY, member=member))
        for one in every[1:]:
            fed[one] = len(one) - len(one.steps)
        written = author.driver.run(*ids)
        assert [one.finish for one in written] == ["stop"] * 3
        for one, count in fed.items():
            one.steps += [clock + round_] * count
        for own, id in zip(live, ids, strict=True):
            author.end(own, id)
    count, worst = author.compare(flat, every)
    assert count == 36
    assert worst < 1e-4


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"view":{}}', '{"home":-1}', '{"keeps":[{"name":1}]}', '{"nope":1}']
)
def test_a_malformed_note_fails_its_request_alone(author: Any, text: str) -> None:
    from vllm.exceptions import VLLMValidationError

    with pytest.raises(VLLMValidationError, match="reason: ") as refused:
        author.driver.add([5], 3, extra_args={"reason": text})
    assert refused.value.parameter == "vllm_xargs.reason"
    assert author.driver.run(author.driver.add([5], 3))[0].finish == "length"


def test_several_answers_of_one_note_are_refused_by_name(author: Any) -> None:
    from vllm.exceptions import VLLMValidationError

    with pytest.raises(VLLMValidationError, match="n: 2 answers"):
        author.driver.add([5], 3, extra_args={"reason": "{}"}, n=2, temperature=1.0)


def test_a_segment_belongs_to_its_key(author: Any) -> None:
    """Another client can neither see nor release it, nor take its name."""
    from reasoning.vllm_plugin.note import AttentionView, KeptRun, Note, SeenSegment

    def ask(key: str, **fields: Any) -> str:
        id: str = author.driver.add(prompt(20, 77), 2, Note(key=key, **fields))
        return str(author.driver.run(id, steps=100_000)[0].finish)

    extents = author.driver.scheduler.connector.segments.extents
    kept = (KeptRun(name="mine"),)
    view = AttentionView(segments=(SeenSegment(name="mine", upto=4),))
    assert ask("one", keeps=kept) == "length"
    assert ask("two", release=("mine",)) == ask("", release=("mine",)) == "length"
    assert ask("two", keeps=kept) == "length"
    assert len(extents) == 2
    assert ask("three", view=view, home=20) == ask("", view=view, home=20) == "error"
    assert ask("one", view=view, home=20) == "length"
    assert ask("one", release=("mine",)) == "length"
    assert len(extents) == 1


def test_a_lagging_sight_is_refused_by_a_join_only_client(author: Any) -> None:
    from reasoning.errors import CapabilityMissing
    from reasoning.vllm_plugin.client import SegmentClient

    base = Context.given(prompt(8))
    own = Segment(Context(entries=(*base.entries, Placed(Segment(base, [4]), 3))), [5])
    with pytest.raises(CapabilityMissing, match="live"):
        SegmentClient("join").plan_requests(own)


def test_the_last_token_of_a_leaving_member_is_seen_from_the_next_step(
    author: Any, flat: Any
) -> None:
    """Group Think: what a thinker wrote last has no keys and values when it ends."""
    from reasoning.vllm_plugin.note import Member

    base = Context.given(prompt(45, 45))
    slots = [
        Segment(Context(entries=base.entries, position=45 + 200 * index), [50 + index])
        for index in range(3)
    ]
    for own in slots:
        own.views = [(0, own.context.seeing(*(one for one in slots if one is not own)))]
    author.steps([base.entries[0].segment])
    clock, live = author.clock, list(slots)
    places = [Member(gang="leaving", size=3, member=index) for index in range(3)]
    for round_ in range(10):
        for own in live:
            author.client.reserve(own)
        if round_ == 4:  # the first one has left
            fills, note = author.client.farewell(places[0], live)
            author.driver.add([5], 1, note)
            for fill in fills:
                author.driver.add(fill.prompt, 1, fill.note)
        ids = [author.start(own, 50, ANY, places[slots.index(own)]) for own in live]
        fed = {one: len(one) - len(one.steps) for one in slots}
        assert [one.finish for one in author.driver.run(*ids)] == ["stop"] * len(live)
        for one, count in fed.items():
            one.steps += [clock + round_] * count
        for own, id in zip(live, ids, strict=True):
            author.end(own, id)
        if round_ == 3:
            live.remove(slots[0])
    count, worst = author.compare(flat, [base.entries[0].segment, *slots])
    assert count == 24
    assert worst < 1e-4


def test_running_members_are_told_what_they_see_when_one_leaves(author: Any, flat: Any) -> None:
    from reasoning.vllm_plugin.note import Member

    base = Context.given(prompt(45, 46))
    slots = [
        Segment(Context(entries=base.entries, position=45 + 200 * index), [50 + index])
        for index in range(3)
    ]
    for own in slots:
        own.views = [(0, own.context.seeing(*(one for one in slots if one is not own)))]
        author.client.reserve(own)
    author.steps([base.entries[0].segment])
    clock, first = author.clock, slots[0]
    places = [Member(gang="told", size=3, member=index) for index in range(3)]
    others = slots[1:]
    ids = [author.start(own, 40, member=places[1 + i]) for i, own in enumerate(others)]
    for _ in range(4):
        author.client.reserve(first)
        id = ""
        for asked in author.client.plan_requests(first, places[0], others):
            id = author.driver.add(asked.prompt, 1 if asked.fill else 50, asked.note, ANY)
        author.driver.run(id)
        author.end(first, id)
    for _ in range(5):
        author.driver.step()
    fills, note = author.client.farewell(places[0], others)
    author.driver.add([5], 1, note)
    for fill in fills:
        author.driver.add(fill.prompt, 1, fill.note)
    author.driver.run(*ids)
    for own, id in zip(others, ids, strict=True):
        author.end(own, id)
    first.steps = list(range(clock, clock + 5))
    for own in others:
        own.steps = list(range(clock, clock + 40))
    count, worst = author.compare(flat, [base.entries[0].segment, *slots])
    assert count == 84
    assert worst < 1e-4
