"""Lists of servers that change, are out, are full, or differ in pace."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from benchmarks.simulated.clock import in_virtual_time
from orchestrator.errors import InvalidValue
from reasoning import Context, Reasoner, Segment, Solution
from reasoning.backends.openai.replicas import Addresses, Hedging, Membership, Replica, Replicas
from reasoning.backends.openai.replicas import addresses as addresses_module
from reasoning.models.server import ServerSource
from tests.support.scripted_chat import BOXED, Script, ScriptedChat

pytestmark = pytest.mark.anyio

FAST: dict[str, Any] = {"backoff": 0.01, "connect_timeout": 2.0, "mode": "chat"}
SLOW = Script(chunks=[BOXED], delay_s=0.05)


@asynccontextmanager
async def chats(count: int) -> AsyncIterator[list[tuple[ScriptedChat, str]]]:
    async with AsyncExitStack() as stack:
        apps = [ScriptedChat(answers=[SLOW]) for _ in range(count)]
        yield [(app, await stack.enter_async_context(app.running())) for app in apps]


async def voted(reasoner: Reasoner, n: int = 12) -> Solution:
    return await reasoner.solve("What is 6*7?", policy=f"sc:n={n}")


async def test_servers_join_and_leave_by_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses_module, "FILE_S", 0.0)
    listed = tmp_path / "servers.txt"
    async with chats(2) as ((first, at_first), (second, at_second)):
        listed.write_text(f"# ours\n{at_first}  # the first\n\n")
        model = await ServerSource(base_urls=(f"@{listed}",), **FAST).connect()
        async with Reasoner(model) as reasoner:
            await voted(reasoner)
            assert (len(first.streamed), len(second.streamed)) == (12, 0)
            listed.write_text(f"{at_first}\n{at_second}\n")
            await voted(reasoner)
            await voted(reasoner)
            assert len(second.streamed) >= 6
            listed.write_text("")  # somebody is writing it
            assert (await voted(reasoner)).votes == {"42": 12}
            listed.write_text(f"{at_second}\n")
            await voted(reasoner)
            before = len(first.streamed)
            assert (await voted(reasoner)).votes == {"42": 12}
            assert len(first.streamed) == before


async def test_a_name_stands_for_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["127.0.0.1", "127.0.0.2"]

    async def lookup(host: str, port: int, **more: Any) -> list[Any]:
        assert host == "engines.test"
        ours = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]
        return [*ours, (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))]

    monkeypatch.setattr("anyio.getaddrinfo", lookup)
    source = ServerSource(base_urls=("dns+http://engines.test:8000", "http://[::1]:9"))
    addresses = Addresses(source.base_urls)
    expected = (*(f"http://{one}:8000/v1" for one in found), "http://[::1]:9/v1")
    assert await addresses.now() == expected
    assert addresses.due()
    assert not addresses.due()
    found.pop()
    assert await addresses.now() == expected, "it was looked up just now"
    monkeypatch.setattr(addresses_module, "LOOKUP_S", 0.0)
    assert await addresses.now() == (expected[0], expected[2])


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("@", "names no file"),
        ("dns+https://engines:8000", "certificate"),
        ("dns+ftp://engines:8000", "no http address"),
        ("not a server", "base-url: 'not a server' is no http address; give"),
        ("http://a\0b/v1", "no http address"),
    ],
)
def test_what_is_no_list_is_refused_by_name(named: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ServerSource(base_urls=(named,))


async def test_a_file_without_servers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "servers.txt"
    for text, said in (
        (None, "can't be read"),
        ("# none\n", "lists no"),
        ("\ufeffftp://x", "'ftp://x' is no http"),
        ("http://a http://b", "no http"),
    ):
        if text is not None:
            path.write_text(text)
        with pytest.raises(InvalidValue, match=said):
            await ServerSource(base_urls=(f"@{path}",)).connect()


async def test_a_lost_server_is_out_until_it_says_that_it_is_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reasoning.backends.openai.replicas.membership.CHECK_S", 0.01)
    async with chats(2) as ((ill, at_ill), (_, at_well)):
        model = await ServerSource(base_urls=(at_well, at_ill), **FAST).connect()
        async with Reasoner(model) as reasoner:
            ill.answers = [(503, "no engine")]
            ill.models = ({"id": "m"},)
            assert (await voted(reasoner)).votes == {"42": 12}
            (there,) = [one for one in model.backend.replicas.members if one.url == at_ill]
            ill.answers = [SLOW]
            with anyio.fail_after(10):
                while there.resting:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            before = len(ill.streamed)
            await voted(reasoner)
            assert len(ill.streamed) > before


async def test_a_server_that_is_not_well_is_asked_more_and_more_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("anyio.sleep", sleep)
    answers = iter([False] * 7 + [True])

    async def is_well(one: Replica) -> bool:
        assert one.out, "who is well is not asked for its health"
        return next(answers)

    monkeypatch.setattr("reasoning.backends.openai.replicas.membership._is_well", is_well)

    @asynccontextmanager
    async def connect(url: str) -> AsyncIterator[None]:
        yield None

    async with anyio.create_task_group() as group:
        urls = ("http://a/v1", "http://b/v1")
        membership = Membership(Addresses(urls), connect, group.start_soon, most=1)
        await membership.begin()
        first, second = membership.replicas.members
        membership.lose(first, None)
        membership.lose(first, None)
        assert first.out
        assert membership.replicas.choose(Segment(Context(), [1])) is second
    assert not first.resting
    assert slept == [1, 2, 4, 8, 16, 30, 30, 30]


class HealthOnly:
    """A server of which only its health is asked."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers

    async def get(self, path: str, *, cast_to: object) -> None:
        if not self._answers:
            await anyio.sleep(3600)


class Silent:
    """A request to which nothing comes."""

    def __init__(self) -> None:
        self.given_up = False
        self._since = anyio.current_time()

    @property
    def silent_s(self) -> float:
        return anyio.current_time() - self._since

    def give_up(self) -> None:
        self.given_up = True


@pytest.mark.parametrize("others_tell", [True, False])
def test_who_stands_still_is_given_up_if_others_tell_their_health(others_tell: bool) -> None:
    @asynccontextmanager
    async def connected(url: str) -> AsyncIterator[HealthOnly]:
        yield HealthOnly(answers=others_tell and "frozen" not in url)

    async def given_up(seconds: float) -> list[bool]:
        async with anyio.create_task_group() as group:
            urls = ("http://frozen/v1", "http://busy/v1")
            membership = Membership(Addresses(urls), connected, group.start_soon, most=4)
            await membership.begin()
            requests = [Silent(), Silent()]
            with ExitStack() as stack:
                for one, request in zip(membership.replicas.members, requests, strict=True):
                    stack.enter_context(membership.waiting(one, request))
                await anyio.sleep(seconds)
            group.cancel_scope.cancel()
        return [request.given_up for request in requests]

    assert in_virtual_time(lambda: given_up(19.0)) == [False, False]
    assert in_virtual_time(lambda: given_up(100.0)) == [others_tell, False]


async def test_the_bound_is_of_each_replica_and_is_told_when_it_binds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with chats(3) as served:
        urls = tuple(url for _, url in served)
        model = await ServerSource(base_urls=urls, **FAST, max_connections=3).connect()
        async with Reasoner(model) as reasoner:
            assert (await voted(reasoner, 3)).votes == {"42": 3}
            assert "max_connections" not in caplog.text
            assert (await voted(reasoner, 30)).votes == {"42": 30}
    assert [app.most_streams for app, _ in served] == [3, 3, 3]
    assert caplog.text.count("max_connections=3") == 1


def test_a_fair_share_is_by_pace() -> None:
    replicas = Replicas([Replica(name, None) for name in "ab"])
    quick, slow = replicas.members
    quick.wrote(200, 1.0)
    slow.wrote(100, 1.0)
    for number in range(300):
        replicas.choose(Segment(Context(), [number]), b"%d" % number).busy += 1
    assert quick.busy == pytest.approx(200, abs=10)


@pytest.mark.parametrize("late", ["silent", "slow", "another"])
async def test_a_late_answer_is_asked_for_once_more_and_what_that_costs_is_told(
    late: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reasoning.backends.openai.replicas.hedging.LOOK_S", 0.01)
    words = ["So ", "it ", "is ", "twice ", "three ", "times ", "seven, ", "and ", BOXED]
    async with chats(2) as ((slow, at_slow), (quick, at_quick)):
        quick.answers = [Script(chunks=words, delay_s=0.02)]
        source = ServerSource(base_urls=(at_slow, at_quick), **FAST, hedge=True)
        async with Reasoner(await source.connect()) as reasoner:
            if late != "slow":  # every answer is late
                monkeypatch.setattr(Hedging, "late_s", 0.0)
            if late == "silent":
                slow.answers = [Script(chunks=words, delay_s=3600)]
            elif late == "slow":
                slow.answers = [Script(chunks=words[:5], pause_s=3600)]
            else:
                slow.answers = [Script(chunks=["No: ", BOXED], pause_s=2.0)]
            solution = await voted(reasoner)
    assert solution.votes == {"42": 12}
    assert solution.errors == ()
    usage = solution.usage
    if late == "silent":
        assert usage.discarded_tokens == 0, "who is late had written nothing"
    else:
        assert usage.discarded_tokens > 0
    texts = {thread.text for thread in solution.threads}
    assert texts == {"".join(words)} if late != "another" else "".join(words) in texts


async def test_what_is_late_is_told_by_the_answers_that_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reasoning.backends.openai.replicas.hedging.LOOK_S", 0.01)
    async with chats(2) as ((first, at_first), (_, at_second)):
        source = ServerSource(base_urls=(at_first, at_second), **FAST, hedge=True)
        async with Reasoner(await source.connect()) as reasoner:
            assert (await voted(reasoner)).votes == {"42": 12}
            first.answers = [Script(chunks=[BOXED], delay_s=3600)]
            with anyio.fail_after(60):
                assert (await voted(reasoner)).votes == {"42": 12}
