"""What a worker can be asked to call, by name: no code crosses the wire, only names and values."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

import pydantic_core
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    create_model,
)

from orchestrator.errors import InvalidValue
from protocol.errors import RemoteFailure
from protocol.wire.checked import first_problem
from protocol.wire.messages import Offer

F = TypeVar("F", bound=Callable[..., Any])

_DOUBTFUL = ("null", "NaN", "Infinity")

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Callee:
    """One registered function: what it takes and gives, as its annotations say."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        """Look at a function.

        Raises:
            InvalidValue: a parameter or the result has no annotation that JSON could be checked
                against.
        """
        self.name = name
        self.function = function
        try:
            hints = get_type_hints(function)
            self._model = _arguments(name, function, hints)
            self._returns: TypeAdapter[Any] = TypeAdapter(hints["return"])
            self.offer = Offer(
                name=name,
                description=inspect.getdoc(function) or "",
                parameters=json.dumps(self._model.model_json_schema()),
                result=json.dumps(self._returns.json_schema(mode="serialization")),
            )
        except (KeyError, NameError, TypeError, PydanticUserError) as error:
            raise InvalidValue(
                f"{name} can't be registered ({error}); annotate each parameter and the result "
                "with types that JSON can hold"
            ) from error

    def arguments(self, text: str) -> dict[str, Any]:
        """The arguments from JSON.

        Raises:
            RemoteFailure: they do not fit the parameters.
        """
        try:
            model = self._model.model_validate_json(text, strict=True)
        except ValidationError as error:
            problem = f"{self.name}: {first_problem(error)}; see its parameters"
            raise RemoteFailure("bad-arguments", "", problem) from error
        return {name: getattr(model, field) for field, name in self._names.items()}

    def result(self, value: Any) -> str:
        """The result as JSON.

        Raises:
            RemoteFailure: it is not what the annotation says.
        """
        try:
            text = self._returns.dump_json(value, warnings="error").decode()
            if any(word in text for word in _DOUBTFUL):  # pydantic writes null for NaN
                json.dumps(self._returns.dump_python(value, mode="json"), allow_nan=False)
            return text
        except (pydantic_core.PydanticSerializationError, ValueError) as error:
            raise RemoteFailure(
                "failed",
                type(error).__name__,
                f"{self.name} returned a {type(value).__name__}, "
                "which its annotation does not cover, or JSON (NaN, infinities); correct one",
            ) from error

    @property
    def _names(self) -> Mapping[str, str]:
        return {field: info.alias or field for field, info in self._model.model_fields.items()}


def _arguments(
    name: str, function: Callable[..., Any], hints: Mapping[str, Any]
) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for number, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.kind not in _NAMED:
            raise TypeError(f"parameter {parameter.name} can't be given by name")
        default = ... if parameter.default is parameter.empty else parameter.default
        # names that pydantic keeps for itself are no names of fields
        fields[f"a{number}"] = (hints[parameter.name], Field(default, alias=parameter.name))
    config = ConfigDict(extra="forbid")
    return create_model(name.rpartition(":")[2].replace(".", "_"), __config__=config, **fields)


class Registry:
    """Functions and tools by name::

        registry = Registry()

        @registry.function
        def double(number: int) -> int:
            return 2 * number

    A function's name is ``module:qualified_name`` unless another is given; a tool's is its bare
    name, under which language models call it.
    """

    def __init__(self) -> None:
        self.functions: dict[str, Callee] = {}
        self.tools: dict[str, Callee] = {}

    def function(self, function: F, *, name: str | None = None) -> F:
        """Register a function; returns it unchanged.

        Raises:
            InvalidValue: it has no usable annotations, or the name is taken.
        """
        return self._add(self.functions, function, name or function_name(function))

    def tool(self, function: F, *, name: str | None = None) -> F:
        """Register a tool; returns it unchanged.

        Raises:
            InvalidValue: it has no usable annotations, or the name is taken.
        """
        return self._add(self.tools, function, name or str(getattr(function, "__name__", "")))

    def include(self, other: Registry) -> None:
        """Register all that another registry has."""
        for mine, theirs in ((self.functions, other.functions), (self.tools, other.tools)):
            for callee in theirs.values():
                self._add(mine, callee.function, callee.name)

    def _add(self, found: dict[str, Callee], function: F, name: str) -> F:
        if name in found and found[name].function is not function:
            raise InvalidValue(f"{name} is registered twice; give one of them another name")
        found[name] = Callee(name, function)
        return function


def function_name(function: Callable[..., Any]) -> str:
    """The name under which a function is registered by default.

    Raises:
        InvalidValue: it has none that another process could know.
    """
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if not module or not name or "<" in name:
        raise InvalidValue(
            f"{function!r} has no name that a worker could know; give a function of a module"
        )
    return f"{module}:{name}"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def bind(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The arguments of a call, as the JSON that `Callee.arguments` reads.

    Raises:
        InvalidValue: they do not fit the function, or JSON.
    """
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
        text = pydantic_core.to_json(bound.arguments).decode()
        if any(word in text for word in _DOUBTFUL):
            json.loads(text, parse_constant=_refuse)
        return text
    except (TypeError, ValueError, pydantic_core.PydanticSerializationError) as error:
        name = getattr(function, "__qualname__", repr(function))
        raise InvalidValue(
            f"the arguments of {name} can't be sent ({error}); give JSON values, dataclasses or "
            "pydantic models that fit its parameters"
        ) from error
