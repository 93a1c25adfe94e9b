"""Scorers: who they are by name, what they are asked, and what comes of their scores."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner

from orchestrator.errors import InvalidValue, ReasonError, UnknownName
from reasoning import Reasoner, Solution, load_model
from reasoning.backends.text import TextBackend
from reasoning.cli import main
from reasoning.errors import BackendLost
from reasoning.judging import scoring
from reasoning.judging.scoring import load_scorer
from reasoning.policies import steered_by
from reasoning.problems import FreeForm
from reasoning.run.report import report
from reasoning.values.sampling import Sampling

QUESTION = "How many legs have two spiders?"
OWN = """
def by_length(question, text, answer):
    return len(answer) + question.count("?")


class Fixed:
    def __init__(self, value: float = 0.5):
        self.value = value

    def __call__(self, question, text, answer):
        return self.value


async def later(question, text, answer):
    return 1.0


def broken(question, text, answer):
    raise KeyError("weights")


def silent(question, text, answer):
    return None


NUMBER = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return str(path)


class Numbers(TextBackend):
    """Boxes the next of its answers to each request."""

    name = "numbers"

    def __init__(self, *answers: str) -> None:
        super().__init__(context=4000)
        self.answers = list(answers)

    async def write(
        self, messages: list[dict[str, str]], sampling: Sampling, *, most: int
    ) -> AsyncIterator[str]:
        yield f"So it is \\boxed{{{self.answers.pop(0)}}}"


def solved(*answers: str, **options: Any) -> Solution:
    async def run() -> Solution:
        async with Reasoner(load_model(backend=Numbers(*answers))) as reasoner:
            return await reasoner.solve(FreeForm(question=QUESTION), **options)

    return anyio.run(run)


def closeness(question: str, text: str, answer: str) -> float:
    """Likes answers near 16."""
    return 1 / (1 + abs(int(answer) - 16))


# By name.


def test_a_function_and_a_class_are_scorers_by_their_place(own: str) -> None:
    assert load_scorer(f"{own}:by_length")("What?", "so 42", "42") == 3.0
    assert load_scorer(f"{own}:Fixed")("", "", "") == 0.5
    assert load_scorer(f"{own}:Fixed:value=2")("", "", "") == 2.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("later", "is asynchronous; give a plain function"),
        ("nothing", "has no class 'nothing'"),
        ("NUMBER", "has no class 'NUMBER'"),
    ],
)
def test_what_is_no_scorer_is_refused_by_name(own: str, name: str, message: str) -> None:
    with pytest.raises(ReasonError, match=message):
        load_scorer(f"{own}:{name}")


def test_an_unknown_name_says_what_to_give() -> None:
    with pytest.raises(UnknownName, match="scorer 'magic' does not exist; give module:Name or"):
        load_scorer("magic")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("weighted:scorer=", "scorer: empty or given twice"),
        ("weighted:scorer={own}:Fixed,scorer={own}:Fixed", "scorer: empty or given twice"),
        ("sc:n=4,scorer={own}:Fixed", "scorer: policy 'sc' asks for no scores"),
        ("best-of-n:scorer={own}:Fixed", "asks for no scores"),
        ("weighted:scorer={own}:Fixed,size=3", "weighted has no setting 'size'"),
        ("weighted:scorer=http://localhost/v1", "no endpoint that scores; give an address that"),
    ],
)
def test_a_scorer_that_does_not_fit_is_refused(own: str, policy: str, message: str) -> None:
    with pytest.raises(ReasonError, match=message):
        steered_by(policy.format(own=own))


def test_a_policy_has_its_settings_and_its_scorer(own: str) -> None:
    for text in ("weighted:n=3,scorer={}:Fixed", "weighted:scorer={}:Fixed,n=3"):
        found = steered_by(text.format(own))
        assert found.policy.label == "weighted:n=3"
        assert found.scorer is not None
        assert found.scorer("", "", "") == 0.5
    with pytest.raises(InvalidValue, match="has two"):
        steered_by(f"weighted:scorer={own}:Fixed", scorer=closeness)


# In a run.


def test_the_scorer_outvotes_the_majority_and_the_result_says_so() -> None:
    answers = ("10", "10", "16", "10")
    plain = solved(*answers, policy="sc:n=4")
    assert (plain.answer, plain.selected_by) == ("10", "votes")
    for policy in ("bon:n=4", "weighted:n=4"):
        solution = solved(*answers, policy=policy, scorer=closeness)
        assert (solution.answer, solution.selected_by) == ("16", "score")
        assert solution.votes == {"10": 3, "16": 1}
        assert solution.steering is not None
        assert solution.steering.scorer == "closeness"
        scores = [thread.trace.score for thread in solution.threads if thread.trace]
        assert scores == [1 / 7, 1 / 7, 1.0, 1 / 7]
        told = report(solution)
        assert told.steering is not None
        assert (told.selected_by, told.steering.scorer) == ("score", "closeness")


def test_a_tie_of_votes_is_none_where_scores_decide() -> None:
    solution = solved("10", "16", policy="bon:n=2", scorer=closeness, on_tie="abstain")
    assert (solution.answer, solution.abstained) == ("16", None)


def test_more_is_not_sampled_where_scores_leave_no_tie() -> None:
    solution = solved("10", "16", policy="bon:n=2", scorer=closeness, on_tie="more")
    assert (solution.answer, len(solution.threads)) == ("16", 2)


def test_a_scorer_that_never_comes_back_does_not_hold_up_a_run() -> None:
    gone = threading.Event()

    def hanging(question: str, text: str, answer: str) -> float:
        gone.wait()
        return 1.0

    try:
        solution = solved("10", "16", policy="bon:n=2", scorer=hanging, timeout=0.5)
        assert solution.status == "timed-out"
    finally:
        gone.set()


def test_a_scorer_that_no_policy_asks_is_refused() -> None:
    with pytest.raises(InvalidValue, match="scorer: policy 'sc' asks for no scores"):
        solved("10", "16", policy="sc:n=2", scorer=closeness)


def test_what_gives_no_answer_is_not_scored() -> None:
    solution = solved("10", "", policy="bon:n=2", scorer=closeness)
    scores = [thread.trace.score for thread in solution.threads if thread.trace]
    assert scores == [1 / 7, None]


@pytest.mark.parametrize(
    ("name", "message"),
    [("broken", "own.py:broken: KeyError: 'weights'; mend it"), ("silent", "gave 'None'; return")],
)
def test_a_scorer_that_fails_is_named_in_one_line(own: str, name: str, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        solved("10", "16", policy=f"bon:n=2,scorer={own}:{name}")


def test_stored_traces_are_replayed_with_their_scores_or_scored_anew(
    own: str, tmp_path: Path
) -> None:
    scored = [("10", 0.2), ("10", 0.2), ("160", 0.9)]
    traces = [{"tokens": 9, "answer": a, "score": s, "text": f"so {a}"} for a, s in scored]
    line = {"question_id": "q", "question": QUESTION, "gold": "160", "traces": traces}
    target = tmp_path / "traces.jsonl"
    target.write_text(json.dumps(line))
    flat = f"weighted:n=3,scorer={own}:Fixed"
    policies = ["weighted:n=3", "bon:n=3", flat, f"bon:n=3,scorer={own}:by_length"]
    options = [word for policy in policies for word in ("--policy", policy)]
    done = CliRunner().invoke(main, ["replay", str(target), *options, "--json"])
    assert done.exit_code == 0, done.output
    assert [row["accuracy"] for row in json.loads(done.stdout)["results"]] == [1, 1, 0, 1]
    for trace in traces:
        del trace["text"]
    target.write_text(json.dumps(line))
    refused = CliRunner().invoke(main, ["replay", str(target), "--policy", flat])
    assert refused.exit_code != 0
    assert "a scorer reads the question and each trace's text" in refused.stderr


# By a server.


@contextmanager
def serving(reply: Callable[[str, Any], tuple[int, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """A server that answers a path and a body as it is told, and what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((self.path, body, self.headers.get("authorization")))
            status, said = reply(self.path, body)
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


CHAT = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "so 4"}]
FORMS: list[tuple[str, Any, Any]] = [
    ("/score", {"text_1": "Q", "text_2": "so 4"}, {"data": [{"index": 0, "score": 0.25}]}),
    (
        "/v1/rerank",
        {"query": "Q", "documents": ["so 4"]},
        {"results": [{"index": 0, "document": {"text": "so 4"}, "relevance_score": 0.25}]},
    ),
    ("/classify", {"messages": CHAT}, {"data": [{"probs": [0.25], "num_classes": 1}]}),
    ("/pooling", {"messages": CHAT}, {"data": [{"data": [0.25]}]}),
    ("/pooling", {"messages": CHAT}, {"data": [{"data": [[0.75], [0.5], [0.25]]}]}),
]


@pytest.mark.parametrize(("path", "body", "said"), FORMS)
def test_a_served_model_is_asked_in_the_form_of_its_endpoint(
    path: str, body: Any, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORER_API_KEY", "secret\n")
    with serving(lambda *_: (200, said)) as (url, asked):
        assert load_scorer(url + path)("Q", "<think>hm</think>so 4", "4") == 0.25
        assert load_scorer(f"{url}{path}#rm")("Q", "so 4", "4") == 0.25
    assert asked[0] == (path, body, "Bearer secret")
    assert asked[1][1] == {"model": "rm", **body}


@pytest.mark.parametrize(
    ("status", "said", "kind", "message", "tries"),
    [
        (404, {"error": "no model"}, BackendLost, "refuses: 404 .*no model", 1),
        (503, {"error": "busy"}, BackendLost, "refuses: 503", scoring.TRIES),
        (200, {"data": [{"probs": [0.1, 0.9]}]}, InvalidValue, "2 numbers where one is a score", 1),
        (200, {"results": []}, InvalidValue, "gave no score where /classify has it", 1),
        (200, {"data": [{"probs": [None]}]}, InvalidValue, "return a finite number", 1),
    ],
)
def test_a_server_without_a_score_is_told_by_its_address(
    status: int,
    said: Any,
    kind: type[Exception],
    message: str,
    tries: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "BACKOFF_S", 0.0)
    with serving(lambda *_: (status, said)) as (url, asked):
        with pytest.raises(kind, match=message):
            load_scorer(f"{url}/classify")("Q", "so 4", "4")
        assert len(asked) == tries
    with pytest.raises(BackendLost, match="can't be asked"):
        load_scorer(f"{url}/classify")("Q", "so 4", "4")


def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "BACKOFF_S", 0.0)
    replies = iter([(429, {}), (200, {"data": [{"score": 1.5}]})])
    with serving(lambda *_: next(replies)) as (url, _):
        assert load_scorer(f"{url}/score")("Q", "so 4", "4") == 1.5


def test_a_run_is_scored_by_a_server() -> None:
    def reply(path: str, body: Any) -> tuple[int, Any]:
        return 200, {"data": [{"index": 0, "score": float("16" in body["text_2"])}]}

    with serving(reply) as (url, asked):
        solution = solved("10", "10", "16", policy=f"weighted:n=3,scorer={url}/score")
    assert (solution.answer, len(asked)) == ("16", 3)
    assert {body["text_1"] for _, body, _ in asked} == {QUESTION}
    assert solution.steering is not None
    assert solution.steering.scorer == f"{url}/score"
