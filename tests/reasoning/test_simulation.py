"""The simulated cluster: the same each time, no thread lost, and its law where that is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.simulated.clock import StandingStill, in_virtual_time
from benchmarks.simulated.cluster import Faults, Scenario, Turns, simulate
from benchmarks.simulated.network import Writing
from benchmarks.simulated.servers import BatchCurve, Server

CURVE = BatchCurve(step_s=0.01, lane_s=0.001, prefill=1e12, lanes=32, cache=100_000)
SMALL = Scenario(curve=CURVE, servers=3, problems=4, policy="sc:n=4", prompt=40)


def test_the_same_scenario_has_the_same_outcome_and_faults_lose_no_thread() -> None:
    faults = Faults(killed=0.34, until_s=2.0, back_s=1.0, slow=0.33)
    scenario = replace(SMALL, faults=faults, strategy=Turns(n=4, turns=2), policy=None)
    one, other = simulate(scenario), simulate(scenario)
    assert replace(one, cpu_s=0) == replace(other, cpu_s=0)
    assert (one.threads, one.lost) == (16, 0)
    assert one.recovered > 0
    assert replace(one, cpu_s=0) != replace(simulate(replace(scenario, seed=1)), cpu_s=0)


@pytest.mark.parametrize("stream", [True, False])
def test_without_faults_a_server_takes_as_long_as_its_curve_says(stream: bool) -> None:
    alike = Writing(tokens=100, spread=0.0)
    scenario = replace(SMALL, servers=1, problems=2, writing=alike, settings={"stream": stream})
    found = simulate(scenario)
    steps_s = 100 * (0.01 + 8 * 0.001)  # eight lanes, all at once
    assert found.makespan_s == pytest.approx(steps_s + 2 * 0.005, abs=0.005)
    assert found.tokens == 800


@pytest.mark.parametrize("stream", [True, False])
def test_hedged_a_straggler_costs_at_most_half_the_time_again(stream: bool) -> None:
    usual = replace(SMALL, settings={"stream": stream, "hedge": True}, problems=8)
    slow = replace(usual, faults=Faults(slow=0.33))
    found, best = simulate(slow), simulate(usual)
    assert found.makespan_s <= 1.5 * best.makespan_s
    assert (found.lost, found.votes) == (0, best.votes)
    assert found.wasted < 0.1
    assert simulate(replace(slow, settings={"stream": stream})).makespan_s > 3 * best.makespan_s


@pytest.mark.parametrize("stream", [True, False])
def test_a_server_that_stands_still_costs_seconds_and_not_its_timeout(stream: bool) -> None:
    usual = replace(SMALL, settings={"stream": stream}, problems=8)
    found = simulate(replace(usual, faults=Faults(slow=0.33, speed=1e-9)))
    best = simulate(usual)
    assert found.makespan_s < 2 * best.makespan_s + 25, "10 s of silence, two checks of 5 s"
    assert (found.lost, found.votes) == (0, best.votes)
    assert found.recovered > 0


def test_work_is_shared_among_lanes_and_what_has_none_waits() -> None:
    curve = replace(CURVE, lanes=2)

    async def ended() -> list[float]:
        import anyio

        server, times = Server(curve, characters=4), []

        async def ask(tokens: int) -> None:
            request = await server.admit("", 1)
            await request.written(tokens)
            request.leave()
            times.append(anyio.current_time() - began)

        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for tokens in (10, 20, 30):
                group.start_soon(ask, tokens)
        return times

    both, alone = 0.012, 0.011  # seconds a step
    assert in_virtual_time(ended) == pytest.approx([10 * both, 20 * both, 20 * both + 20 * alone])


def test_what_waits_for_nothing_in_virtual_time_is_told_so() -> None:
    async def endless() -> None:
        import anyio

        await anyio.Event().wait()

    with pytest.raises(StandingStill):
        in_virtual_time(endless)
