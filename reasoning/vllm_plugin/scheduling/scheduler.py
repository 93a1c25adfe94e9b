"""vLLM's scheduler with gangs: their requests are fed in the same steps, or not at all.

A gang enters when all of its members are there and room for the most that they may write is free;
that room is taken at once, so that no member ever has to wait for a block or is pre-empted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from orchestrator.errors import InvalidValue
from reasoning.vllm_plugin.connector import SegmentConnector
from reasoning.vllm_plugin.scheduling.gangs import RequestGang, RequestGangs
from reasoning.vllm_plugin.scheduling.segments import ActiveRequest

UNFAIR_S = 0.2
"""A gang that has waited so long for room is let in before any other request."""


@dataclass
class _Room:
    """Room in a step: blocks of the cache, places among the running, and tokens to be fed."""

    blocks: int = 0
    seats: int = 0
    tokens: int = 0

    def add(self, more: _Room) -> None:
        self.blocks += more.blocks
        self.seats += more.seats
        self.tokens += more.tokens


class GangScheduler(Scheduler):
    """First come, first served, but for the gangs of a `SegmentConnector`'s requests."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if not isinstance(self.connector, SegmentConnector) or self.connector.segments is None:
            raise InvalidValue("vllm plugin: the gang scheduler needs its connector; configure it")
        self._known = self.connector.segments
        self._gangs = RequestGangs()
        self._cleared: set[str] = set()
        self._closed = False
        self._taken = _Room()  # what gangs that enter in this step have taken
        self._allocate = self.kv_cache_manager.allocate_slots

    def _member(self, request: Request) -> ActiveRequest | None:
        one = self._known.active.get(request.request_id)
        return one if one is not None and one.note.member is not None else None

    def add_request(self, request: Request) -> None:
        super().add_request(request)
        one = self._known.active.get(request.request_id)
        if one is None:
            return
        for gang, member in one.note.leave:
            self._gangs.leave(gang, member)
        if one.note.member is not None and one.failure is None:
            try:
                self._gangs.arrive(one)
            except InvalidValue as error:
                self._fail(one, str(error))

    def _fail(self, one: ActiveRequest, why: str) -> None:
        """End a request with an error, after this step; vLLM does so for a set of its own."""
        one.fail(why)
        self.encoder_cache_mismatch_reqs.add(one.id)

    def _free_request(self, request: Request, *args: Any, **options: Any) -> Any:
        one = self._member(request)
        if one is not None and one.note.member is not None:
            itself = (RequestStatus.FINISHED_STOPPED, RequestStatus.FINISHED_LENGTH_CAPPED)
            self._gangs.finish(one, pauses=one.note.member.pauses and request.status in itself)
        return super()._free_request(request, *args, **options)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        self._cleared = set()
        self._closed = False
        if not self._gangs:
            return super().schedule(throttle_prefills)
        self._taken = _Room()
        for gang in self._gangs:
            self._clear(gang)
        self.running.sort(key=lambda request: self._member(request) is None)
        self.kv_cache_manager.allocate_slots = self._allocate_all
        try:
            output = super().schedule(throttle_prefills)
        finally:
            del self.kv_cache_manager.allocate_slots
        for gang in self._gangs:
            self._check(gang, output)
        return output

    def _clear(self, gang: RequestGang) -> None:
        """Let a gang's requests into the coming step, or hold all of them back."""
        why = "its members have not all come, or one has stopped and has no successor"
        if gang.complete and all(one.failure is None for one in gang.requests):
            why = self._obstacle(gang)
        if not why:
            gang.since = None
            self._cleared |= {one.id for one in gang.requests}
            self._let_in(gang)
            return
        for one in gang.requests:
            one.request.next_decode_eligible_step = self.current_step + 2
        if self._gangs.waited(gang) > self._known.patience_s:
            for one in gang.requests:
                self._fail(one, f"gang {gang.name!r}: {why}; given up")
            self._gangs.forget(gang)

    def _obstacle(self, gang: RequestGang) -> str:
        """What keeps a complete gang from advancing; empty if nothing does."""
        why = self._unready(gang)
        entering = [one for one in gang.requests if one.request.status != RequestStatus.RUNNING]
        if why or not entering:
            return why
        needed = _Room(
            blocks=sum(self._most_blocks(one.request) for one in entering),
            seats=len(entering),
            tokens=sum(r.request.num_tokens - r.request.num_computed_tokens for r in gang.requests),
        )
        if self._never_fits(gang, needed):
            why = (
                f"gang {gang.name!r} needs {needed.blocks} blocks, {needed.tokens} tokens in a "
                f"step and {len(gang.requests)} seats, more than there ever are; give its members "
                "less"
            )
            for one in entering:
                self._fail(one, why)
            return why
        return self._enter(gang, needed)

    def _unready(self, gang: RequestGang) -> str:
        """Which segments a gang lacks; a request that will never have them fails."""
        feeding = {one.id for one in gang.requests}
        for one in gang.requests:
            try:
                if self._known.readiness(one, feeding) == "wait":
                    return "it waits for segments"
            except InvalidValue as error:
                self._fail(one, str(error))
                return str(error)
        return ""

    def _never_fits(self, gang: RequestGang, needed: _Room) -> bool:
        """Whether a gang needs more than an empty engine has."""
        return bool(
            needed.tokens + self.max_num_running_reqs > self.max_num_scheduled_tokens
            or len(gang.requests) > self.max_num_running_reqs
            or needed.blocks >= self.kv_cache_manager.block_pool.num_gpu_blocks
        )

    def _enter(self, gang: RequestGang, needed: _Room) -> str:
        """Take the room that a gang needs; returns what is missing, and takes nothing then."""
        spare = self._spare()
        if (
            needed.blocks > spare.blocks
            or needed.seats > spare.seats
            or needed.tokens > spare.tokens
        ):
            if self._gangs.waited(gang) > UNFAIR_S:
                self._closed = True
            if needed.blocks > spare.blocks and not self.running:
                self._known.make_room()
            return f"there is no room for {needed.blocks} blocks and {needed.seats} requests"
        self._taken.add(needed)
        return ""

    def _spare(self) -> _Room:
        """The room that is left in this step, after what ordinary requests will ask for."""
        others = [r for r in self.running if self._member(r) is None]
        wanted = sum(1 + (r.num_tokens - r.num_computed_tokens) // self.block_size for r in others)
        manager, taken = self.kv_cache_manager, self._taken
        free = manager.block_pool.get_num_free_blocks() - manager.watermark_blocks
        return _Room(
            blocks=free - wanted - taken.blocks,
            seats=self.max_num_active_reqs - len(self.running) - taken.seats,
            tokens=self.max_num_scheduled_tokens - self.max_num_running_reqs - taken.tokens,
        )

    def _most_blocks(self, request: Request) -> int:
        tokens: int = min(request.num_prompt_tokens + request.max_tokens, self.max_model_len)
        return -(-tokens // int(self.block_size))

    def _let_in(self, gang: RequestGang) -> None:
        """Put a gang's new requests first in the queue, with enough tokens left for them."""
        entering = [one.request for one in gang.requests if one.request in self.waiting]
        if not entering:
            return
        self.waiting.remove_requests(entering)
        for request in reversed(entering):
            self.waiting.prepend_request(request)
        for request in self.running:  # long prompts of others wait for a step
            if self._member(request) is None and request.is_prefill_chunk:
                request.next_decode_eligible_step = self.current_step + 2

    def _handle_blocked_waiting_request(self, request: Request) -> bool:
        one = self._member(request)
        if one is not None and one.failure is None and one.id not in self._cleared:
            return False
        if one is None and self._closed:
            return False
        return bool(super()._handle_blocked_waiting_request(request))

    def _allocate_all(self, request: Request, num_new_tokens: int, **options: Any) -> Any:
        """Give a member at once all blocks that it may ever need."""
        if request.num_computed_tokens == 0 and self._member(request) is not None:
            options["num_lookahead_tokens"] = request.max_tokens
        return self._allocate(request, num_new_tokens, **options)

    def _check(self, gang: RequestGang, output: SchedulerOutput) -> None:
        """Fail a gang whose requests were not fed all together, rather than go on wrongly."""
        for one in gang.requests:
            fed = output.num_scheduled_tokens.get(one.id, 0)
            missing = one.request.num_tokens - one.request.num_computed_tokens
            if one.id in self._cleared and (fed == 0 or missing > 0):
                for other in gang.requests:
                    self._fail(other, f"gang {gang.name!r} lost its lock step")
                return
        gang.started = gang.started or any(one.id in self._cleared for one in gang.requests)

    def _request_blocks_can_be_freed(self, request: Request) -> bool:
        running = request.status == RequestStatus.RUNNING and self._member(request) is not None
        return not running and bool(super()._request_blocks_can_be_freed(request))

    def _preempt_request(self, request: Request, *args: Any, **options: Any) -> None:
        one = self._member(request)
        if one is not None:  # what it saw as it was written can't be computed again
            self._fail(one, "a member of a gang was pre-empted, as by a reset of the caches")
        super()._preempt_request(request, *args, **options)
