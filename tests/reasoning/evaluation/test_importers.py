"""Samples that other programs have stored become traces.

The files in ``written`` were written by these programs themselves: lm-eval 0.4.13 and Inspect
0.3.285 asked the rule server of ``tests/support``, DeepConf's own functions made the pickle, and
``vllm run-batch`` (0.32) answered a batch, of which two ids were changed.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import InvalidValue, UnknownName
from pruning import Question
from reasoning.evaluation.importers import FORMATS, ImportSettings, import_traces, read_traces
from reasoning.problems.answers import AnswerFormat

WRITTEN = Path(__file__).parent / "written"
LM_EVAL, LM_PLAIN, LM_CHOICE = (
    next(WRITTEN.glob(f"samples_tiny_{name}_*.jsonl")) for name in ("sums", "plain", "choice")
)
INSPECT, INSPECT_JSON = WRITTEN / "sums.eval", WRITTEN / "sums.json"
DEEPCONF = WRITTEN / "deepthink_offline_qid0_rid1.pkl"
BATCH, BATCH_ASKED = WRITTEN / "batch_out.jsonl", WRITTEN / "batch_gold.jsonl"


def read(*paths: Path, **settings: Any) -> dict[str, Question]:
    found = read_traces([str(path) for path in paths], ImportSettings(**settings))
    return {question.id: question for question in found}


def answers(question: Question) -> list[str | None]:
    return [trace.answer for trace in question.traces]


def said(*paths: Path, **settings: Any) -> list[str]:
    return list(import_traces([str(path) for path in paths], ImportSettings(**settings)).said())


def written(path: Path, *values: Any) -> Path:
    path.write_text("\n".join(map(json.dumps, values)), encoding="utf-8")
    return path


# lm-eval


def test_repeats_of_lm_eval_are_traces_once_for_all_filters() -> None:
    questions = read(LM_EVAL)
    assert list(questions) == ["tiny_sums/0", "tiny_sums/1", "tiny_sums/2"]
    assert answers(questions["tiny_sums/0"]) == ["5", "5", "i get 6. #### 6", "5"]
    assert answers(questions["tiny_sums/1"]) == ["1/2", "1/2", "hm", "2"]
    assert questions["tiny_sums/1"].right == {"1/2"}
    assert questions["tiny_sums/2"].right == {"7"}
    assert questions["tiny_sums/0"].words.startswith("SAY: 2+3=5")


def test_tokens_of_lm_eval_are_estimated_and_said_to_be() -> None:
    assert all(trace.estimated for one in read(LM_EVAL).values() for trace in one.traces)
    (line,) = said(LM_EVAL)
    assert line.endswith(
        "lm-eval, 3 questions, 12 traces; tokens estimated of 12; answers read from 12 texts"
    )


def test_a_scorer_that_judges_otherwise_is_told_of() -> None:
    *_, line = said(LM_PLAIN)
    assert line.startswith("the files' own scorers judge 3 of 3 traces otherwise")
    right = [question.right for question in read(LM_PLAIN, scored=True).values()]
    assert right == [frozenset()] * 3  # lm-eval compared whole texts, and found none right


def test_the_answers_that_one_filter_of_lm_eval_extracted_are_kept(tmp_path: Path) -> None:
    line = json.loads(LM_PLAIN.read_text().partition("\n")[0])
    line |= {"filter": "strict-match", "filtered_resps": ["5.0"], "exact_match": 1.0}
    nothing = {**line, "doc_id": 1, "filtered_resps": ["[invalid]"]}
    first, second = read(written(tmp_path / "samples.jsonl", line, nothing)).values()
    assert (answers(first), answers(second)) == (["5"], [None])
    assert first.traces[0].score == 1.0


def test_log_likelihoods_are_refused_by_name() -> None:
    with pytest.raises(InvalidValue, match="line 1: log-likelihoods and no texts"):
        read(LM_CHOICE)


# Inspect


@pytest.mark.parametrize(("file", "epochs"), [(INSPECT, 3), (INSPECT_JSON, 2)])
def test_epochs_of_inspect_are_traces_with_their_tokens(file: Path, epochs: int) -> None:
    question = read(file)["sums/s1"]
    assert len(question.traces) == epochs
    assert answers(question)[:2] == ["5", "5"]
    assert question.right == {"5"}
    assert [trace.tokens for trace in question.traces][:2] == [4, 5]
    assert not any(trace.estimated for trace in question.traces)
    assert question.traces[0].text == "2+3=5, so \\boxed{5}"


def test_samples_of_a_question_in_several_logs_are_put_together() -> None:
    assert len(read(INSPECT, INSPECT_JSON)["sums/s1"].traces) == 5


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    again = tmp_path / "again.eval"
    again.write_bytes(INSPECT.read_bytes())
    with pytest.raises(InvalidValue, match=r"again\.eval: it is there twice"):
        read(INSPECT, again)


def test_inspects_extracted_answer_and_thoughts_are_kept(tmp_path: Path) -> None:
    log = json.loads(INSPECT_JSON.read_text())
    content = [{"type": "reasoning", "reasoning": "hm, 7"}, {"type": "text", "text": "It is B."}]
    for sample in log["samples"]:
        sample["output"]["choices"][0]["message"]["content"] = content
        sample["scores"]["match"] = {"value": "C", "answer": "B"}
    (question,) = read(written(tmp_path / "log.json", log)).values()
    assert answers(question) == ["b", "b"]
    assert question.traces[0].text == "<think>hm, 7</think>It is B."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (INSPECT.read_bytes()[:-30], "of no format that is known"),
        (INSPECT.read_bytes().replace(b"header.json", b"headed.json"), "of no format"),
        (json.dumps({"eval": {}, "status": "started"}).encode(), "no sample; give a log"),
    ],
)
def test_a_damaged_log_of_inspect_is_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "log.eval"
    path.write_bytes(data)
    with pytest.raises(InvalidValue, match=message):
        read(path)


def test_a_zipped_log_without_zstandard_is_read_too(tmp_path: Path) -> None:
    log = json.loads(INSPECT_JSON.read_text())
    with zipfile.ZipFile(tmp_path / "log.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        samples = log.pop("samples")
        archive.writestr("header.json", json.dumps(log))
        for sample in samples:
            archive.writestr(f"samples/s1_epoch_{sample['epoch']}.json", json.dumps(sample))
    assert answers(read(tmp_path / "log.eval")["sums/s1"]) == ["5", "5"]


# DeepConf


def test_a_pickle_of_deepconf_is_read_with_confidences() -> None:
    (question,) = read(DEEPCONF).values()
    assert (question.id, question.words, question.right) == ("0", "What is 2+3?", {"5"})
    assert answers(question) == ["5", "6", "5", None]
    assert [trace.tokens for trace in question.traces] == [300, 200, 280, 260]
    assert question.probe_every == 128
    assert [len(trace.confidences) for trace in question.traces] == [2, 1, 2, 2]
    assert question.traces[0].confidences[0] > question.traces[1].confidences[0]


def test_a_trace_that_deepconf_stopped_is_open_ended(tmp_path: Path) -> None:
    result = pickle.loads(DEEPCONF.read_bytes())
    result["all_traces"][3]["stop_reason"] = "gconf_threshold"
    path = tmp_path / "online.pkl"
    path.write_bytes(pickle.dumps(result))
    (question,) = read(path).values()
    assert question.ordered
    assert question.traces[3].tokens == 261


class Harmful:
    """What runs a program where a pickle of it is read."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Harmful(), r"(posix|nt)\.system"),
        ([{"all_traces": [Fraction(1, 2)]}], r"fractions\.Fraction"),
        (eval, r"(builtins|__builtin__)\.eval"),
        (Path("x"), r"pathlib\.\w+"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_that_names_more_than_plain_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any, name: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "deepthink.pkl"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    with pytest.raises(InvalidValue, match=f"it names {name}, which is no plain data"):
        read(path)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    "data",
    [
        DEEPCONF.read_bytes()[:500],
        b"\x80\x04K\x01.",
        b"\x80\x04cbuiltins\ngetattr\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x0clist.__add__\x93.",
        b"\x80\x04\x80\x04.",
        b"\x80\x05",
    ],
)
def test_a_pickle_that_is_none_of_deepconfs_is_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(data)
    with pytest.raises(InvalidValue, match=r"damaged|no all_traces|no plain data"):
        read(path)


# Batches


def test_a_batch_of_vllm_needs_right_answers_from_another_file() -> None:
    with pytest.raises(InvalidValue, match=r"nothing says which answer is right; give --gold FILE"):
        read(BATCH)
    questions = read(BATCH, gold=str(BATCH_ASKED))
    assert list(questions) == ["sum-1", "sum-2"]
    assert [question.right for question in questions.values()] == [{"5"}, {"42"}]
    assert questions["sum-1"].words == "What is 2+3? Give the final answer in \\boxed{}."
    assert [len(question.traces) for question in questions.values()] == [4, 4]


def test_choices_that_were_counted_together_are_estimated(tmp_path: Path) -> None:
    choices = [{"message": {"content": text}} for text in ("\\boxed{5}", "five: \\boxed{5} it is")]
    body = {"choices": choices, "usage": {"completion_tokens": 10}}
    line = {"custom_id": "sum-1", "response": {"status_code": 200, "body": body}}
    failed = {"custom_id": "sum-2", "response": None, "error": {"message": "too long"}}
    path = written(tmp_path / "out.jsonl", line, failed)
    (question,) = read(path, gold=str(BATCH_ASKED)).values()
    assert [trace.tokens for trace in question.traces] == [3, 7]
    assert all(trace.estimated for trace in question.traces)
    (told,) = said(path, gold=str(BATCH_ASKED))
    assert told.endswith(
        "tokens estimated of 2; answers read from 2 texts; 1 without an answer left out"
    )


def test_logged_choices_are_counted_and_have_confidences(tmp_path: Path) -> None:
    token = {"logprob": -0.1, "top_logprobs": [{"logprob": -0.1}, {"logprob": -3.1}]}
    choices = [
        {"message": {"content": "\\boxed{5}"}, "logprobs": {"content": [token] * count}}
        for count in (130, 300)
    ]
    body = {"choices": choices, "usage": {"completion_tokens": 430}}
    line = {"custom_id": "sum-1", "response": {"status_code": 200, "body": body}}
    (question,) = read(written(tmp_path / "o.jsonl", line), gold=str(BATCH_ASKED)).values()
    assert [trace.tokens for trace in question.traces] == [130, 300]
    assert not any(trace.estimated for trace in question.traces)
    assert question.traces[1].confidences == pytest.approx([1.6, 1.6])


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ({"id": "other", "gold": "5"}, r"sum-1.*: not in .*gold\.jsonl; give its id and gold"),
        ({"id": "sum-1"}, r"gold: .*gold\.jsonl: line 1: give an id or the question, and gold"),
        ({"id": "sum-1", "gold": math.nan}, r"line 1: give an id or the question, and gold"),
        ({"id": "sum-1", "gold": {"a": 1}}, r"line 1: .* is an object; give a text"),
    ],
)
def test_a_gold_file_that_lacks_something_is_one_line(
    tmp_path: Path, gold: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidValue, match=message):
        read(BATCH, gold=str(written(tmp_path / "gold.jsonl", gold)))


def test_two_right_answers_of_one_id_are_refused_unless_they_are_equal(tmp_path: Path) -> None:
    lines = [{"id": "sum-1", "gold": 5}, {"id": "sum-2", "gold": "42"}]
    again = written(tmp_path / "again.jsonl", *lines, {"id": "sum-1", "gold": "5"})
    assert read(BATCH, gold=str(again))["sum-1"].right == {"5"}
    other = written(tmp_path / "other.jsonl", *lines, {"id": "sum-1", "gold": 6})
    with pytest.raises(InvalidValue, match=r"line 3: 'sum-1' has another right answer in line 1"):
        read(BATCH, gold=str(other))


def test_right_answers_may_stand_in_a_table(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text("id;gold\nsum-1;5\nsum-2;42\n")
    assert [one.right for one in read(BATCH, gold=str(path)).values()] == [{"5"}, {"42"}]


def test_a_batch_in_which_all_failed_says_so(tmp_path: Path) -> None:
    failed = {"custom_id": "sum-1", "response": {"status_code": 400, "body": {"error": {}}}}
    with pytest.raises(InvalidValue, match="batch: none of 1 questions has an answer"):
        read(written(tmp_path / "out.jsonl", failed), gold=str(BATCH_ASKED))


# Right answers as they are stored


@pytest.mark.parametrize(
    ("stored", "right"),
    [(5, {"5"}), (5.0, {"5"}), (True, {"true"}), ([5, None, "6"], {"5", "6"}), ("5", {"5"})],
)
@pytest.mark.parametrize("name", ["lm-eval", "inspect", "deepconf", "chat"])
def test_right_answers_may_be_numbers_booleans_and_lists(
    tmp_path: Path, name: str, stored: Any, right: set[str]
) -> None:
    assert next(iter(read(with_gold(tmp_path, name, stored)).values())).right == right


@pytest.mark.parametrize("stored", [None, math.nan, "", [], {"text": ["5"]}, [{"a": 5}]])
@pytest.mark.parametrize("name", ["lm-eval", "deepconf", "chat"])
def test_what_is_no_right_answer_is_not_taken_for_one(
    tmp_path: Path, name: str, stored: Any
) -> None:
    with pytest.raises(InvalidValue, match="nothing says which answer is right; give --gold FILE"):
        read(with_gold(tmp_path, name, stored))


def with_gold(folder: Path, name: str, stored: Any) -> Path:
    """A file of a format whose right answers are stored so."""
    (value,) = deepcopy(SEEDS[name]())[:1]
    if name == "inspect":
        for sample in value["samples"]:
            sample["target"] = stored
    value["target" if name == "lm-eval" else "ground_truth" if name == "deepconf" else "gold"] = (
        stored
    )
    if name == "lm-eval":
        value["metrics"] = []
    path = folder / "file"
    path.write_bytes(pickle.dumps(value) if name == "deepconf" else json.dumps(value).encode())
    return path


def test_two_runs_of_lm_eval_in_one_file_are_refused(tmp_path: Path) -> None:
    line = json_lines(LM_PLAIN)[0]
    other = {**line, "resps": [["other"]]}
    with pytest.raises(InvalidValue, match="line 2: document 0 has other responses than in line 1"):
        read(written(tmp_path / "samples.jsonl", line, other))


def test_rows_of_parquet_are_what_lines_are(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "traces.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([OURS]), path)
    assert read(path) == read(written(tmp_path / "traces.jsonl", OURS))


@pytest.mark.parametrize("protocol", [0, 1])
def test_pickles_of_old_protocols_are_told_by_their_names(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "old.pkl"
    path.write_bytes(pickle.dumps(pickle.loads(DEEPCONF.read_bytes()), protocol=protocol))
    assert read(path) == read(DEEPCONF)


# Chats

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+3?"}]


def answered(*texts: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text} for text in texts]


@pytest.mark.parametrize(
    "log",
    [
        [{"messages": ASKED + answered("\\boxed{5}", "\\boxed{6}"), "gold": "5"}],
        [
            {"messages": ASKED + answered("\\boxed{5}"), "gold": "5"},
            {"messages": ASKED + answered("\\boxed{6}"), "gold": "5"},
        ],
        [
            {
                "messages": ASKED,
                "choices": [{"message": one} for one in answered("\\boxed{5}", "\\boxed{6}")],
                "metadata": {"target": ["5"]},
            }
        ],
        [
            {
                "request": {"messages": ASKED},
                "response": {"choices": [{"message": one}]},
                "gold": "5",
            }
            for one in answered("\\boxed{5}", "\\boxed{6}")
        ],
    ],
    ids=["several answers", "a line each", "choices", "request and response"],
)
@pytest.mark.parametrize("whole", [False, True], ids=["lines", "array"])
def test_chats_of_each_shape_are_traces_of_one_question(
    tmp_path: Path, log: list[dict[str, Any]], whole: bool
) -> None:
    path = written(tmp_path / "chats", *([log] if whole else log))
    (question,) = read(path).values()
    assert (question.words, question.right, answers(question)) == ("2+3?", {"5"}, ["5", "6"])
    assert all(trace.estimated for trace in question.traces)


def test_gold_is_found_by_the_question_too(tmp_path: Path) -> None:
    chats = written(tmp_path / "chats.jsonl", {"messages": ASKED + answered("\\boxed{5}")})
    gold = written(tmp_path / "gold.jsonl", {"question": "2+3?", "answer": "Five.\n#### 5"})
    (question,) = read(chats, gold=str(gold)).values()
    assert (question.right, answers(question)) == ({"5"}, ["5"])


def test_a_usage_and_thoughts_of_a_chat_are_kept(tmp_path: Path) -> None:
    message = {"content": "It is \\boxed{5}.", "reasoning_content": "2+3 is \\boxed{6}? No."}
    log = {
        "messages": ASKED,
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"completion_tokens": 17},
        "gold": "5",
    }
    (question,) = read(written(tmp_path / "chats", log)).values()
    (trace,) = question.traces
    assert (trace.answer, trace.tokens, trace.estimated) == ("5", 17, False)
    assert trace.text.startswith("<think>2+3 is")


def test_an_answer_that_was_cut_is_none(tmp_path: Path) -> None:
    choice = {"message": {"content": "The answer is 4"}, "finish_reason": "length"}
    log = {"messages": ASKED, "choices": [choice], "gold": "42"}
    (question,) = read(written(tmp_path / "chats", log)).values()
    assert answers(question) == [None]


# Questions with lists of texts


@pytest.mark.parametrize("packed", [False, True], ids=["lines", "parquet"])
def test_a_question_with_a_list_of_texts_is_read(tmp_path: Path, packed: bool) -> None:
    output = {"text": "\\boxed{5}", "token_ids": [7, 8, 9], "finish_reason": "stop"}
    cut = {"text": "it is 4", "token_ids": [7], "finish_reason": "length"}
    rows = [
        {"id": "a", "problem": "2+3?", "answer": 5, "outputs": [output, cut]},
        {"id": "b", "problem": "1+1?", "answer": 2, "outputs": []},
    ]
    path = written(tmp_path / "texts.jsonl", *rows)
    if packed:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        path = tmp_path / "texts.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    questions = read(path)
    assert list(questions) == ["a"]
    assert (questions["a"].right, answers(questions["a"])) == ({"5"}, ["5", None])
    assert [trace.tokens for trace in questions["a"].traces] == [3, 1]
    assert said(path)[0].endswith("1 without an answer left out")
    bare = {"prompt": "2+3?", "gold": "5", "completions": ["\\boxed{5}", "\\boxed{6}"]}
    (question,) = read(written(tmp_path / "bare.jsonl", bare)).values()
    assert (question.id, answers(question)) == ("1", ["5", "6"])
    assert all(trace.estimated for trace in question.traces)
    with pytest.raises(InvalidValue, match="line 2: no question, or no list of texts; give both"):
        read(written(tmp_path / "odd.jsonl", bare, {**bare, "completions": [5]}))


# Ours, and all of them

OURS = {
    "question_id": "q",
    "gold": "1/2",
    "traces": [{"tokens": 5, "answer": "0.5"}, {"tokens": 5, "answer": "\\frac12"}],
}


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_our_format_is_read(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "traces.json"
    path.write_text(json.dumps([OURS, {**OURS, "question_id": "r"}], indent=indent))
    assert list(read(path)) == ["q", "r"]


def test_equal_answers_are_one_unless_they_are_read_verbatim(tmp_path: Path) -> None:
    path = written(tmp_path / "traces.jsonl", OURS)
    assert answers(read(path)["q"]) == ["1/2", "1/2"]
    assert answers(read(path, normalise=False)["q"]) == ["0.5", "\\frac12"]


def test_our_own_files_are_read_without_a_word(tmp_path: Path) -> None:
    assert said(written(tmp_path / "traces.jsonl", OURS)) == []


@pytest.mark.parametrize("file", [LM_EVAL, BATCH], ids=["lm-eval", "batch"])
def test_a_gzipped_file_is_the_same(tmp_path: Path, file: Path) -> None:
    packed = tmp_path / f"{file.name}.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    gold = str(BATCH_ASKED) if file is BATCH else None
    assert list(read(packed, gold=gold).values()) == list(read(file, gold=gold).values())


def test_answers_are_read_as_told(tmp_path: Path) -> None:
    log = {"messages": ASKED + answered("That is 5. \\boxed{4}"), "gold": "5"}
    path = written(tmp_path / "chats", log)
    assert answers(next(iter(read(path).values()))) == ["4"]
    assert answers(next(iter(read(path, answer=AnswerFormat.parse(r"/is (\d)/")).values()))) == [
        "5"
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_a_named_format_does_not_have_to_be_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidValue):
        read(written(tmp_path / "x", {"nothing": 1}), format=name)


def test_a_format_that_can_not_be_told_is_refused_with_the_list(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="of no format that is known") as refused:
        read(written(tmp_path / "x", {"nothing": 1}))
    assert [name for name in FORMATS if f"{name} (" not in str(refused.value)] == []
    with pytest.raises(UnknownName, match="format 'lm_eval' does not exist; choose traces"):
        read(LM_EVAL, format="lm_eval")


# Values of any type

JUNK = st.sampled_from(
    [None, True, -1, 10**30, math.nan, math.inf, "", "\ud800", [], {}, [[]], [None], {"a": 1}, 0.5]
)
SEEDS = {
    "lm-eval": lambda: json_lines(LM_PLAIN),
    "batch": lambda: json_lines(BATCH)[:2],
    "inspect": lambda: [{**json.loads(INSPECT_JSON.read_text())}],
    "chat": lambda: [
        {
            "request": {"messages": ASKED},
            "response": {"choices": [{"message": answered("5")[0]}], "usage": {}},
            "gold": "5",
        }
    ],
    "deepconf": lambda: [pickle.loads(DEEPCONF.read_bytes())],
    "texts": lambda: [{"question": "2+3?", "gold": "5", "outputs": [{"text": "5"}, "6"]}],
}


def json_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a value, but for what is logged of a run's events."""
    inside = enumerate(value if isinstance(value, list) else ())
    for key, one in value.items() if isinstance(value, dict) else inside:
        if key not in ("events", "plan", "confs", "token_ids"):
            yield (*path, key)
            yield from places(one, (*path, key))


@pytest.mark.parametrize("name", SEEDS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_whatever_stands_in_a_file_it_is_read_or_refused_in_words(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    values = deepcopy(SEEDS[name]())
    *path, last = data.draw(st.sampled_from(list(places(values))))
    inside = values
    for key in path:
        inside = inside[key]
    inside[last] = deepcopy(data.draw(JUNK))
    file = tmp_path_factory.mktemp("any") / "file"
    whole = pickle.dumps(values[0]) if name == "deepconf" else b""
    file.write_bytes(whole or "\n".join(map(json.dumps, values)).encode())
    with suppress(InvalidValue):
        for question in read(file, gold=str(BATCH_ASKED) if name == "batch" else None).values():
            assert all(type(trace.tokens) is int and trace.tokens > 0 for trace in question.traces)
