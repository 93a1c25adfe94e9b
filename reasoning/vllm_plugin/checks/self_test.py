"""A trial when an engine starts: a gang of two and a join on the real runner, computed otherwise.

The other computation is one forward pass of the same weights over all tokens laid out flat, whose
layers attend by plain torch to the keys that they have just made: no cache, no kernel, no plan.
Where the runner turns queries, it turns keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from orchestrator.errors import InvalidValue
from reasoning.vllm_plugin.attention.patches import PatchedMethod
from reasoning.vllm_plugin.attention.rotation import Turner
from reasoning.vllm_plugin.checks.settings import is_live
from reasoning.vllm_plugin.scheduling.plan import KvCopy, RequestAttention, StepPlan, VisibleRun

OWN = 3
"""Tokens of each member, and of what follows the join."""
TOLERANCE = {torch.float32: 1e-3}
"""How far hidden states may differ, relative to their length, by the type of the weights."""
ROUGH = 0.06
"""The same for types that round more."""


Fed = tuple[str, list[int], list[int], int]
"""A request of a step: its name, its tokens, its blocks, and where to begin."""


class SelfTest:
    """The trial's texts: a prompt, two members or branches behind it, and what follows their join.

    Attributes:
        turn: How many positions further off a member sees the prompt and its partner.
    """

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._config = runner.vllm_config
        self._block = int(self._config.cache_config.block_size)
        self._left: set[str] = set()
        self._live = is_live(self._config)
        self._layers = dict(_layers(self._config))
        most = self._config.scheduler_config.max_num_batched_tokens - 3 * OWN
        room = self._config.model_config.max_model_len - 3 * OWN
        self.prompt = min(self._block + 2, most, room)  # which ends in the middle of a block
        self.turn = OWN if self._live else 0
        vocabulary = self._config.model_config.get_vocab_size()
        ends = self.prompt, OWN, OWN, OWN
        tokens = [(7 * index + 3) % min(vocabulary, 997) for index in range(sum(ends))]
        self.texts = [tokens[sum(ends[:at]) : sum(ends[: at + 1])] for at in range(4)]

    def run(self) -> float:
        """The worst relative difference between the hidden states of both computations."""
        with torch.inference_mode():
            wanted, found = self._flat(), self._stepped()
            difference = (found.double() - wanted.double()).norm(dim=-1)
            return float((difference / wanted.double().norm(dim=-1)).max())

    # On the runner

    def _stepped(self) -> Tensor:
        prompt, first, second, own = self.texts
        tables = [self._blocks(0), self._blocks(1), self._blocks(2), self._blocks(3)]
        found = [self._step([("p", prompt, tables[0], 0)], StepPlan())]
        if self._live:
            members = [("a", first, tables[1], 0), ("b", second, tables[2], 0)]
            found.append(self._step(members, self._gang(tables)))
        else:
            for name, text, table in ("a", first, tables[1]), ("b", second, tables[2]):
                found.append(self._step([(name, prompt + text, table, 0)], StepPlan())[-OWN:])
        start = 0 if self._live else self.prompt
        copies = [
            KvCopy(tables[0], 0, tables[3], 0, self.prompt),
            KvCopy(tables[1], start, tables[3], self.prompt, OWN),
            KvCopy(tables[2], start, tables[3], self.prompt + OWN, OWN),
        ]
        joined = prompt + first + second
        plan = StepPlan(offsets={"c": -OWN}, copies=copies)
        found.append(self._step([("c", joined + own, tables[3], len(joined))], plan))
        self._runner.execute_model(self._empty())
        return torch.cat(found)

    def _gang(self, tables: list[list[int]]) -> StepPlan:
        plan = StepPlan(offsets={"a": self.prompt, "b": self.prompt})
        plan.tables = dict(zip(("p", "a", "b"), tables, strict=False))
        for own, other in ("a", "b"), ("b", "a"):
            parts = [
                VisibleRun("p", 0, self.prompt, self.turn),
                VisibleRun(other, 0, OWN, self.turn),
            ]
            plan.attention[own] = RequestAttention(parts=parts, table=own, used=0)
        return plan

    def _blocks(self, request: int) -> list[int]:
        """Blocks of its own for each request; block 0 is vLLM's null block."""
        count = -(-(self.prompt + 3 * OWN) // self._block)
        return [1 + request * count + index for index in range(count)]

    def _step(self, requests: Sequence[Fed], plan: StepPlan) -> Tensor:
        """The hidden states of what requests are fed."""
        from vllm import SamplingParams
        from vllm.v1.core.sched.output import NewRequestData

        step = self._empty()
        step.scheduled_new_reqs = [
            NewRequestData(
                req_id=f"reason-self-test-{name}",
                prompt_token_ids=tokens,
                prefill_token_ids=tokens,
                mm_features=[],
                sampling_params=SamplingParams(temperature=0.0, max_tokens=1),
                pooling_params=None,
                block_ids=(blocks,),
                num_computed_tokens=begin,
                lora_request=None,
            )
            for name, tokens, blocks, begin in requests
        ]
        step.num_scheduled_tokens = {
            one.req_id: len(one.prompt_token_ids or ()) - one.num_computed_tokens
            for one in step.scheduled_new_reqs
        }
        step.total_num_scheduled_tokens = sum(step.num_scheduled_tokens.values())
        step.kv_connector_metadata = _named(plan)
        step.has_sync_kv_loads = bool(plan.copies)
        self._runner.execute_model(step)
        hidden: Tensor = self._runner.execute_model_state.hidden_states
        hidden = hidden[: step.total_num_scheduled_tokens].clone()
        self._runner.sample_tokens(None)
        self._left = set(step.num_scheduled_tokens)
        return hidden

    def _empty(self) -> Any:
        """A step without requests, in which those of the last one have ended."""
        from vllm.v1.core.sched.output import SchedulerOutput

        step = SchedulerOutput.make_empty()
        step.finished_req_ids, self._left = self._left, set()
        step.kv_connector_metadata = StepPlan()
        return step

    # Laid out flat

    def _flat(self) -> Tensor:
        from vllm.forward_context import set_forward_context

        device = self._runner.device
        tokens = torch.tensor(list(chain(*self.texts)), dtype=torch.int32, device=device)
        behind = torch.arange(OWN, device=device) + self.prompt
        positions = torch.cat(
            [torch.arange(self.prompt, device=device), behind, behind, behind + OWN]
        )
        with (
            self._attending(device),
            set_forward_context(
                dict.fromkeys(self._layers, _Flat()),
                self._config,
                num_tokens=len(tokens),
                slot_mapping={},
            ),
        ):
            hidden: Tensor = self._runner.get_model()(input_ids=tokens, positions=positions)
        return hidden[: len(tokens)].clone()

    @contextmanager
    def _attending(self, device: torch.device) -> Iterator[None]:
        """Let layers attend flat; slots are not given, so that nothing is written to the cache."""
        turner = Turner.of(self._runner.get_model()) if self._live else None
        visible, turned = self._masks(device)
        flat = PatchedMethod("forward")
        for layer in self._layers.values():
            flat.add(layer.impl, FlatAttention(layer.impl, turner, visible, turned, self.turn))
        flat.turn(True)
        try:
            yield
        finally:
            flat.turn(False)

    def _masks(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """What each token sees, and which of that stands further off for it."""
        size, at = sum(map(len, self.texts)), self.prompt
        first, second = (slice(at + k * OWN, at + (k + 1) * OWN) for k in range(2))
        visible = torch.ones(size, size, dtype=torch.bool, device=device).tril()
        turned = torch.zeros_like(visible)
        visible[first, second] = visible[second, first] = self._live
        for rows, other in (first, second), (second, first):
            turned[rows, :at] = turned[rows, other] = self._live
        return visible, turned


class _Flat:
    """What layers are given as metadata: there is none."""


class FlatAttention:
    """Stands for a layer's attention: plain softmax over the keys at hand, in float32."""

    def __init__(
        self, impl: Any, turner: Turner | None, visible: Tensor, turned: Tensor, turn: int
    ) -> None:
        self._impl = impl
        self._turner = turner
        self._visible, self._turned, self._turn = visible, turned, turn

    def __call__(
        self,
        layer: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        kv_cache: Tensor,
        attn_metadata: Any,
        output: Tensor,
        **options: Any,
    ) -> Tensor:
        impl, count = self._impl, len(self._visible)
        shared = impl.num_heads // impl.num_kv_heads
        q = query[:count].view(count, impl.num_heads, -1).float()
        k, v = (
            one[:count].view(count, impl.num_kv_heads, -1).float().repeat_interleave(shared, 1)
            for one in (key, value)
        )
        scores = torch.einsum("ihd,jhd->hij", q, k)
        if self._turner is not None:
            back = self._turner(k, -self._turn)
            scores = torch.where(self._turned, torch.einsum("ihd,jhd->hij", q, back), scores)
        scores = scores * float(impl.scale)
        if impl.logits_soft_cap:
            scores = impl.logits_soft_cap * torch.tanh(scores / impl.logits_soft_cap)
        scores = scores.masked_fill(~self._visible, -torch.inf)
        if getattr(impl, "sinks", None) is not None:
            sinks = impl.sinks.float()[:, None, None].expand(-1, count, 1)
            mass = torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]
        else:
            mass = scores.softmax(-1)
        output[:count] = torch.einsum("hij,jhd->ihd", mass, v).reshape(output[:count].shape)
        return output


def _layers(config: Any) -> Iterator[tuple[str, Any]]:
    from vllm.config import get_layers_from_vllm_config
    from vllm.model_executor.layers.attention import Attention

    yield from get_layers_from_vllm_config(config, Attention).items()


def _named(plan: StepPlan) -> StepPlan:
    """A plan whose requests have the names that the trial gives them."""
    for field in ("offsets", "attention", "paths"):
        named = {f"reason-self-test-{id}": one for id, one in getattr(plan, field).items()}
        setattr(plan, field, named)
    return plan


def try_runner(runner: Any) -> None:
    """Run the trial on a worker's runner; it leaves nothing behind.

    Raises:
        InvalidValue: both computations differ, or some hook did not run.
    """
    extra = runner.vllm_config.kv_transfer_config.kv_connector_extra_config
    if not extra.get("self_test", True):
        return
    try:
        worst = SelfTest(runner).run()
    except Exception as error:
        raise InvalidValue(f"vllm plugin: the self-test failed: {error}") from error
    allowed = TOLERANCE.get(runner.vllm_config.model_config.dtype, ROUGH)
    if not worst <= allowed:
        raise InvalidValue(
            f"vllm plugin: joined or live segments are wrong on {type(runner).__name__}: the "
            f"self-test differs by {worst:.2g} where {allowed:g} is allowed; use another release"
        )
