"""Problem domains, each with a generator, an exact solver and one strict verifier."""

from reasoning.problems.arithmetic import Arithmetic
from reasoning.problems.base import Covered, Domain, Problem, Verdict
from reasoning.problems.countdown import Countdown
from reasoning.problems.enumeration import Enumeration
from reasoning.problems.recognition import DOMAINS, FreeForm, pose, recognise
from reasoning.problems.several import Several
from reasoning.problems.shortest_paths import ShortestPaths

__all__ = [
    "DOMAINS",
    "Arithmetic",
    "Countdown",
    "Covered",
    "Domain",
    "Enumeration",
    "FreeForm",
    "Problem",
    "Several",
    "ShortestPaths",
    "Verdict",
    "pose",
    "recognise",
]
