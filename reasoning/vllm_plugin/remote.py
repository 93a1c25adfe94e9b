"""A served vLLM with the plugin, over HTTP: threads see, join and follow each other's segments."""

from __future__ import annotations

from typing import Any

from reasoning.backends.openai.client import OpenaiBackend
from reasoning.backends.openai.event_stream import Event
from reasoning.backends.openai.profile import ServerProfile
from reasoning.backends.prompted import PromptedGeneration
from reasoning.values.context import Segment
from reasoning.vllm_plugin.note import Note
from reasoning.vllm_plugin.sharing import SharedGeneration, SharedThreads


class SharedServerBackend(SharedThreads, OpenaiBackend):
    """An `OpenaiBackend` on one server whose engine runs the plugin, with prompts of token ids."""

    def __init__(self, settings: Any, profile: ServerProfile, **options: Any) -> None:
        super().__init__(settings, profile, **options)
        assert profile.plugin is not None
        self.share(profile.plugin)

    @property
    def reachable(self) -> bool:
        return bool(self.replicas.members)

    async def wake(self) -> None:
        """A server is there, or a request of its own finds out."""

    async def compute(self, prompt: list[int], note: Note) -> None:
        from openai import OpenAIError

        (replica,) = self.replicas.members
        body = {"model": self.profile.model, "prompt": prompt, "max_tokens": 1, "temperature": 0}
        body |= {"ignore_eos": True, "vllm_xargs": note.arguments()}
        try:
            await replica.client.post("/completions", body=body, cast_to=object)
        except OpenAIError:
            return  # whoever needs it is told by a request of its own

    def _body(
        self, generation: PromptedGeneration, prompt: list[int], prefix: Segment, *, stream: bool
    ) -> Event:
        assert isinstance(generation, SharedGeneration)
        body = super()._body(generation, prompt, prefix, stream=stream)
        extra = body["extra_body"]
        extra["max_tokens"] = generation.bounded(generation.gang_room)
        if generation.note is not None:
            extra["vllm_xargs"] = {**extra.get("vllm_xargs", {}), **generation.note.arguments()}
        return body
