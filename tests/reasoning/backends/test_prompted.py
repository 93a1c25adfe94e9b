"""Threads as runs of requests: what is sent, what goes on after a loss, who is asked."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack

import anyio
import pytest

from orchestrator.errors import InvalidValue
from reasoning.backends.base import Token
from reasoning.backends.openai.replicas import Replica, Replicas, asked_to_wait
from reasoning.backends.prompted import PromptedBackend, PromptedGeneration
from reasoning.errors import BackendLost
from reasoning.values.context import Context, Segment
from reasoning.values.sampling import Sampling
from tests.support.reading import reading

pytestmark = pytest.mark.anyio

STOP, EOS = 7, 2
Answer = list[Token | Exception]


class Scripted(PromptedBackend):
    """Answers requests from a list: tokens, and errors in between."""

    capabilities = frozenset({"token-prompts"})

    def __init__(self, *answers: Answer, forgiving: int = 3) -> None:
        super().__init__(context=500, eos=(EOS,), block=32)
        self.answers = list(answers)
        self.forgiving = forgiving
        self.sent: list[list[int]] = []
        self.seeds: list[int] = []
        self.cached: Callable[[int], int] = lambda _: 0
        self.aborted = 0

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def request(
        self, generation: PromptedGeneration, prompt: list[int]
    ) -> AsyncGenerator[Token, None]:
        self.sent.append(prompt)
        self.seeds.append(generation.sampling.seed)
        self.running[generation] = self._abort
        generation.found_cached(self.cached(len(prompt)))
        for one in self.answers.pop(0):
            await anyio.lowlevel.checkpoint()
            if isinstance(one, Exception):
                raise one
            yield one
        self.running.pop(generation, None)

    async def _abort(self) -> None:
        self.aborted += 1

    async def recover(
        self, generation: PromptedGeneration, error: BackendLost, failures: int
    ) -> bool:
        return failures <= self.forgiving


def opened(backend: Scripted, prompt: list[int], **more: int) -> PromptedGeneration:
    segment = Segment(Context.given(prompt))
    return backend.open(segment, Sampling(temperature=1.0, seed=5), stop=(STOP,), **more)


async def read(generation: PromptedGeneration) -> list[int]:
    return [token.token async for token in reading(generation, generation.segment)]


async def test_a_stopped_thread_goes_on_with_all_that_it_saw_and_another_seed() -> None:
    backend = Scripted([Token(10, 0.0), Token(STOP, 0.0)], [Token(11, 0.0), Token(EOS, 0.0)])
    async with backend:
        generation = opened(backend, [1, 3])
        assert await read(generation) == [10, STOP]
        generation.extend([20, 21])
        generation.segment.tokens += [20, 21]
        assert await read(generation) == [11, EOS]
        assert backend.sent == [[1, 3], [1, 3, 10, STOP, 20, 21]]
        assert backend.seeds[0] == 5 != backend.seeds[1]
        with pytest.raises(InvalidValue, match="not stopped"):
            generation.extend([4])
        assert generation.prompted == 8
        generation.close()
    assert backend.open_threads == 0


async def test_a_lost_request_is_sent_again_with_what_was_written() -> None:
    lost = BackendLost("gone; wait")
    backend = Scripted([lost], [Token(10, 0.0), lost], [Token(11, 0.0), Token(EOS, 0.0)])
    async with backend:
        generation = opened(backend, [1])
        assert await read(generation) == [10, 11, EOS]
    assert backend.sent == [[1], [1], [1, 10]]
    assert backend.seeds[0] == backend.seeds[1] != backend.seeds[2]


async def test_an_answer_that_ends_without_a_reason_is_lost() -> None:
    async with Scripted([Token(10, 0.0)], forgiving=0) as backend:
        with pytest.raises(BackendLost, match="without a reason"):
            await read(opened(backend, [1]))


async def test_what_was_written_before_a_loss_stands() -> None:
    async with Scripted([Token(10, 0.0), BackendLost("gone; wait")], forgiving=0) as backend:
        generation = opened(backend, [1])
        with pytest.raises(BackendLost, match="gone"):
            await read(generation)
        assert generation.segment.tokens == [10]


async def test_a_fork_that_is_prefilled_again_is_counted_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    end: Answer = [Token(EOS, 0.0)]
    async with Scripted(end, end, end, end) as backend:
        context = Context.given(list(range(100)))
        for cached in (0, 96, 32, 0):
            backend.cached = lambda _, cached=cached: cached  # type: ignore[misc]
            generation = backend.open(Segment(context.then([4])), Sampling())
            with caplog.at_level(logging.WARNING):
                await read(generation)
            assert generation.cached == cached
    assert backend.refilled == (96 - 32) + 96
    assert len(caplog.records) == 1
    assert "prefix cache" in caplog.text


async def test_a_prefix_in_another_servers_cache_is_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class ScriptedSeveral(Scripted):
        one_cache = False

    async with ScriptedSeveral(*[[Token(EOS, 0.0)]] * 2) as backend:
        backend.cached = lambda _: 0  # type: ignore[method-assign]
        context = Context.given(list(range(100)))
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                await read(backend.open(Segment(context.then([4])), Sampling()))
    assert caplog.text == ""


async def test_a_closed_thread_is_aborted_once_though_nobody_waits() -> None:
    async with Scripted([Token(10, 0.0)] * 50) as backend:
        generation = opened(backend, [1])
        stream = generation.tokens()
        await anext(stream)
        generation.close()
        generation.close()
        await anyio.wait_all_tasks_blocked()
        assert backend.aborted == 1
        await stream.aclose()


async def test_an_error_inside_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with Scripted():
            raise KeyError


def thread_of(prompt: Segment) -> Segment:
    return Segment(Context.flow([prompt]))


def test_a_thread_goes_on_where_it_wrote_and_others_where_their_prompt_is() -> None:
    replicas = Replicas([Replica(name, None) for name in "abc"])
    prompt = Segment(Context(), [1])
    threads = [thread_of(prompt) for _ in range(2)]
    home = replicas.choose(threads[0], b"1")
    assert replicas.choose(threads[1], b"1") is home
    home.busy = 3  # more than its share of three, and less than twice that
    other = replicas.choose(thread_of(prompt), b"1")
    assert other is not home
    assert replicas.choose(threads[0], b"1") is home
    branch = Segment(Context.flow([prompt, threads[0]]))
    assert replicas.choose(branch, b"1") is other  # both have the prompt
    home.rest()
    assert replicas.choose(threads[0], b"1") is not home
    for one in replicas.members:
        one.rest()
    assert replicas.choose(threads[0], b"1") in replicas.members  # somebody must be asked


async def test_second_turns_come_back_to_their_keys_and_values() -> None:
    replicas = Replicas([Replica(name, None) for name in "abc"])
    back = 0
    for problem in range(40):
        prompt = Segment(Context(), [problem])
        threads = [thread_of(prompt) for _ in range(25)]
        async with AsyncExitStack() as all_at_once:
            enter = all_at_once.enter_async_context
            first = [await enter(replicas.borrow(one, b"%d" % problem)) for one in threads]
            busy = [one.busy for one in replicas.members]
        assert max(busy) <= 1.25 * 25 / 3 + 2
        async with AsyncExitStack() as all_at_once:
            enter = all_at_once.enter_async_context
            again = [await enter(replicas.borrow(one)) for one in reversed(threads)]
        back += sum(a is b for a, b in zip(first, reversed(again), strict=True))
    assert back >= 950


def test_processes_agree_where_a_prompt_is_at_home() -> None:
    placed = []
    for _ in range(2):
        replicas = Replicas([Replica(name, None) for name in "abc"])
        own = [thread_of(Segment(Context(), [number])) for number in range(30)]
        placed.append([replicas.choose(one, b"%d" % n).url for n, one in enumerate(own)])
    assert placed[0] == placed[1]
    assert set(placed[0]) == {"a", "b", "c"}


def test_a_replica_that_is_much_slower_is_not_asked_until_that_is_long_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    replicas = Replicas([Replica(name, None) for name in "ab"])
    slow, fast = replicas.members
    own = [thread_of(Segment(Context(), [number])) for number in range(20)]
    assert {replicas.choose(one, b"%d" % n) for n, one in enumerate(own)} == {slow, fast}
    slow.wrote(8, 8.0)
    assert {replicas.choose(one) for one in own} == {slow, fast}  # nobody is known to be faster
    fast.wrote(80, 8.0)
    assert {replicas.choose(one) for one in own} == {fast}
    fast.busy = 50
    assert replicas.choose(own[0]) is fast
    now += 60
    assert replicas.choose(own[0]) is fast, "an answer of eight seconds is not tried so soon"
    now += 30
    assert replicas.choose(own[0]) is slow


def test_a_retry_waits_only_where_nobody_else_can_be_asked() -> None:
    replicas = Replicas([Replica("a", None), Replica("b", None)])
    assert replicas.pause(1, 0.5) == 0
    for one in replicas.members:
        one.rest()
    waits = [replicas.pause(failures, 0.5) for failures in (1, 2, 3, 2000)]
    assert 0.3 < waits[0] < waits[1] < waits[2] < waits[3] < 40


async def test_a_server_that_asks_to_wait_is_not_asked_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replicas = Replicas([Replica("a", None), Replica("b", None)])
    slept: list[float] = []
    now = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr("anyio.sleep", sleep)
    first, second = replicas.members
    first.rest(3600.0)
    await replicas.open()
    assert slept == []  # the other one may be asked
    assert replicas.choose(Segment(Context(), [1])) is second
    second.rest(33.0)
    await replicas.open()
    assert slept == [33.0]
    assert replicas.choose(Segment(Context(), [1])) is second


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "33"}, 33),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        (
            {
                "retry-after": "Sat, 28 Nov 2026 10:01:03 GMT",
                "date": "Sat, 28 Nov 2026 10:00:30 GMT",
            },
            33,
        ),
        ({"retry-after": "Sat, 28 Nov 2015 10:01:03 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_the_wait_is_read_in_both_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_to_wait(headers) == seconds
