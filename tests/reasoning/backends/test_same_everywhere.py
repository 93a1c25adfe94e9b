"""The same seed gives the same answer, votes and confidence here, on devices and on servers.

Hub, workers and servers are processes of their own, so that threads write at different speeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from protocol import Client
from reasoning.backends.openai.profile import ServerProfile
from reasoning.models.devices import DevicesSource
from reasoning.models.loaded import LoadedModel
from reasoning.models.loading import load_model
from reasoning.models.server import ServerSource
from reasoning.solver import Reasoner
from reasoning.values.capabilities import Capability
from tests.support.shell import Shell, line, running_shell

ARITHMETIC = "Compute (17*3+5)*4-12"
COUNTDOWN = "Use 3, 10, 21 and 23 to make 50"
PARTS = "Compute each: 1) 3+4*5; 2) (7-2)*6; 3) 12*8-5"

ALIKE = [
    ("single", COUNTDOWN, {}),
    ("self-consistency", ARITHMETIC, {"n": 8}),
    ("self-consistency", ARITHMETIC, {"policy": "default", "temperature": 1.0}),
    ("apr", COUNTDOWN, {"n": 6}),
]
"""What every transport can do."""

ENGINES = [
    ("self-consistency", ARITHMETIC, {"policy": "default:probe_every=16", "temperature": 1.0}),
    ("self-consistency", ARITHMETIC, {"policy": "deepconf:n=8,warmup=4", "temperature": 1.0}),
    ("multiverse", PARTS, {"n": 3, "temperature": 0.7}),
    ("parathinker", COUNTDOWN, {"n": 4, "temperature": 0.7}),
    ("atts", ARITHMETIC, {"n": 4}),
]
"""What needs forks, joins, confidences or scores, which this server does not have."""

EMULATED = [
    ("multiverse", PARTS, {"n": 3}),
    ("parathinker", COUNTDOWN, {"n": 4, "temperature": 0.7}),
    ("hogwild", PARTS, {"n": 3}),
    ("group-think", PARTS, {"n": 3}),
    ("atts", ARITHMETIC, {"n": 4}),
]
"""What is emulated on servers; here and on devices it is made to, so that all do the same."""

LACKING: frozenset[Capability] = frozenset({"kv-join", "live-contexts", "scoring"})


class Places(NamedTuple):
    """Where the shipped model runs: a hub's address and a client's token, and servers."""

    hub: str
    token: str
    servers: tuple[str, ...]
    profile: ServerProfile


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    folder: Path = tmp_path_factory.mktemp("places")
    with running_shell(folder) as shell:
        servers = [shell.start(module="tests.support.completions_server") for _ in range(2)]
        url = _hub_with_workers(shell)
        token = Path(shell.token("me", "--scope", "submit")).read_text()
        urls = tuple(one.stdout.readline().strip() for one in servers if one.stdout)
        profile = anyio.run(ServerSource(base_urls=urls).examine)
        profile = profile.model_copy(update={"scoring": False})
        yield Places(url, token, urls, profile)


def _hub_with_workers(shell: Shell) -> str:
    """A hub with two workers, of which each has room for half of the threads."""
    token = shell.token("laptop")
    hub, url = shell.hub()
    for name in "ab":
        asked = ("--hub", url, "--token-file", token, "--name", name, "--threads", "4")
        shell.start("worker", *asked)
    assert {line(hub).split(" ")[0], line(hub).split(" ")[0]} == {"laptop/a", "laptop/b"}
    return url


def model_here(lacking: frozenset[Capability] = frozenset()) -> LoadedModel:
    """The model in this process, perhaps without what others lack."""
    model = load_model()
    model.backend.capabilities = model.backend.capabilities - lacking
    return model


def model_on_devices(places: Places, lacking: frozenset[Capability] = frozenset()) -> LoadedModel:
    """The model on the workers of the hub, perhaps without what others lack."""
    model = DevicesSource(submitter=Client(places.hub, places.token)).load(None)
    model.backend.capabilities = model.backend.capabilities - lacking
    return model


def model_on_servers(places: Places) -> LoadedModel:
    """The model on the servers, each of which writes some of the threads."""
    return ServerSource(base_urls=places.servers).with_profile(places.profile)


def outcome(model: LoadedModel, case: tuple[str, str, dict[str, Any]], seed: int) -> list[Any]:
    """What must not depend on where the model runs."""
    strategy, problem, options = case
    draft = load_model("reason-1m") if strategy == "atts" else None

    async def solved() -> list[Any]:
        async with Reasoner(model, draft=draft) as reasoner:
            found = await reasoner.solve(problem, strategy=strategy, seed=seed, **options)
        steering = found.steering
        end = None if steering is None else (steering.clock, steering.tokens, steering.finish)
        assert found.errors == ()
        return [found.answer, found.votes, found.confidence, found.emulated, end]

    return anyio.run(solved)


def named(case: tuple[str, str, dict[str, Any]]) -> str:
    return "-".join([case[0], *(str(one) for one in case[2].values())])


@pytest.mark.parametrize("case", ALIKE, ids=named)
def test_a_seed_decides_alike_here_on_devices_and_on_servers(places: Places, case: Any) -> None:
    for seed in (1, 2):
        here = outcome(model_here(), case, seed)
        assert outcome(model_on_devices(places), case, seed) == here
        assert outcome(model_on_servers(places), case, seed) == here


@pytest.mark.parametrize("case", ENGINES, ids=named)
def test_probes_joins_and_scores_decide_alike_on_devices(places: Places, case: Any) -> None:
    for seed in (1, 2):
        assert outcome(model_on_devices(places), case, seed) == outcome(model_here(), case, seed)


@pytest.mark.parametrize("case", EMULATED, ids=named)
def test_emulations_decide_alike_here_on_devices_and_on_servers(places: Places, case: Any) -> None:
    for seed in (1, 2):
        here = outcome(model_here(LACKING), case, seed)
        assert outcome(model_on_devices(places, LACKING), case, seed) == here
        assert outcome(model_on_servers(places), case, seed) == here
