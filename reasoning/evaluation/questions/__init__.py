"""Questions to measure on: from files, or drawn by a seed."""

from reasoning.evaluation.questions.drawn import draw_problems
from reasoning.evaluation.questions.files import EvalQuestion, QuestionColumns, load_questions
from reasoning.evaluation.questions.word_problems import draw_word_problems

__all__ = [
    "EvalQuestion",
    "QuestionColumns",
    "draw_problems",
    "draw_word_problems",
    "load_questions",
]
