"""The peers of `benchmarks/graph.py`, each with the two shapes built as its documentation would."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import operator
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict

WIDTH, DEPTH, FAN = 10, 100, 1000
Run = Callable[[], Awaitable[None]]


def installed() -> dict[str, dict[str, Run]]:
    """The shapes of every peer that is installed, by the peer's name and version."""
    return {
        f"{name} {importlib.metadata.version(name)}": make()
        for name, make in PEERS.items()
        if importlib.util.find_spec(name.replace("-", "_"))
    }


def pairs(index: int) -> tuple[int, int]:
    """The predecessors of a task in the layer before."""
    return index, (index + 1) % WIDTH


class State(TypedDict):
    """What LangGraph passes around; it looks the names of the annotation up in this module."""

    seen: Annotated[int, operator.add]


def langgraph() -> dict[str, Run]:
    from langgraph.graph import END, START, StateGraph  # type: ignore[import-not-found]
    from langgraph.types import Send  # type: ignore[import-not-found]

    async def node(_: State) -> dict[str, int]:
        return {"seen": 1}

    deep = StateGraph(State)
    for layer in range(DEPTH):
        for i in range(WIDTH):
            deep.add_node(f"{layer}-{i}", node)
            sources = [f"{layer - 1}-{j}" for j in pairs(i)] if layer else [START]
            deep.add_edge(sources if layer else START, f"{layer}-{i}")
    wide = StateGraph(State)
    wide.add_node("first", node)
    wide.add_node("item", node)
    wide.add_node("last", node)
    wide.add_edge(START, "first")
    wide.add_conditional_edges("first", lambda _: [Send("item", {"seen": 0})] * FAN, ["item"])
    wide.add_edge("item", "last")
    wide.add_edge("last", END)

    def run(graph: Any) -> Run:
        compiled = graph.compile()

        async def go() -> None:
            await compiled.ainvoke({"seen": 0}, {"recursion_limit": 10_000})

        return go

    return {"layered": run(deep), "fan": run(wide)}


def dask() -> dict[str, Run]:
    from dask import delayed  # type: ignore[import-not-found]

    call = delayed(lambda *_: None, pure=False)

    async def deep() -> None:
        row: list[Any] = []
        for _ in range(DEPTH):
            row = [call(*(row[i] for i in pairs(i) if row)) for i in range(WIDTH)]
        delayed(lambda *_: None)(*row).compute(scheduler="threads")

    async def wide() -> None:
        first = call()
        call(*(call(first) for _ in range(FAN))).compute(scheduler="threads")

    return {"layered": deep, "fan": wide}


def ray() -> dict[str, Run]:
    import ray as engine  # type: ignore[import-not-found]

    engine.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    call = engine.remote(lambda *_: None)

    async def deep() -> None:
        row: list[Any] = []
        for _ in range(DEPTH):
            row = [call.remote(*(row[i] for i in pairs(i) if row)) for i in range(WIDTH)]
        engine.get(row)

    async def wide() -> None:
        first = call.remote()
        engine.get(call.remote(*[call.remote(first) for _ in range(FAN)]))

    return {"layered": deep, "fan": wide}


def pydantic_graph() -> dict[str, Run]:
    """Layers are joined as a whole here: it has no step with two named predecessors."""
    from pydantic_graph import GraphBuilder, reduce_sum  # type: ignore[import-not-found]

    async def node(_: Any) -> int:
        return 0

    def spread(width: int) -> Callable[[Any], Awaitable[list[int]]]:
        async def items(_: Any) -> list[int]:
            return [0] * width

        return items

    def build(depth: int, width: int) -> Run:
        graph = GraphBuilder(output_type=int)
        before: Any = graph.start_node
        for layer in range(depth):
            first = graph.step(spread(width), node_id=f"first-{layer}")
            item = graph.step(node, node_id=f"item-{layer}")
            last = graph.join(reduce_sum, initial=0, node_id=f"last-{layer}")
            graph.add(graph.edge_from(before).to(first))
            graph.add(graph.edge_from(first).map().to(item), graph.edge_from(item).to(last))
            before = last
        graph.add(graph.edge_from(before).to(graph.end_node))
        return graph.build(validate_graph_structure=False).run

    return {"layered": build(DEPTH, WIDTH), "fan": build(1, FAN)}


def prefect() -> dict[str, Run]:
    from prefect import flow, task  # type: ignore[import-not-found]

    call = task(lambda *_: None)

    @flow
    def deep() -> None:
        row: list[Any] = []
        for _ in range(DEPTH):
            row = [call.submit(*(row[i] for i in pairs(i) if row)) for i in range(WIDTH)]
        for future in row:
            future.result()

    @flow
    def wide() -> None:
        first = call.submit()
        call.submit([call.submit(first) for _ in range(FAN)]).result()

    def run(body: Any) -> Run:
        async def go() -> None:
            await asyncio.to_thread(body)

        return go

    return {"layered": run(deep), "fan": run(wide)}


PEERS = {
    "langgraph": langgraph,
    "pydantic-graph": pydantic_graph,
    "dask": dask,
    "ray": ray,
    "prefect": prefect,
}
