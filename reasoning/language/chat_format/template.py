"""Chat templates, as Hugging Face models have them: Jinja in a sandbox, with a few more names.

What is offered to a template follows transformers' ``apply_chat_template``, which costs seconds to
import; a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from orchestrator.errors import InvalidValue
from reasoning.errors import ModelUnusable

THOUGHTS = ("reasoning_content", "thinking", "reasoning")
"""Names under which a message's thoughts are passed; the first is what templates read."""


class ChatTemplate:
    """A model's template, compiled when it is first used.

    Attributes:
        source: In Jinja.
        constants: What it is always given, such as ``bos_token``.
    """

    def __init__(self, source: str, constants: Mapping[str, str]) -> None:
        self.source = source
        self.constants = constants

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Any = None, **variables: Any
    ) -> str:
        """Messages in the template's words, up to where the model answers.

        Raises:
            InvalidValue: the template refuses the messages, and in which words.
            ModelUnusable: it is no template.
        """
        from jinja2 import TemplateSyntaxError
        from jinja2.exceptions import TemplateError

        told = {**self.constants, "documents": None, **variables}
        try:
            rendered: str = _compiled(self.source).render(
                messages=list(map(_plain, messages)),
                tools=tools or None,
                add_generation_prompt=True,
                **told,
            )
        except TemplateSyntaxError as error:
            raise ModelUnusable(
                f"the chat template can't be read ({error}); download the model again"
            ) from error
        except (TemplateError, TypeError, ValueError) as error:
            raise InvalidValue(
                f"messages: the model's chat template refuses them ({error}); ask otherwise"
            ) from error
        return rendered


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as templates expect it: without empty fields, arguments of calls as values."""
    found = {name: value for name, value in message.items() if value is not None}
    thoughts = next((found[name] for name in THOUGHTS if name in found), None)
    if thoughts is not None:
        found = {"thinking": thoughts, **found, THOUGHTS[0]: thoughts}
    if isinstance(found.get("tool_calls"), list):
        found["tool_calls"] = list(map(_with_values, found["tool_calls"]))
    return found


def _with_values(call: Any) -> Any:
    """A call whose arguments are a value and no longer JSON text, which a template would quote."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}


@cache
def _compiled(source: str) -> Any:
    """A template, in a sandbox without access to anything but what it is given."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_generation_tag(), loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(source)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON that stays as it is, where Jinja's own would escape it for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> None:
    from jinja2.exceptions import TemplateError

    raise TemplateError(message)


def _generation_tag() -> Any:
    """``{% generation %}``, which marks what a model is trained on and writes nothing itself."""
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser

    class GenerationTag(Extension):
        tags = {"generation"}  # noqa: RUF012  as Jinja has it

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return GenerationTag


def chosen(template: Any, *, tools: bool) -> str | None:
    """One of a model's templates; None where it has none.

    Args:
        template: A source, or several by name.
        tools: Whether one is wanted that knows of tools.
    """
    if not isinstance(template, Mapping):
        return template or None
    names = ("tool_use", "default") if tools else ("default",)
    return next((template[name] for name in names if name in template), None)
