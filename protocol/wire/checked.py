"""Models whose fields are checked when they are made, with errors that name the field."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.errors import InvalidValue

PLAIN = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""No control characters, which a terminal would obey."""


def first_problem(error: ValidationError) -> str:
    """The first problem of a validation, as ``field: what is wrong``."""
    found = error.errors(include_url=False, include_input=False)[0]
    place, said = ".".join(str(part) for part in found["loc"]), found["msg"][:500]
    if found.get("ctx", {}).get("pattern") == PLAIN:
        said = "it has a control character, such as a line break or a tab; leave that out"
    return f"{place[:200]}: {said}" if place else said


class CheckedModel(BaseModel):
    """Frozen options: an unknown field, or a value of another type, is an `InvalidValue`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True
    )

    def __init__(self, **given: Any) -> None:
        """Check the fields.

        Raises:
            InvalidValue: one is unknown, missing, or has a value that can't be used.
        """
        try:
            super().__init__(**given)
        except ValidationError as error:
            kind = type(self)
            problem = f"{kind.__name__}: {first_problem(error)}"
            for name in given.keys() - kind.model_fields.keys():
                near = get_close_matches(name, kind.model_fields, 1) or kind.model_fields
                problem = f"{kind.__name__}: {name} is no field; give {', '.join(near)}"
            raise InvalidValue(problem) from None
