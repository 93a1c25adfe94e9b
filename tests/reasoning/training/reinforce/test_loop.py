"""``python -m reasoning.training reinforce``: rounds, checkpoints, what is kept out of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
import torch

from orchestrator.errors import InvalidValue
from reasoning import Reasoner, load_model
from reasoning.models.catalog import find
from reasoning.problems import Countdown
from reasoning.training import __main__
from reasoning.training.demonstrations import kept_out, small_expand
from reasoning.training.reinforce.learner import Learner
from reasoning.training.reinforce.loop import go_on, reinforce
from reasoning.training.reinforce.problems import drawn
from reasoning.training.reinforce.recipe import ReinforceRecipe
from reasoning.training.reinforce.rollouts import Group, GroupSampler, asks_held_out, reward_of

SHORT = ReinforceRecipe(
    seed=6,
    rounds=3,
    problems=5,
    runs=4,
    budget=3,
    context=256,
    batches=1,
    epochs=1,
    anchor=0.0,
    fives=0.0,
)
"""The shipped model does many problems always or never; here each round has one of another kind."""


def rows(folder: Path) -> list[dict[str, Any]]:
    """The log's rows without their times."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, Any] = torch.load(folder / "checkpoint.pt", weights_only=True)
    found: dict[str, torch.Tensor] = state["model"]
    return found


def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken, init = tmp_path / "whole", tmp_path / "broken", find("reason-5m")
    reinforce(SHORT, whole, init=init)
    learn, rounds = Learner.learn, []

    def interrupted(self: Learner, groups: Sequence[Group], progress: float) -> Any:
        rounds.append(1)
        if len(rounds) == 2:
            raise OSError("the machine went away")
        return learn(self, groups, progress)

    monkeypatch.setattr(Learner, "learn", interrupted)
    with pytest.raises(OSError, match="went away"):
        reinforce(SHORT, broken, init=init)
    monkeypatch.setattr(Learner, "learn", learn)
    with pytest.raises(InvalidValue, match="--resume"):
        reinforce(SHORT, broken, init=init)
    go_on(broken)
    assert rows(broken) == rows(whole)
    assert all(row["learned"] for row in rows(whole))
    theirs = weights(broken)
    assert all(torch.equal(one, theirs[name]) for name, one in weights(whole).items())
    assert load_model(whole / "model").dialect.trained


def test_a_round_is_sampled_by_the_weights_of_the_round_before_the_last(tmp_path: Path) -> None:
    entropies = {}
    for rate in (1e-9, 0.3):
        recipe = ReinforceRecipe(
            **{**vars(SHORT), "rate": rate, "warmup": 1, "keep": 2, "certain": 0.0}
        )
        reinforce(recipe, tmp_path / str(rate), init=find("reason-5m"))
        entropies[rate] = [row["entropy"] for row in rows(tmp_path / str(rate))]
    assert load_model(tmp_path / "0.3" / "model-0002").dialect.trained
    still, moved = entropies.values()
    assert still[:2] == moved[:2]
    assert abs(still[2] - moved[2]) > 0.1


def test_an_interrupt_is_told_in_one_line_and_what_was_done_stands(tmp_path: Path) -> None:
    log = tmp_path / "run" / "log.jsonl"
    command = [sys.executable, "-m", "reasoning.training", "reinforce", "reason-1m"]
    options = ["--problems=1", "--runs=2", "--budget=1", "--batches=1", "--anchor=0"]
    with subprocess.Popen(
        [*command, str(log.parent), *options, "--rounds=100000"], stderr=subprocess.PIPE, text=True
    ) as run:
        while not log.exists() and run.poll() is None:
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate()
    assert run.returncode == 130
    assert said.splitlines()[-1].endswith("stopped; --resume goes on with it")
    assert "Traceback" not in said
    assert torch.load(log.parent / "checkpoint.pt", weights_only=True)["round"] >= 1


def test_no_problem_and_no_sub_search_of_a_round_is_held_out() -> None:
    recipe = ReinforceRecipe(problems=60, intermediate=0.3, fives=0.2)
    problems = drawn(recipe, 0)
    sizes = [len(one.numbers) for one in problems]
    assert {4, 5} == set(sizes)
    assert any(max(one.numbers) > 99 for one in problems)
    for problem in problems:
        states = [problem.numbers, *(state for _, state in small_expand(problem.numbers))]
        assert not any(kept_out(state, problem.target) for state in states)
    assert drawn(recipe, 0) == problems
    assert drawn(recipe, 1) != problems


def test_a_run_that_came_upon_a_held_out_problem_is_known() -> None:
    for target in range(10, 101):
        problem = Countdown(numbers=(3, 10, 21, 23), target=target)
        assert asks_held_out(f"3 10 21 23 => {target}") == problem.held_out
    assert not asks_held_out("3 10 => => 4")


def test_a_run_that_began_with_other_numbers_is_ended_early() -> None:
    recipe = ReinforceRecipe(**{**vars(SHORT), "problems": 2})

    async def sample() -> list[Group]:
        async with model.backend:
            return await GroupSampler(model, recipe).groups(drawn(recipe, 0), 0)

    model = load_model("reason-1m")  # which mostly begins so
    runs = [one for group in anyio.run(sample) for one in group.rollouts]
    ended = [one for one in runs if one.hopeless]
    assert ended
    assert all(one.reward == 0 and len(one.threads) == 1 and one.work < 40 for one in ended)
    for one in runs:
        root = one.threads[0]
        assert model.dialect.encode("<bos> <apr> 3 :") == root.tokens[:4]
        assert root.logprobs[:4] == [None] * 4
        assert len(root.tokens) == len(root.logprobs)


def test_a_right_run_earns_more_the_shorter_its_critical_path() -> None:
    async def solve() -> Any:
        async with Reasoner(load_model("reason-5m")) as reasoner:
            return await reasoner.solve("Use 3, 10, 21 and 23 to make 50", strategy="apr", n=24)

    solution, recipe = anyio.run(solve), ReinforceRecipe(span_bonus=0.2)
    assert reward_of(solution, recipe) == pytest.approx(
        1 + 0.2 * (1 - solution.usage.span_tokens / 512)
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--runs", "1"),
        ("--clip", "1"),
        ("--rate", "nan"),
        ("--anchor", "inf"),
        ("--threads", "100000"),
        ("--rounds", "-1"),
        ("--fives", "1.5"),
        ("--batches", "17"),
        ("--resume", None),
        ("--init", "nowhere"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_and_nothing_is_written(
    option: str,
    value: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    more = [option] if value is None else [option, value]
    monkeypatch.setattr(sys, "argv", ["training", "reinforce", "reason-1m", str(run), *more])
    with pytest.raises(SystemExit) as exit:
        __main__.main()
    said = capsys.readouterr().err
    assert exit.value.code == 2
    assert said.count("\n") == 1
    assert option[2:] in said
    assert not run.exists()


def test_a_resumed_run_keeps_its_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"model": "reason-1m", "problems": 1, "runs": 2, "rounds": 0}
    reinforce(ReinforceRecipe(**{**vars(SHORT), **small}), tmp_path, init=find("reason-1m"))
    for more, named in ((["--clip", "0.3"], "clip: the run has 0.2"), (["--init", "x"], "init: ")):
        given = ["training", "reinforce", "reason-1m", str(tmp_path), "--resume", *more]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit):
            __main__.main()
        assert named in capsys.readouterr().err
    given = ["training", "reinforce", "reason-1m", str(tmp_path), "--resume", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", given)
    __main__.main()
    assert len(rows(tmp_path)) == 1
