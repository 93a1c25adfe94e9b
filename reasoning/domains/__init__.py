"""Problem domains, each with a generator, an exact solver and one strict verifier."""

from reasoning.domains.arithmetic import Arithmetic
from reasoning.domains.base import Covered, Problem, Verdict
from reasoning.domains.countdown import Countdown
from reasoning.domains.enumeration import Enumeration
from reasoning.domains.recognition import FreeForm, recognise
from reasoning.domains.several import Several
from reasoning.domains.shortest_paths import ShortestPaths

__all__ = [
    "Arithmetic",
    "Countdown",
    "Covered",
    "Enumeration",
    "FreeForm",
    "Problem",
    "Several",
    "ShortestPaths",
    "Verdict",
    "recognise",
]
