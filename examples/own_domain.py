"""A domain of one's own: a problem with a verifier, recognised from words.

On the command line: reason solve "Write 1987 in Roman numerals" \
    --domain examples/own_domain.py:Roman --backend examples/own_backend.py:ToyBackend
"""

import re
from dataclasses import dataclass
from typing import ClassVar

from reasoning import Verdict, recognise

VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


@dataclass(frozen=True, kw_only=True)
class Roman:
    domain: ClassVar[str] = "roman"
    number: int

    @classmethod
    def recognise(cls, text: str) -> "Roman | None":
        match = re.search(r"\b(\d{1,4})\b.*\broman", text, re.I)
        return cls(number=int(match[1])) if match else None

    @property
    def question(self) -> str:
        return f"Write {self.number} in Roman numerals."

    def canonical(self, answer: str) -> str | None:  # equal keys vote together
        return answer.strip().upper() or None

    def verify(self, answer: str) -> Verdict:
        digits = [VALUES.get(letter, 0) for letter in answer.strip().upper()]
        pairs = zip(digits, [*digits[1:], 0], strict=True)
        value = sum(-one if one < following else one for one, following in pairs)
        return Verdict(ok=value == self.number, reason=f"{answer} is {value}")


if __name__ == "__main__":
    problem = recognise("Write 1987 in Roman numerals", f"{__file__}:Roman")
    print(problem.question, problem.verify("MCMLXXXVII"), problem.verify("MCM"))
