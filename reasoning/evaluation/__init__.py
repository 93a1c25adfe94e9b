"""A model measured on questions: sampled, graded, compared; and its traces stored and replayed."""

from reasoning.evaluation.arms import GradedEval
from reasoning.evaluation.forecast import Forecast, forecast
from reasoning.evaluation.grading import AnswerBook, Grader, load_grader
from reasoning.evaluation.importers import read_traces
from reasoning.evaluation.kept.records import EvalHeader, SampleRecord, StrategyRun
from reasoning.evaluation.kept.store import EvalStore, StoredEval
from reasoning.evaluation.measure import Arm, BenchResults, BenchRow, solve_all, summarise
from reasoning.evaluation.questions import EvalQuestion, QuestionColumns, load_questions
from reasoning.evaluation.questions.drawn import draw_problems
from reasoning.evaluation.questions.word_problems import draw_word_problems
from reasoning.evaluation.run import EvalPlan, LiveArm
from reasoning.evaluation.traces import write_traces

__all__ = [
    "AnswerBook",
    "Arm",
    "BenchResults",
    "BenchRow",
    "EvalHeader",
    "EvalPlan",
    "EvalQuestion",
    "EvalStore",
    "Forecast",
    "GradedEval",
    "Grader",
    "LiveArm",
    "QuestionColumns",
    "SampleRecord",
    "StoredEval",
    "StrategyRun",
    "draw_problems",
    "draw_word_problems",
    "forecast",
    "load_grader",
    "load_questions",
    "read_traces",
    "solve_all",
    "summarise",
    "write_traces",
]
