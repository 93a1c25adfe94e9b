"""An evaluation by several processes, each with the model."""

from reasoning.evaluation.workers.messages import WorkerFailed
from reasoning.evaluation.workers.processes import EvalWorkers

__all__ = ["EvalWorkers", "WorkerFailed"]
