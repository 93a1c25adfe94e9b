"""The plugin in vLLM's front end: mistakes are told before anything is started or queued.

It is installed where a configuration names the plugin's connector, and there it wraps three methods
of vLLM: where an engine's settings are complete, where a request comes in, and where its end goes
out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache, wraps
from pathlib import Path
from typing import Any

from orchestrator.errors import InvalidValue
from reasoning.vllm_plugin import Mode
from reasoning.vllm_plugin.checks.settings import is_chosen, is_live, refuse_settings
from reasoning.vllm_plugin.checks.symbols import refuse_symbols
from reasoning.vllm_plugin.note import FAILURE, HALF, KEY, read_note


@cache
def install() -> None:
    """Wrap vLLM's front end in this process, once.

    Raises:
        InvalidValue: the methods are not as expected.
    """
    from vllm.v1.engine.input_processor import InputProcessor
    from vllm.v1.engine.output_processor import OutputProcessor
    from vllm.v1.executor.abstract import Executor

    refuse_symbols("front end")
    Executor.get_class = staticmethod(_checking_settings(Executor.get_class))
    InputProcessor.process_inputs = _checking_notes(InputProcessor.process_inputs)
    OutputProcessor.process_outputs = _telling_failures(OutputProcessor.process_outputs)


def _checking_settings(stock: Any) -> Any:
    @wraps(stock)
    def get_class(vllm_config: Any) -> Any:
        if is_chosen(vllm_config):
            try:
                refuse_settings(vllm_config)
            except InvalidValue as error:
                if _is_command():
                    raise SystemExit(f"error: {error}") from None
                raise
        return stock(vllm_config)

    return get_class


def _is_command() -> bool:
    """Whether this process is vLLM's own command, which would show a traceback."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return Path(sys.argv[0]).stem == "vllm" or (spec is not None and spec.name.startswith("vllm."))


def _checking_notes(stock: Any) -> Any:
    @wraps(stock)
    def process_inputs(self: Any, *args: Any, **options: Any) -> Any:
        if is_chosen(self.vllm_config):
            half: Mode = "live" if is_live(self.vllm_config) else "join"
            _refuse_note(options["params"] if "params" in options else args[2], half)
        return stock(self, *args, **options)

    return process_inputs


def _refuse_note(params: Any, half: Mode) -> None:
    from vllm.exceptions import VLLMValidationError

    try:
        note = read_note(getattr(params, "extra_args", None))
        if note is not None and getattr(params, "n", 1) > 1:
            raise InvalidValue(f"n: {params.n} answers can't share a note; send several requests")
    except InvalidValue as error:
        why = f"{error} ({HALF} {half})"
        raise VLLMValidationError(why, parameter=f"vllm_xargs.{KEY}") from error


def _telling_failures(stock: Any) -> Any:
    @wraps(stock)
    def process_outputs(self: Any, engine_core_outputs: Sequence[Any], *a: Any, **k: Any) -> Any:
        failed = [
            (self.request_states.get(one.request_id), one.trace_headers[FAILURE])
            for one in engine_core_outputs
            if one.trace_headers and FAILURE in one.trace_headers
        ]
        processed = stock(self, engine_core_outputs, *a, **k)
        for state, why in failed:
            if state is not None and state.queue is not None:
                state.queue.put(_refusal(why))
        return processed

    return process_outputs


def _refusal(why: str) -> Exception:
    from vllm.exceptions import VLLMValidationError

    refusal: Exception = VLLMValidationError(why, parameter=f"vllm_xargs.{KEY}")
    return refusal
