"""A KV connector that keeps named segments and joins them: vLLM's own interface for foreign KV.

On the scheduler's side it names, keeps and releases; on a worker's it copies.  A join is a request
whose prompt is the text of several segments, one after the other, and whose leading keys and values
are copied from theirs.  Stock scheduler and kernels then go on behind it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Any

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
    SupportsHMA,
)
from vllm.v1.request import Request

from orchestrator.errors import InvalidValue
from reasoning.engine.identities import marks_all
from reasoning.vllm_plugin import front_end
from reasoning.vllm_plugin.attention.cache import Cache
from reasoning.vllm_plugin.attention.paths import identities_of, refuse_marks
from reasoning.vllm_plugin.attention.planning import plan_attention
from reasoning.vllm_plugin.checks.layouts import open_caches
from reasoning.vllm_plugin.checks.settings import is_live, refuse_caches, refuse_settings
from reasoning.vllm_plugin.checks.symbols import refuse_symbols
from reasoning.vllm_plugin.note import Note, read_note
from reasoning.vllm_plugin.scheduling.plan import KvCopy, StepPlan
from reasoning.vllm_plugin.scheduling.segments import (
    LEASE_S,
    PATIENCE_S,
    ActiveRequest,
    SegmentTable,
)

front_end.install()  # this module is read where a configuration names its class

IDLE_S = 0.0005
"""How long a step without work waits, where requests wait for each other."""


class SegmentConnector(KVConnectorBase_V1, SupportsHMA):
    """Named segments in one engine.

    ``kv_connector_extra_config`` may set ``lease_s`` and ``patience_s``.
    """

    def __init__(self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        refuse_settings(vllm_config)
        refuse_caches(kv_cache_config)
        self._block_size = kv_cache_config.kv_cache_groups[0].kv_cache_spec.block_size
        self._most_positions = vllm_config.model_config.max_model_len
        self._live = is_live(vllm_config)
        refuse_symbols("join")
        if self._live:
            refuse_symbols("live")
        self._identities = identities_of(vllm_config)
        self._marks_all = self._identities is not None and marks_all(self._identities)
        if self._marks_all and (why := refuse_marks(vllm_config, self._identities, 0)):
            raise InvalidValue(f"vllm plugin: {why}")
        self.segments: SegmentTable | None = None
        self._copies: list[KvCopy] = []
        self._failed: list[str] = []
        self._stuck: set[str] = set()
        self._finished: set[str] = set()
        self._caches: dict[str, Cache] = {}

    @property
    def requires_kv_delivery(self) -> bool:
        return False

    # The scheduler's side

    def bind_kv_cache_manager(self, kv_cache_manager: Any) -> None:
        super().bind_kv_cache_manager(kv_cache_manager)
        extra = self._kv_transfer_config.kv_connector_extra_config
        self.segments = SegmentTable(
            kv_cache_manager,
            self._block_size,
            lease_s=float(extra.get("lease_s", LEASE_S)),
            patience_s=float(extra.get("patience_s", PATIENCE_S)),
        )

    def on_new_request(self, request: Request) -> None:
        segments = self._known()
        parameters = request.sampling_params
        try:
            note = read_note(parameters.extra_args if parameters else None)
            if note is None:
                return
            segments.release(note.release)
            one = segments.arrive(request, note)
        except InvalidValue as error:
            self._refuse(request, str(error))
            return
        why = self._refusal(one)
        if why is not None:
            one.fail(why)
        if note.view is not None:
            self._separate(one)

    def _refusal(self, one: ActiveRequest) -> str | None:
        """Why this engine can't serve a request; None where it can."""
        note, request = one.note, one.request
        if note.member is not None and not self._live:
            return "member: this engine has no gangs; start it with the live scheduler"
        if note.attends and not self._live:
            return "view: this engine only copies; start it with the live scheduler"
        longest = request.num_prompt_tokens + request.max_tokens + note.offset
        if longest > self._most_positions + 1:
            return f"home: positions reach {longest} of {self._most_positions}; shorten it"
        return refuse_marks(self._vllm_config, self._identities, note.path) if note.path else None

    def _separate(self, one: ActiveRequest) -> None:
        """Keep what sees more than its own prompt out of the prefix cache that others read."""
        request = one.request
        request.cache_salt = f"reason-{uuid.uuid4().hex}"
        request.block_hashes.clear()
        request.update_block_hashes()

    def _refuse(self, request: Request, why: str) -> None:
        """Have a request fail whose note can't be served."""
        one = ActiveRequest(request=request, note=Note(), view=None, since=0.0)
        one.fail(why)
        self._known().active[one.id] = one

    def get_num_new_matched_tokens(
        self, request: Request, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        one = self._known().active.get(request.request_id)
        if one is None:
            self._stuck.add(request.request_id)
            return 0, False
        try:
            if one.failure:
                raise InvalidValue(one.failure)
            # A member comes here when its gang goes; what it sees may be fed in the same step.
            if one.note.member is None and self._known().readiness(one) == "wait":
                return None, False
        except InvalidValue as error:
            # As a load that fails: vLLM ends the request with an error, and no other one.
            if one.failure is None:
                one.fail(str(error))
            return 1, True
        self._stuck.add(one.id)
        return max(0, one.note.copied - num_computed_tokens), False

    def update_state_after_alloc(
        self, request: Request, blocks: Any, num_external_tokens: int
    ) -> None:
        self._stuck.discard(request.request_id)
        one = self._known().active.get(request.request_id)
        if one is None or not num_external_tokens:
            return
        if one.failure:
            self._failed.append(one.id)
        else:
            self._copy(one, blocks.get_block_ids()[0], one.note.copied - num_external_tokens)

    def _copy(self, one: ActiveRequest, target: list[int], first: int) -> None:
        """Plan the copies of what a join sees, from its token ``first`` on."""
        segments, at = self._known(), 0
        assert one.view is not None
        for seen in one.view.segments:
            extent, count = segments.extents[seen.name], seen.upto or 0
            skipped = min(max(first - at, 0), count)
            if skipped < count:
                start = extent.first + skipped
                source = segments.table(extent)
                self._copies.append(KvCopy(source, start, target, at + skipped, count - skipped))
            at += count

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        segments = self._known()
        scheduled = scheduler_output.num_scheduled_tokens
        known = segments.active
        active = [one for id in scheduled if (one := known.get(id)) is not None] if known else []
        plan = StepPlan(
            offsets={one.id: one.note.offset for one in active if one.note.offset},
            copies=self._copies,
            failed=self._failed,
            paths=self._marked(scheduled, active),
        )
        if any(one.note.attends for one in active):
            plan_attention(plan, segments, active, scheduled)
        if not scheduled:
            self._wait()
        self._copies, self._failed, self._stuck = [], [], set()
        segments.expire()
        return plan

    def _marked(self, scheduled: Iterable[str], active: Iterable[ActiveRequest]) -> dict[str, int]:
        """The identity of each request of a step whose tokens are marked."""
        if self._identities is None:
            return {}
        found = {one.id: one.note.path for one in active if one.note.path}
        return dict.fromkeys(scheduled, 0) | found if self._marks_all else found

    def _wait(self) -> None:
        segments = self._known()
        if self._stuck:
            segments.make_room()
        elif segments.active and not self._failed:
            time.sleep(IDLE_S)

    def request_finished_all_groups(
        self, request: Request, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        self._known().finish(request.request_id)
        return False, None

    def _known(self) -> SegmentTable:
        assert self.segments is not None, "the scheduler binds its cache manager first"
        return self.segments

    # A worker's side

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        self._caches = open_caches(self._vllm_config, kv_caches)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        plan = self._get_connector_metadata()
        assert isinstance(plan, StepPlan)
        for copy in plan.copies:
            for cache in self._caches.values():
                cache.copy(*copy)
        self._finished.update(plan.failed)

    def get_transfer_results(self, finished_req_ids: set[str]) -> Any:
        results = super().get_transfer_results(finished_req_ids)
        results.finished_recving |= self._finished
        results.failed_recving |= self._finished
        self._finished = set()
        return results

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Copies are done before the step."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Segments stay where they are."""

    def wait_for_save(self) -> None:
        """Nothing is saved elsewhere; the step is over, and must have been what was planned.

        Raises:
            InvalidValue: the worker, which may be another's, has left something out.
        """
        plan = self._get_connector_metadata()
        assert isinstance(plan, StepPlan)
        omitted = plan.omitted()
        if omitted:
            raise InvalidValue(f"vllm plugin: {omitted}; this runner is not served, use another")
