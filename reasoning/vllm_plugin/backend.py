"""The vLLM backend with the plugin: threads see, join and follow each other's segments."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from orchestrator.errors import InvalidValue, ReasonError
from reasoning.backends.prompted import PromptedGeneration
from reasoning.backends.vllm.backend import VllmBackend, first_line
from reasoning.backends.vllm.settings import VllmSettings
from reasoning.engine.config import ModelConfig
from reasoning.errors import BackendLost
from reasoning.vllm_plugin import Mode, engine_arguments
from reasoning.vllm_plugin.note import KEY, Note
from reasoning.vllm_plugin.sharing import SharedGeneration, SharedThreads


def refuse_engine(settings: VllmSettings, mode: Mode) -> None:
    """Refuse by their names what settings ask for that the plugin can't do, before vLLM is read.

    Raises:
        InvalidValue: they do; vLLM's own configuration is checked again when it is complete.
    """
    low = settings.dtype in ("bfloat16", "float16")
    for wrong, why in (
        (settings.data_parallel > 1, "data_parallel does not go with the plugin; leave one out"),
        (settings.pipeline_parallel > 1, "pipeline_parallel does not go with the plugin"),
        (settings.speculative is not None, "speculative decoding does not go with the plugin"),
        (
            mode == "live" and low and not _has_gpu(),
            f"plugin=live on a CPU needs dtype=float32, not {settings.dtype}",
        ),
    ):
        if wrong:
            raise InvalidValue(f"engine: {why}")


def _has_gpu() -> bool:
    """Whether there is a GPU; torch takes seconds to be asked, and its build may say it already."""
    if metadata.version("torch").endswith("+cpu"):
        return False
    from torch import cuda

    return cuda.is_available()


class SharedVllmBackend(SharedThreads, VllmBackend):
    """A `VllmBackend` whose engine runs the plugin, by default with its live half."""

    def __init__(
        self, folder: Path, config: ModelConfig, settings: VllmSettings | None = None
    ) -> None:
        super().__init__(folder, config, settings)
        mode: Mode = self.settings.plugin or "live"
        refuse_engine(self.settings, mode)
        self.share(mode)

    def engine_arguments(self) -> dict[str, Any]:
        return super().engine_arguments() | engine_arguments(self.half)

    def _start(self) -> None:
        super()._start()
        self.share(self.half)  # a new engine holds nothing

    @property
    def reachable(self) -> bool:
        return self._llm is not None

    async def wake(self) -> None:
        await self.engine()

    def refused(self, error: Exception) -> ReasonError:
        if f"vllm_xargs.{KEY}" in str(error):  # it lacks what others were to write
            return BackendLost(f"vLLM's plugin refuses the request: {first_line(error)}")
        return super().refused(error)

    def sampling_parameters(self, generation: PromptedGeneration, prompt: int) -> Any:
        assert isinstance(generation, SharedGeneration)
        return super().sampling_parameters(generation, generation.limit - generation.gang_room)

    def extra_args(self, generation: PromptedGeneration) -> dict[str, Any] | None:
        assert isinstance(generation, SharedGeneration)
        return generation.note.arguments() if generation.note else None

    async def compute(self, prompt: list[int], note: Note) -> None:
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        parameters = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            ignore_eos=True,
            detokenize=False,
            extra_args=note.arguments(),
        )
        try:
            llm = await self.engine()
            tokens = {"type": "token", "prompt_token_ids": prompt}
            collector = await llm.add_request(f"{next(self._ids)}", tokens, parameters)
            while not (collector.get_nowait() or await collector.get()).finished:
                pass
        except (EngineDeadError, VLLMClientError, BackendLost):
            return  # whoever needs it is told by a request of its own
