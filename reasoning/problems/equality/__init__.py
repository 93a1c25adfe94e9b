r"""Equal answers are one answer: a key for votes, verifiers, benchmarks and replays.

`canonical` writes an answer in one form: numbers by their value, whatever their thousands or
LaTeX; sets without an order, tuples and intervals with theirs; choices by their letter; words
without case, articles and quotes.  Nothing is computed but single numbers, so that ``9^9^9^9``
costs nothing, and what is not understood keeps its own words.  `algebra` is the step after it.
"""

from reasoning.problems.equality.keys import canonical, equal, number
from reasoning.problems.equality.markup import unmarked

__all__ = ["canonical", "equal", "number", "unmarked"]
