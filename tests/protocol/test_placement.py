"""Where a hub puts threads: problems together, as far as a batch gains; the held take no slot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import Hub, ModelOffer, Profile, TaskRequest, Worker, WorkerSettings
from protocol.hub.connected_workers import READ_BYTES, ConnectedWorker
from protocol.wire.messages import TaskMessage, TokenChunk
from protocol.worker.machine import this_machine

URL = "ws://127.0.0.1:8765"


class Places:
    """A hub whose clock and workers are played by hand; nothing is connected."""

    def __init__(self, *names: str, slots: int = 64, **machines: str) -> None:
        """A worker of each name, on no known machine or, as ``a="one"``, on that one."""
        self.now = 0.0
        self.slots = slots
        self.hub = Hub(clock=lambda: self.now)
        self.sent: dict[str, list[Any]] = {}
        self.workers: dict[str, ConnectedWorker] = {}
        for name in (*names, *machines):
            self.join(name, machines.get(name, ""))

    def join(self, name: str, machine: str = "", cores: Collection[int] = ()) -> None:
        """A worker comes, of some cores of a machine."""
        able = frozenset({"holding"})
        offer = ModelOffer(name="m", backend="x", context=512, slots=self.slots, capabilities=able)
        transport = Transport(self.sent.setdefault(name, []))
        profile = Profile(models=(offer,), machine=machine, cores=frozenset(cores))
        self.workers[name] = self.hub.attach(name, profile, transport)

    def begin(self, id: str, problem: str = "", arguments: str = "{}") -> str:
        """Submit a thread; returns the worker that has it, or nothing."""
        request = TaskRequest(id=id, kind="thread", name="m", problem=problem, arguments=arguments)
        return self.hub.submit(request).worker or ""

    def spread(self, count: int, problem: str = "p", arguments: str = "{}") -> Counter[str]:
        """Submit threads of a problem; returns how many each worker has been given of them."""
        begun = sum(map(len, self.sent.values()))
        return Counter(self.begin(f"{begun + n}", problem, arguments) for n in range(count))

    def write(self, id: str, count: int, at: int = 0) -> None:
        """The thread's worker sends so many tokens."""
        worker = next(one for one in self.workers.values() if id in one.assigned)
        chunk = TokenChunk(
            id=id, fence=worker.assigned[id], at=at, tokens=(1,) * count, logprobs=(0.0,) * count
        )
        self.hub.receive(worker, chunk)

    def measure(self, name: str, lanes: int, rate: int) -> None:
        """A worker was seen to write so many tokens a second on so many threads."""
        curve = self.workers[name].curve("m")
        for _ in range(2):
            curve.note(lanes, 0, self.now)
            self.now += 1
            curve.note(lanes, rate, self.now)


class Transport:
    inline = False

    def __init__(self, sent: list[Any]) -> None:
        self.sent = sent

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def provide(self, payload: Any, data: bytes) -> None:
        raise AssertionError("threads of this test are short")


def test_threads_of_one_problem_stay_together_and_problems_spread() -> None:
    places = Places("a", "b")
    first = {places.begin(f"p{n}", "p") for n in range(5)}
    second = {places.begin(f"q{n}", "q") for n in range(5)}
    assert first | second == {"a", "b"}
    assert len(first) == len(second) == 1


def test_a_problem_spills_when_its_batch_gains_no_more() -> None:
    places = Places("a", "b")
    home = {places.begin(f"{n}", "p") for n in range(4)}.pop()
    places.measure(home, 2, 1000)
    places.measure(home, 4, 1050)  # twice the threads, hardly more tokens
    assert places.begin("next", "p") == ({"a", "b"} - {home}).pop()


def test_a_batch_that_gains_grows() -> None:
    places = Places("a", "b")
    home = {places.begin(f"{n}", "p") for n in range(4)}.pop()
    places.measure(home, 2, 1000)
    places.measure(home, 4, 1500)
    assert places.begin("next", "p") == home


def test_a_slow_worker_gets_fewer_threads() -> None:
    places = Places("fast", "slow")
    places.measure("fast", 8, 1000)
    places.measure("slow", 8, 250)
    placed = Counter(places.begin(str(n), f"problem {n}") for n in range(20))
    assert placed == {"fast": 16, "slow": 4}


def test_speed_is_learnt_from_the_tokens_that_arrive() -> None:
    places = Places("a")
    places.begin("1")
    for number in range(9):
        places.write("1", 100, at=100 * number)
        places.now += 0.1
    (rate,) = places.workers["a"].curve("m").rates.values()
    assert 900 <= rate <= 1100


def test_nothing_is_learnt_from_a_while_without_tokens() -> None:
    places = Places("a")
    places.begin("1")
    for _ in range(9):
        places.write("1", 0)
        places.now += 1
    assert not places.workers["a"].curve("m").rates


def test_a_thread_that_stands_still_leaves_its_slot() -> None:
    places = Places("a", slots=1)
    handle = places.hub.submit(TaskRequest(id="1", kind="thread", name="m"))
    handle.hold(2)
    assert places.begin("2") == ""
    places.write("1", 2)
    assert "2" in places.workers["a"].assigned
    handle.hold(None)
    assert places.begin("3") == ""


def test_a_held_thread_that_is_lost_is_held_again_elsewhere() -> None:
    places = Places("a", "b")
    handle = places.hub.submit(TaskRequest(id="1", kind="thread", name="m"))
    handle.hold(2)
    lost = places.workers.pop(handle.worker or "")
    places.hub.detach(lost, "pulled out")
    (other,) = places.workers
    begun = [one for one in places.sent[other] if isinstance(one, TaskMessage)]
    assert [one.until for one in begun] == [2]


def test_a_worker_that_joins_takes_what_waits() -> None:
    places = Places("a", slots=2)
    assert [places.begin(str(n), "p") for n in range(4)] == ["a", "a", "", ""]
    places.join("b")
    assert set(places.workers["b"].assigned) == {"2", "3"}


def test_one_problem_is_shared_out_over_machines() -> None:
    assert Places(a="one", b="two").spread(64) == {"a": 32, "b": 32}


def test_workers_of_one_machine_keep_a_problem_together() -> None:
    assert len(Places(a="one", b="one").spread(64)) == 1


@pytest.mark.parametrize("other", ["", "one"])
def test_where_a_machine_is_not_known_a_problem_stays_together(other: str) -> None:
    places = Places("unknown", known=other)
    assert len(places.spread(10)) == 1


@pytest.mark.parametrize(("cores", "workers"), [({2, 3}, 2), ({1, 2}, 1), ((), 1)])
def test_workers_on_cores_of_their_own_are_apart(cores: Collection[int], workers: int) -> None:
    places = Places()
    places.join("a", "one", {0, 1})
    places.join("b", "one", cores)
    assert len(places.spread(10)) == workers


def test_a_worker_that_joins_on_another_machine_catches_up() -> None:
    places = Places(a="one")
    assert places.spread(6) == {"a": 6}
    places.join("b", "two")
    assert places.spread(6) == {"b": 6}
    assert places.spread(6) == {"a": 3, "b": 3}


def test_a_slow_machine_gets_less_of_a_problem() -> None:
    places = Places(fast="one", slow="two")
    places.measure("fast", 8, 1000)
    places.measure("slow", 8, 250)
    assert places.spread(20) == {"fast": 16, "slow": 4}


def test_a_worker_that_was_seen_with_fewer_threads_does_not_count_as_slow() -> None:
    places = Places(a="one", b="two")
    places.measure("a", 8, 1000)
    for name, lanes, rate in (("a", 64, 2000), ("b", 8, 1000)):
        places.measure(name, lanes, rate)
    assert places.spread(20) == {"a": 10, "b": 10}


def test_a_batch_that_nearly_doubles_with_its_threads_stays_together() -> None:
    places = Places(a="one", b="two")
    for name in places.workers:
        for lanes in (1, 2, 4, 8):
            places.measure(name, lanes, 100 * lanes)
        places.measure(name, 16, 1200)
    first, second = places.spread(15), places.spread(17)
    assert len(first) == 1
    assert first + second == {"a": 16, "b": 16}


def test_a_long_prompt_is_read_again_only_where_that_is_soonest() -> None:
    places = Places(a="one", b="two")
    prompt = '{"prompt": "' + 3 * READ_BYTES * "x" + '"}'  # as long to read as three threads write
    assert len(places.spread(3, arguments=prompt)) == 1
    assert sorted(places.spread(3, arguments=prompt).values()) == [1, 2]


@given(st.lists(st.sampled_from("xyz"), min_size=1, max_size=6), st.integers(1, 40))
def test_each_machine_has_as_many_threads_on_one_worker(machines: list[str], count: int) -> None:
    places = Places(**{f"worker {n}": machine for n, machine in enumerate(machines)})
    found = places.spread(count)
    used = [machines[int(name.removeprefix("worker "))] for name in found]
    assert len(used) == len(set(used)) == min(count, len(set(machines)))
    assert max(found.values()) - min(found.values()) <= 1


def test_a_worker_tells_its_machine_and_the_cores_that_it_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, also = Worker(URL, "t").profile, Worker(URL, "u").profile
    assert here.machine == also.machine != ""
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3, 5}, raising=False)
    assert Worker(URL, "t").profile.cores == {3, 5}
    named = Worker(URL, "t", settings=WorkerSettings(machine="gpu 1")).profile
    assert (named.machine, named.cores) == ("gpu 1", frozenset())


def test_a_machine_without_a_kernels_name_is_known_by_the_hosts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("protocol.worker.machine.BOOT", tmp_path / "none")
    monkeypatch.setattr("platform.node", lambda: "one")
    first = this_machine()
    monkeypatch.setattr("platform.node", lambda: "two")
    assert first != this_machine() != ""
    monkeypatch.setattr("platform.node", lambda: "")
    assert this_machine() == ""
