"""A domain of one's own: a problem with a verifier, recognised from words.

On the command line: reason solve "Write 42 in binary" --strategy self-consistency \
    --domain examples/own_domain.py:Binary --backend examples/own_backend.py:ToyBackend
"""

import re
from dataclasses import dataclass
from typing import ClassVar

from reasoning import Verdict, recognise


@dataclass(frozen=True, kw_only=True)
class Binary:
    domain: ClassVar[str] = "binary"
    number: int

    @classmethod
    def recognise(cls, text: str) -> "Binary | None":
        match = re.search(r"\b(\d{1,9})\b.*\bbinary\b", text)
        return cls(number=int(match[1])) if match else None

    @property
    def question(self) -> str:
        return f"Write {self.number} in binary."

    def canonical(self, answer: str) -> str | None:  # answers with equal keys vote together
        return answer.strip().lstrip("0") or None

    def verify(self, answer: str) -> Verdict:
        ok = self.canonical(answer) == f"{self.number:b}"
        return Verdict(ok=ok, reason=f"{self.number} is {self.number:b}")


if __name__ == "__main__":
    problem = recognise("Write 42 in binary", f"{__file__}:Binary")
    print(problem.question, problem.verify("101010").ok, problem.verify("101011").reason)
