"""One scenario: problems, policy and processes over a cluster with faults, and what came of it."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from unittest import mock

import anyio

from pruning import Tally
from reasoning import Reasoner, Run, Solution, Strategy, Thread
from reasoning.backends.openai.profile import ServerProfile
from reasoning.backends.openai.replicas import Replica, Replicas, choice
from reasoning.backends.text_tokens import TURN
from reasoning.models.server import ServerSource
from reasoning.run.thread import ThreadOptions
from reasoning.values.context import Segment

from .clock import in_virtual_time
from .network import DRIVER, Network, Writing
from .servers import BatchCurve, Server, in_total


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong; who and when follows from the scenario's seed.

    Attributes:
        slow: The share of servers that are stragglers.
        speed: How fast these are.
        killed: The share that is killed, each once, at a time between 0 and ``until_s``.
        back_s: After how long a killed server is back.
    """

    slow: float = 0.0
    speed: float = 0.1
    killed: float = 0.0
    until_s: float = 20.0
    back_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Turns(Strategy):
    """Threads of several turns, between which a tool takes its time, and a vote."""

    name: ClassVar[str] = "turns"
    default_temperature: ClassVar[float] = 0.7

    n: int = 16
    turns: int = 3
    tool_s: float = 2.0

    async def solve(self, run: Run) -> Tally:
        prompt = run.dialect.prompt(run.problem)
        said = f"{TURN}\n\nThe tool says nothing new. Go on.\n{TURN}"
        going_on = ThreadOptions(stop=run.dialect.ends)

        async def sample(thread: Thread) -> None:
            for turn in range(self.turns):
                if turn:
                    await anyio.sleep(self.tool_s)
                    if not thread.append(said):
                        break
                await thread.write()
            thread.conclude()

        async with run.graph:
            for _ in range(self.n):
                run.spawn(sample, prompt, name="sample", options=going_on)
        return self.tally(run)


class HashedReplicas(Replicas):
    """Chooses by the problem alone."""

    def choose(self, own: Segment, prompt: bytes = b"") -> Replica:
        awake = [one for one in self.members if not one.resting] or self.members
        return awake[random.Random(prompt).randrange(len(awake))]


class RandomReplicas(Replicas):
    """Chooses at random."""

    _draw = random.Random(0)

    def choose(self, own: Segment, prompt: bytes = b"") -> Replica:
        return self._draw.choice([one for one in self.members if not one.resting] or self.members)


class IdlestReplicas(Replicas):
    """Chooses who has least to do."""

    def choose(self, own: Segment, prompt: bytes = b"") -> Replica:
        awake = [one for one in self.members if not one.resting] or self.members
        return min(awake, key=lambda one: one.busy)


PLACEMENTS: dict[str, type[Replicas] | None] = {
    "holder": None,  # what is shipped
    "hash": HashedReplicas,
    "random": RandomReplicas,
    "idlest": IdlestReplicas,
}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is simulated; the same scenario has the same outcome each time.

    Attributes:
        processes: Each has its share of the problems and a client of its own.
        request_s, token_s: Seconds of the client's processor; see `Network`.
        constants: Of the placement, by their names in ``choice``.
        settings: Of the client.
        apart_s: Between the starts of two problems of all processes.
        prompt: Tokens of a question.
    """

    curve: BatchCurve
    servers: int = 100
    problems: int = 625
    policy: str | None = "sc:n=16"
    strategy: Any = "self-consistency"
    placement: str = "holder"
    processes: int = 1
    request_s: float = 0.0
    token_s: float = 0.0
    constants: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    writing: Writing = field(default_factory=Writing)
    apart_s: float = 0.0
    prompt: int = 400
    seed: int = 0

    def varied(self, **changes: Any) -> Scenario:
        """This one with some changes."""
        return replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a scenario; times are virtual seconds.

    Attributes:
        makespan_s: Until the last problem was solved.
        problem_s: A problem's time in the middle, and the 99th of a hundred.
        lost: Threads that the client gave up.
        tokens: Of answers that came to their ends.
        wasted: The share of what servers wrote beside these.
        cached: The share of the tokens of prompts that were in a cache.
        uneven: The most tokens that a server wrote, against the mean.
        driver: The largest share of the makespan that a process's processor worked.
        cpu_s: Of this machine, for the whole simulation; the one figure that differs each time.
    """

    makespan_s: float
    problem_s: tuple[float, float]
    threads: int
    lost: int
    right: float
    tokens: int
    tokens_per_s: float
    wasted: float
    cached: float
    uneven: float
    driver: float
    recovered: int
    votes: tuple[str | None, ...]
    cpu_s: float


def simulate(scenario: Scenario) -> Outcome:
    """The outcome of a scenario."""
    return in_virtual_time(lambda: _Simulation(scenario).run())


class _Simulation:
    """A scenario while it runs."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._draw = random.Random(scenario.seed)
        self._solutions: dict[int, tuple[Solution, float]] = {}

    async def run(self) -> Outcome:
        one = self.scenario
        names = [f"server-{number}" for number in range(one.servers)]
        self._servers = {name: Server(one.curve, characters=4) for name in names}
        self._network = Network(
            servers=self._servers,
            writing=one.writing,
            request_s=one.request_s,
            token_s=one.token_s,
        )
        began, busy = time.monotonic(), time.process_time()
        with self._network.connected(), _constants(one.constants):
            async with anyio.create_task_group() as faults, AsyncExitStack() as stack:
                clients = [await self._client(n, stack) for n in range(one.processes)]
                self._begin_faults(faults.start_soon)
                async with anyio.create_task_group() as group:
                    for number in range(one.problems):
                        client = clients[number % len(clients)]
                        group.start_soon(self._solve, number, client)
                makespan = time.monotonic() - began
                faults.cancel_scope.cancel()
        return self._outcome(makespan, clients, time.process_time() - busy)

    async def _client(self, number: int, stack: AsyncExitStack) -> Reasoner:
        one = self.scenario
        urls = tuple(f"https://{name}/v1" for name in self._servers)
        headers = {"x-session-id": "{thread}", DRIVER: str(number)}
        source = ServerSource(base_urls=urls, headers=headers, **one.settings)
        reasoner = Reasoner(source.with_profile(_profile(urls[0])))
        await stack.enter_async_context(reasoner)
        other = PLACEMENTS[one.placement]
        if other is not None:
            backend: Any = reasoner.model.backend
            backend.replicas = other(backend.replicas.members)
        return reasoner

    async def _solve(self, number: int, reasoner: Reasoner) -> None:
        one = self.scenario
        await anyio.sleep(number * one.apart_s)
        began = time.monotonic()
        question = f"Question {number}: " + "how much is it? " * (one.prompt // 4)
        how = {} if one.policy is None else {"policy": one.policy}
        solution = await reasoner.solve(
            question, strategy=one.strategy, seed=one.seed * 100_003 + number, **how
        )
        self._solutions[number] = solution, time.monotonic() - began

    def _begin_faults(self, start: Callable[..., object]) -> None:
        faults, servers = self.scenario.faults, [*self._servers.values()]
        self._draw.shuffle(servers)
        slow = round(faults.slow * len(servers))
        for server in servers[:slow]:
            server.slow_down(faults.speed)
        for server in servers[slow : slow + round(faults.killed * len(servers))]:
            start(self._fail, server, self._draw.uniform(0, faults.until_s))

    async def _fail(self, server: Server, when: float) -> None:
        await anyio.sleep(when)
        server.kill()
        await anyio.sleep(self.scenario.faults.back_s)
        server.restart()

    def _outcome(self, makespan: float, clients: Sequence[Reasoner], cpu_s: float) -> Outcome:
        solutions = [self._solutions[number][0] for number in range(self.scenario.problems)]
        times = sorted(seconds for _, seconds in self._solutions.values())
        threads = [thread for solution in solutions for thread in solution.threads]
        tokens = self._network.useful
        servers = [*self._servers.values()]
        total = in_total(servers)
        drivers = [driver.busy for driver in self._network.drivers.values()]
        most = max(one.counts.written for one in servers)
        backends: list[Any] = [one.model.backend for one in clients]
        return Outcome(
            makespan_s=round(makespan, 3),
            problem_s=(round(statistics.median(times), 3), round(times[int(0.99 * len(times))], 3)),
            threads=len(threads),
            lost=sum(thread.lost is not None for thread in threads),
            right=round(statistics.mean(one.answer == "0" for one in solutions), 4),
            tokens=tokens,
            tokens_per_s=round(tokens / makespan, 1),
            wasted=round(max(0.0, 1 - tokens / total.written), 4),
            cached=round(total.cached / (total.cached + total.prefilled), 4),
            uneven=round(most * len(servers) / total.written, 3),
            driver=round(max(drivers, default=0.0) / makespan, 3),
            recovered=sum(one.recovered for one in backends),
            votes=tuple(one.answer for one in solutions),
            cpu_s=round(cpu_s, 1),
        )


def _profile(url: str) -> ServerProfile:
    """A server of whom everything is known, so that nobody has to ask."""
    return ServerProfile(
        url=url,
        server="vllm",
        version="simulated",
        model="simulated",
        models=("simulated",),
        context=32768,
        chat=True,
        completions=True,
        chat_continuation=True,
        seeds=True,
        cached_tokens=True,
        prefix_caching=True,
    )


@contextmanager
def _constants(changes: dict[str, float]) -> Iterator[None]:
    """The placement's constants, changed."""
    with ExitStack() as stack:
        for name, value in changes.items():
            stack.enter_context(mock.patch.object(choice, name, value))
        yield
