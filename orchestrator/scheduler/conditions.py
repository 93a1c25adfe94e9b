"""Under which condition a task runs after another has ended, as plain text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from orchestrator.errors import InvalidValue, importing
from orchestrator.views.record import TaskState

if TYPE_CHECKING:
    import cel
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import core_schema

VARIABLES = ("result", "state", "error")
LONGEST = 2000
MOST_LOOPS = 2
"""Comprehensions in one expression; nested, each multiplies its time by a list's length."""

_LOOP = re.compile(r"\.\s*(?:all|exists|exists_one|filter|map)\s*\(\s*(\w*)")
_TYPES = {"bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"}


class Condition:
    """``"success"``, ``"completion"``, ``"always"``, or an expression over how a task ended.

    *Success* holds if the task succeeded, *completion* if it succeeded or failed, *always* also
    if it was skipped or cancelled.  Any other text is an expression of the Common Expression
    Language over ``result`` (the task's value as JSON), ``state`` and ``error`` (its message, or
    null), such as ``"result.score > 0.5"``.  One that mentions only the result is false unless the
    task succeeded.  Being text, a condition means the same after it was written as JSON.
    """

    __slots__ = ("_program", "_result_only", "text")

    def __init__(self, text: str, program: cel.Program | None = None) -> None:
        self.text = text
        self._program = program
        self._result_only = program is None or not {"state", "error"} & set(program.variables())

    @staticmethod
    def parse(text: str) -> Condition:
        """The condition that a text means.

        Raises:
            InvalidValue: it is none; the message says where it is wrong.
            ExtraMissing: it is an expression, and what evaluates those is not installed.
        """
        return _NAMED.get(text) or _parse(text)

    def holds(self, state: TaskState, result: Any, error: str | None) -> bool:
        """Whether a task's end satisfies the condition.

        Raises:
            InvalidValue: the expression can't be evaluated, or gives no boolean.
        """
        if self._program is None:
            return state in _STATES[self.text]
        if self._result_only and state != "succeeded":
            return False
        import pydantic_core  # slow to import, and needed for expressions alone

        try:
            value = pydantic_core.to_jsonable_python(result)
            found = self._program.execute({"result": value, "state": state, "error": error})
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as problem:
            raise self._refused(_first_line(problem)) from problem
        if not isinstance(found, bool):
            raise self._refused(f"it gives {type(found).__name__}, not true or false")
        return found

    def _refused(self, why: str) -> InvalidValue:
        return InvalidValue(f"the condition {self.text!r} can't be decided: {why}; mend it")

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Condition.parse({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        from pydantic_core import core_schema

        def read(value: Any) -> Condition:
            if isinstance(value, Condition):
                return value
            if not isinstance(value, str):
                raise ValueError("a condition is a text")
            try:
                return cls.parse(value)
            except InvalidValue as error:
                raise ValueError(str(error)) from error

        return core_schema.no_info_plain_validator_function(
            read, serialization=core_schema.to_string_ser_schema()
        )


SUCCESS, COMPLETION, ALWAYS = Condition("success"), Condition("completion"), Condition("always")
_NAMED = {condition.text: condition for condition in (SUCCESS, COMPLETION, ALWAYS)}
_STATES: dict[str, frozenset[str]] = {
    "success": frozenset({"succeeded"}),
    "completion": frozenset({"succeeded", "failed"}),
    "always": frozenset({"succeeded", "failed", "skipped", "cancelled"}),
}


@lru_cache(maxsize=1024)
def _parse(text: str) -> Condition:
    with importing("conditions", f"the condition {text[:80]!r}"):
        import cel  # takes longer to import than the rest of this package

    if not text.strip() or len(text) > LONGEST:
        raise InvalidValue(
            f"a condition has {len(text)} characters; give 1 to {LONGEST}: "
            "success, completion, always or an expression"
        )
    loops = _LOOP.findall(text)
    if len(loops) > MOST_LOOPS:
        raise InvalidValue(
            f"the condition {text!r} has more than {MOST_LOOPS} loops; compute it in a task"
        )
    try:
        program = cel.compile(text)
    except ValueError as error:
        raise InvalidValue(f"the condition {text!r} is no expression: {_where(error)}") from error
    unknown = sorted(set(program.variables()) - {*VARIABLES, *_TYPES, *loops})
    if unknown:
        raise InvalidValue(
            f"the condition {text!r} names {unknown[0]!r}; it can use {', '.join(VARIABLES)}"
        )
    return Condition(text, program)


def _where(error: Exception) -> str:
    match = re.search(r"ERROR: <input>:(.*)", str(error))
    return f"{match[1]} (line:column)" if match else _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].split(". ")[0]
