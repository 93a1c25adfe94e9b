"""Problem domains, each with a generator, an exact solver and one strict verifier."""

from reasoning.domains.arithmetic import Arithmetic
from reasoning.domains.base import Problem, Verdict
from reasoning.domains.countdown import Countdown
from reasoning.domains.recognition import FreeForm, recognise

__all__ = ["Arithmetic", "Countdown", "FreeForm", "Problem", "Verdict", "recognise"]
