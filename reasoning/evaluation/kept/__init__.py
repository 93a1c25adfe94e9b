"""What an evaluation keeps on disk: records, and the file that they are in."""

from reasoning.evaluation.kept.records import EvalHeader, SampleRecord, StrategyRun
from reasoning.evaluation.kept.store import EvalStore, StoredEval

__all__ = ["EvalHeader", "EvalStore", "SampleRecord", "StoredEval", "StrategyRun"]
