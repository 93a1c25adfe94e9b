"""Shared keys and values between the requests of an unmodified vLLM 0.32, as an opt-in plugin.

``join`` copies the segments of finished requests in front of a new one, with vLLM's own scheduler
and kernels.  ``live`` also lets a gang of requests see each other's tokens as they are written.
"""

from __future__ import annotations

from typing import Any, Literal

Mode = Literal["join", "live"]

CONNECTOR = "SegmentConnector"
WORKER = f"{__name__}.worker.SegmentWorker"
SCHEDULER = f"{__name__}.scheduling.scheduler.GangScheduler"


def register() -> None:
    """The ``vllm.general_plugins`` entry point: make the connector known, and change nothing."""
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

    if CONNECTOR not in KVConnectorFactory._registry:
        KVConnectorFactory.register_connector(CONNECTOR, f"{__name__}.connector", CONNECTOR)


def engine_arguments(mode: Mode, **extra: float) -> dict[str, Any]:
    """Fields of vLLM's ``EngineArgs`` that start an engine with the plugin.

    ``extra`` may set ``lease_s`` and ``patience_s``.
    """
    wanted: dict[str, Any] = {
        "kv_transfer_config": {
            "kv_connector": CONNECTOR,
            "kv_connector_module_path": f"{__name__}.connector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": extra,
        },
        "worker_cls": WORKER,
    }
    if mode == "live":
        wanted |= {
            "scheduler_cls": SCHEDULER,
            "async_scheduling": False,
            "scheduling_policy": "fcfs",
        }
    return wanted
