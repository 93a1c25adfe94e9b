"""Options of a solve can't be lost: an unknown or mistyped one is refused by its name."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from orchestrator.errors import InvalidValue, UnknownName
from pruning import FixedSamples
from reasoning import LoadedModel, Reasoner, solve, solve_sync
from reasoning.models.embedded import EmbeddedSource
from reasoning.models.vllm import VllmSource
from reasoning.options import ModelOptions, SolveOptions
from reasoning.strategies import Apr, SelfConsistency, Single

QUESTION = "Compute 12 + 5 * 3"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"tempreature": 1}, TypeError, "no option 'tempreature'; did you mean 'temperature'"),
        ({"strateggy": "apr"}, TypeError, "did you mean 'strategy'"),
        ({"zzz": 1}, TypeError, "it has adapter, allow_repetition, answer, backend"),
        ({"temperature": "hot"}, InvalidValue, "temperature: 'hot' is no number"),
        ({"temperature": True}, InvalidValue, "temperature: True is no number"),
        ({"temperature": 99}, InvalidValue, "temperature: 99 is out of range"),
        ({"n": 2.5}, InvalidValue, "n: 2.5 is no number of its kind; give a whole number"),
        ({"n": 0}, InvalidValue, "n: 0 is out of range"),
        ({"seed": "1"}, InvalidValue, "seed: '1'"),
        ({"timeout": 0}, InvalidValue, "timeout: 0 is not a time"),
        ({"max_tokens": 3}, InvalidValue, "max-tokens: 3 is too small"),
        ({"strategy": 7}, InvalidValue, "strategy: 7 is no Strategy"),
        ({"strategy": "aqr"}, UnknownName, "did you mean 'apr'"),
        ({"strategy": "apr:n=2", "n": 3}, InvalidValue, "n: given twice"),
        ({"strategy": Apr(n=2), "n": 3}, InvalidValue, "n: the strategy says how many"),
        ({"strategy": "single", "n": 4}, InvalidValue, "single takes 1 to 1"),
        ({"policy": 7}, InvalidValue, "policy: 7 is no Policy"),
        ({"policy": "sc:n=4", "n": 3}, InvalidValue, "n: the policy says how many"),
        ({"policy": "sc", "strategy": "apr"}, InvalidValue, "strategy 'apr' takes none"),
        ({"draft": "reason-1m"}, InvalidValue, "draft: the usual strategy takes none"),
        ({"draft": "reason-1m", "strategy": "apr"}, InvalidValue, "draft: strategy 'apr' takes"),
        ({"backend": "vlmm"}, UnknownName, "did you mean 'vllm'"),
        ({"backend": "embedded:devise=cpu"}, InvalidValue, "did you mean 'device'"),
        ({"backend": object()}, InvalidValue, "object has no name, dialect, context"),
        ({"domain": "countdwon"}, UnknownName, "did you mean 'countdown'"),
        ({"domain": "countdown"}, InvalidValue, "states no countdown problem"),
    ],
)
def test_a_wrong_option_is_refused_by_name(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        solve_sync(QUESTION, **options)


@pytest.mark.anyio
async def test_a_reasoner_refuses_alike(shipped: LoadedModel) -> None:
    with pytest.raises(TypeError, match="did you mean 'max_tokens'"):
        await Reasoner(shipped).solve(QUESTION, max_token=3)  # type: ignore[call-arg]


def test_a_loaded_model_brings_its_own_backend(shipped: LoadedModel) -> None:
    with pytest.raises(InvalidValue, match="the model is loaded already"):
        solve_sync(QUESTION, model=shipped, backend="embedded")


def test_objects_are_taken_where_names_are(shipped: LoadedModel) -> None:
    by_name = solve_sync(QUESTION, model=shipped, strategy="single", seed=3)
    by_object = solve_sync(QUESTION, model=shipped, strategy=Single(), seed=3)
    assert by_name.threads == by_object.threads
    steered = solve_sync(QUESTION, model=shipped, policy=FixedSamples(n=2))
    assert len(steered.threads) == 2


@pytest.mark.anyio
async def test_solve_sync_works_where_a_loop_runs_already(shipped: LoadedModel) -> None:
    assert solve_sync(QUESTION, model=shipped, strategy="single").answer == "27"


@pytest.mark.parametrize("function", [solve, solve_sync, Reasoner.solve])
def test_people_see_every_option_in_the_signature(function: Any) -> None:
    kind = SolveOptions if function is Reasoner.solve else ModelOptions
    shown = inspect.signature(function).parameters
    assert [*inspect.signature(kind).parameters] == [*shown][-len(kind.__dataclass_fields__) :]
    assert "problem" in shown


def test_the_policy_decides_for_self_consistency() -> None:
    options = SolveOptions(policy="async:k=4")
    assert isinstance(options.strategy_or("apr"), SelfConsistency)
    assert isinstance(SolveOptions().strategy_or("apr"), Apr)


def test_a_source_of_models_refuses_unknown_and_wrong_settings() -> None:
    with pytest.raises(InvalidValue, match="no setting 'devise'; did you mean 'device'"):
        EmbeddedSource(devise="cpu")
    with pytest.raises(InvalidValue, match="store_gib: Input should be greater than 0"):
        EmbeddedSource(store_gib=0)
    with pytest.raises(InvalidValue, match="speculative"):
        VllmSource(speculative={"tokens": 99})  # type: ignore[arg-type]
