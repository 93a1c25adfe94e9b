"""Answers that are JSON or calls of tools: how they are read, compared, voted for and checked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from orchestrator.errors import InvalidValue, importing
from protocol.http import OutputForm, ToolOffer
from reasoning.problems import FreeForm, Verdict
from reasoning.problems.answers import AnswerFormat, FoundAnswer, Source, read_answer

TEXT = AnswerFormat(kind="text")


@dataclass(frozen=True, kw_only=True)
class FormedQuestion:
    """A question whose answer is JSON of a form.

    A vote is the canonical JSON, or that of calls of tools; what does not fit the form abstains.
    """

    domain: ClassVar[str] = "free-form"
    question: str
    form: OutputForm

    def checked(self) -> FormedQuestion:
        """Itself.

        Raises:
            InvalidValue: its form is none.
        """
        _ = self._checker
        return self

    def read(self, text: str, *, finished: bool = True) -> FoundAnswer:
        """The JSON in what was said."""
        final = read_answer(text, TEXT, finished=finished).text
        found = json_in(final)
        source: Source = "none" if found is None else "json"
        return FoundAnswer(answer=found, source=source, text=final, complete=finished)

    def verify(self, answer: str) -> Verdict | None:
        """Whether JSON fits the schema."""
        problem = self._checker.problem(answer)
        return Verdict(ok=problem is None, reason=problem or "it fits the schema")

    def canonical(self, answer: str) -> str | None:
        fits = self._checker.problem(answer) is None
        return canonical_json(json.loads(answer)) if fits else None

    @cached_property
    def _checker(self) -> SchemaChecker:
        return SchemaChecker(self.form)


@dataclass(frozen=True, kw_only=True)
class ToolQuestion(FreeForm):
    """A question that may be answered by calls of tools.

    Calls vote by their names and arguments, whatever else is said beside them; those whose
    arguments don't fit the parameters of their tools abstain.
    """

    offer: ToolOffer

    def canonical(self, answer: str) -> str | None:
        if answer.startswith("[{"):
            with suppress(ValueError, TypeError, KeyError):
                calls = json.loads(answer)
                if all(call["name"] in self.offer.names for call in calls):
                    return answer if all(map(self._fits, calls)) else None
        return super().canonical(answer)

    def _fits(self, call: Mapping[str, Any]) -> bool:
        given, checker = call["arguments"], self._checkers.get(call["name"])
        return isinstance(given, dict) and (checker is None or checker.mistake(given) is None)

    @cached_property
    def _checkers(self) -> dict[str, SchemaChecker]:
        """What checks each tool's arguments; a schema that is none holds nobody to anything."""
        found = {}
        for name, tool in zip(self.offer.names, self.offer.tools, strict=True):
            schema = tool["function"].get("parameters") or {}
            with suppress(InvalidValue):
                found[name] = SchemaChecker(OutputForm(schema=schema, field="tools"))
        return found


class SchemaChecker:
    """Says whether JSON fits a form's schema."""

    def __init__(self, form: OutputForm) -> None:
        """Take a schema.

        Raises:
            InvalidValue: it is none.
        """
        with importing("serve", "a JSON schema"):
            from jsonschema import exceptions, validators
        schema: Any = form.schema
        kind = validators.validator_for(schema, default=validators.Draft202012Validator)
        try:
            kind.check_schema(schema)
        except exceptions.SchemaError as error:
            raise InvalidValue(
                f"{form.field}: the schema is none ({error.message[:120]}); mend it"
            ) from error
        self._validator = kind(schema)

    def problem(self, text: str) -> str | None:
        """What is wrong with a text; None where it is JSON that fits."""
        try:
            value = json.loads(text)
        except ValueError as error:
            return f"it is no JSON ({error})"
        return self.mistake(value)

    def mistake(self, value: Any) -> str | None:
        """What is wrong with a value; None where it fits."""
        try:
            found = next(self._validator.iter_errors(value), None)
        except Exception as error:  # references that lead nowhere, and endless ones
            return f"the schema can't be followed ({type(error).__name__})"
        return None if found is None else f"{found.json_path}: {found.message}"[:300]


def canonical_json(value: Any) -> str:
    """JSON without spaces and without an order of keys; 1.0 is 1."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def json_in(text: str) -> str | None:
    """The JSON that a text is, or that stands in it, perhaps within a fence."""
    decoder = json.JSONDecoder()
    whole = text.strip()
    starts = [0, *(at for at, sign in enumerate(whole) if sign in "{[")][:200]
    for start in starts:
        try:
            _, end = decoder.raw_decode(whole, start)
        except (ValueError, RecursionError):
            continue
        if start or end == len(whole):
            return whole[start:end]
    return None


def merged(answers: Iterable[str], form: OutputForm) -> tuple[str, dict[str, int]] | None:
    """The object whose every field has most votes among objects, and the least votes of a field.

    Returns None where there is no object, or what is put together does not fit the schema.
    """
    objects = [value for value in map(json.loads, answers) if isinstance(value, dict)]
    if not objects:
        return None
    present = Counter(key for one in objects for key in one)
    chosen: dict[str, Any] = {}
    votes: dict[str, int] = {}
    for key, count in present.items():
        if 2 * count >= len(objects):
            chosen[key], votes[key] = _majority([one[key] for one in objects if key in one])
    return None if SchemaChecker(form).mistake(chosen) else (json.dumps(chosen), votes)


def _majority(values: list[Any]) -> tuple[Any, int]:
    keys = [canonical_json(value) for value in values]
    key, count = Counter(keys).most_common(1)[0]
    return values[keys.index(key)], count


def instruction(form: OutputForm) -> str:
    """What a model is told that nothing holds to a form."""
    return (
        "Answer with JSON alone, without any words around it, that fits this JSON schema:\n"
        + json.dumps(form.schema, ensure_ascii=False)
    )
