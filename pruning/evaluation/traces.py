"""Stored traces and the JSON lines that hold them: sampled traces, or chains of two models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

NO_ANSWER = frozenset({"", "ERR", "invalid", "None"})
"""Stored answers that mean that a trace gave none."""
CHARACTERS_A_TOKEN = 3.2
"""Of mathematical English, for chains that are stored without token counts."""
MOST_TOKENS = 10**9


class TracesError(ValueError):
    """A file holds no usable traces; the message says where and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredStep:
    """A step of a draft model, its score by the target model, and how far the target continued.

    Attributes:
        score: Perplexity; higher is stranger.
        tokens: Of the draft's step.
        target_tokens: Of the target's continuation; 0 where it was not asked.
    """

    score: float
    tokens: int
    target_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One finished trace.

    Attributes:
        probes: The answer that it would have given at each multiple of its question's
            ``probe_every``, as far as it was probed.
        confidences: Mean confidence of each ``probe_every`` tokens, where stored.
        score: The verifier's or a scorer's, where stored.
        steps: Scored steps of a draft model, where stored.
        text: Its text, where stored; a judge reads the beginning.
        estimated: Whether ``tokens`` is no count, but follows from the text's length.
    """

    tokens: int
    answer: str | None
    probes: tuple[str | None, ...] = ()
    confidences: tuple[float, ...] = ()
    score: float | None = None
    steps: tuple[ScoredStep, ...] = ()
    text: str = ""
    estimated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A question, its right answers, and its stored traces.

    Attributes:
        words: The text of the question, where stored.
        ordered: Whether traces were stopped before their own end; they are then known only as far
            as they ran in this order, and are not shuffled.
    """

    id: str
    right: frozenset[str]
    traces: tuple[Trace, ...]
    probe_every: int = 0
    words: str = ""
    ordered: bool = False


def rescored(question: Question, scorer: Callable[[str, str, str], float]) -> Question:
    """A question whose traces have a scorer's scores in place of those that are stored.

    Traces without an answer have none.

    Raises:
        TracesError: a trace that answers has no text, or the question no words, to be scored.
    """

    def scored(trace: Trace) -> Trace:
        if trace.answer is None:
            return replace(trace, score=None)
        if not (trace.text and question.words):
            raise TracesError(
                f"{question.id}: a scorer reads the question and each trace's text; store both"
            )
        return replace(trace, score=scorer(question.words, trace.text, trace.answer))

    return replace(question, traces=tuple(map(scored, question.traces)))


def answer_key(answer: str | None) -> str | None:
    """A stored answer without spaces around it; None where it means no answer."""
    text = (answer or "").strip()
    return None if text in NO_ANSWER else text


def answer_texts(value: Any) -> list[str]:
    """The answers that a JSON value has: a text, number or boolean, or a list of such.

    Null, NaN and empty texts are none.

    Raises:
        TracesError: it is, or has, an object.
    """
    waiting, found = [value], list[str]()
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            raise TracesError(f"{str(one)[:40]!r} is an object; give a text, a number, or a list")
        if isinstance(one, list | tuple):
            waiting += reversed(one)
        elif one is not None and one == one:
            text = str(one).strip()
            found.append(text.lower() if isinstance(one, bool) else text)
    return list(filter(None, found))


def read_questions(lines: Iterable[str]) -> Iterator[Question]:
    """Questions from JSON lines with ``traces`` or ``chains``, one question a line.

    Raises:
        TracesError: with the line's number and the field that is wrong.
    """
    for place, value in json_lines(lines):
        try:
            yield parse_question(value)
        except TracesError as error:
            raise TracesError(f"{place}: {error}") from error


def json_lines(lines: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """The values of lines that are not empty, each behind its place, as ``line 3``.

    Raises:
        TracesError: a line is no JSON, or what can't be read of it, with its number.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            place = f"line {number}"
            try:
                value = json.loads(line)
            except RecursionError as error:
                raise TracesError(f"{place}: nested too deeply; give JSON lines") from error
            except json.JSONDecodeError as error:
                raise TracesError(f"{place}: not JSON ({error}); give JSON lines") from error
            except ValueError as error:
                raise TracesError(f"{place}: a number is too long; write a text") from error
            yield place, value


def parse_question(item: Any) -> Question:
    """One question from a JSON object with ``traces`` or ``chains``.

    Raises:
        TracesError: with the field that is wrong.
    """
    if not isinstance(item, dict) or not ("traces" in item or "chains" in item):
        raise TracesError("no field traces or chains; see docs/policies.md for the formats")
    chains = "traces" not in item
    stored = _field(item, "chains" if chains else "traces", list)
    if not stored:
        raise TracesError("traces: empty; give at least one trace")
    every = 0 if chains else _field(item, "probe_every", int, 0)
    if every < 0:
        raise TracesError(f"probe_every: {every} is below 0; give tokens between probes")
    read = _chain if chains else _trace
    return Question(
        id=str(_field(item, "question_id", (str, int))),
        right=frozenset(_gold(item)),
        traces=tuple(_numbered(read, place, one) for place, one in enumerate(stored, 1)),
        probe_every=every,
        words=_field(item, "question", (str, type(None)), None) or "",
    )


def _gold(item: Any) -> list[str]:
    if "gold" not in item:
        raise TracesError("gold: missing; give the right answer, or a list of them")
    found = _texts(item, "gold")
    if not found and item["gold"] != []:  # an empty list says that nobody was right
        raise TracesError("gold: empty; give the right answer, or a list of them")
    return found


def _texts(item: Any, name: str) -> list[str]:
    try:
        return answer_texts(item.get(name))
    except TracesError as error:
        raise TracesError(f"{name}: {error}") from error


def _numbered(read: Callable[[Any], Trace], place: int, item: Any) -> Trace:
    try:
        return read(item)
    except TracesError as error:
        raise TracesError(f"trace {place}: {error}") from error


def _answer(item: Any, name: str) -> str | None:
    if not isinstance(item, dict) or name not in item:
        raise TracesError(f"{name}: missing; give it, null where there is none")
    found = _texts(item, name)
    if len(found) > 1:
        raise TracesError(f"{name}: {str(item[name])[:40]!r} are several; give one")
    return answer_key(found[0] if found else None)


def _trace(item: Any) -> Trace:
    tokens = _field(item, "tokens", int)
    if not 1 <= tokens <= MOST_TOKENS:
        raise TracesError(f"tokens: out of range; give 1 to {MOST_TOKENS}, the trace's length")
    return Trace(
        tokens=tokens,
        answer=_answer(item, "answer"),
        probes=tuple(_answer({"probes": one}, "probes") for one in _list(item, "probes", object)),
        confidences=tuple(map(float, _list(item, "confidences", (int, float)))),
        score=_field(item, "score", (int, float, type(None)), None),
        text=_field(item, "text", (str, type(None)), None) or "",
    )


def _chain(item: Any) -> Trace:
    parts = _field(item, "steps", list)
    steps = tuple(_scored_steps(parts))
    tokens = sum(step.tokens + step.target_tokens for step in steps)
    return Trace(
        tokens=max(1, tokens),
        answer=_answer(item, "final_answer"),
        steps=steps,
        text="".join(_field(part, "text", str, "") for part in parts),
        estimated=True,
    )


def _scored_steps(parts: list[Any]) -> Iterator[ScoredStep]:
    """The scored steps of a chain, each stored as a draft, a score and a target part."""
    turns: dict[int, dict[str, Any]] = {}
    for part in parts:
        turns.setdefault(_field(part, "turn", int), {})[_field(part, "by", str)] = part
    for _, turn in sorted(turns.items()):
        if "score" in turn:
            yield ScoredStep(
                score=float(_field(turn["score"], "ppl", (int, float))),
                tokens=_tokens(turn.get("draft")),
                target_tokens=_tokens(turn.get("target")),
            )


def _tokens(part: Any) -> int:
    return 0 if part is None else estimated_tokens(_field(part, "text", str))


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has, where they were not counted."""
    return max(1, round(len(text) / CHARACTERS_A_TOKEN))


_MISSING: Any = object()
_KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    list: "a list",
    type(None): "null",
}


def _list(item: Any, name: str, kind: Any) -> list[Any]:
    values: list[Any] = _field(item, name, list, [])
    return [_field({name: value}, name, kind) for value in values]


def _field(item: Any, name: str, kind: Any, default: Any = _MISSING) -> Any:
    value = item.get(name, default) if isinstance(item, dict) else _MISSING
    if value is _MISSING:
        raise TracesError(f"{name}: missing; give it in each object")
    if isinstance(value, float) and not isfinite(value):
        raise TracesError(f"{name}: {value} is not finite; give a number")
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(_KINDS[one] for one in kinds if one is not int or float not in kinds)
        raise TracesError(f"{name}: {str(value)[:40]!r} is of the wrong type; give {wanted}")
    return value
