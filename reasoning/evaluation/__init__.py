"""Problems in bulk: drawn, solved and measured, and their traces stored and replayed."""

from reasoning.evaluation.importers import read_traces
from reasoning.evaluation.measure import Arm, BenchResults, BenchRow, measure, solve_all, summarise
from reasoning.evaluation.problems import draw_problems
from reasoning.evaluation.traces import write_traces
from reasoning.evaluation.word_problems import draw_word_problems

__all__ = [
    "Arm",
    "BenchResults",
    "BenchRow",
    "draw_problems",
    "draw_word_problems",
    "measure",
    "read_traces",
    "solve_all",
    "summarise",
    "write_traces",
]
