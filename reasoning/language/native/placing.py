"""Where a fork's branches stand, and what follows them: `Placement` over contexts.

All positions are computed here, for every strategy, test and training sequence alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from reasoning.language.native.description import Placement
from reasoning.values.context import Context


class BranchEnd(NamedTuple):
    """A branch that has ended.

    Attributes:
        context: All that it saw and wrote, its tail included.
        tokens: Its own tokens, header and tail included.
        tail: How many of these stand behind its end.
        whole: Whether it came to its own end.
    """

    context: Context
    tokens: list[int]
    tail: int = 0
    whole: bool = True


@dataclass(frozen=True, kw_only=True)
class ForkPlace:
    """One fork: what is before it, and where its branches begin and are joined.

    Attributes:
        base: All before it, its trigger included.
        lead: What stands between that and the branches, which all of them see.
        prompt: The length of the whole prompt.
    """

    base: Context
    lead: Sequence[int]
    placement: Placement
    prompt: int = 0

    @cached_property
    def start(self) -> Context:
        """What every branch sees; its header's first token stands at this context's position."""
        led = self.base.then(self.lead) if self.lead else self.base
        if self.placement.carrier == "text":
            return led
        return led.moved(self.placement.branch - 1 - len(self.lead))

    def joined(self, ends: Sequence[BranchEnd], between: Sequence[int] = ()) -> Context:
        """What follows sees: all branches in this order, with keys and values or as text.

        Its position is that of the first token which follows.
        """
        if self.placement.carrier == "text":
            start = self.start
            tokens = [
                token
                for number, end in enumerate(ends)
                for token in (*(between if number else ()), *end.tokens)
            ]
            return start.then(tokens) if tokens else start
        start = self.start
        longest = max((end.context.position - end.tail for end in ends), default=start.position)
        later = self.placement.resume - self.placement.branch
        later += self.placement.resume_prompt * self.prompt
        joined = start.join([end.context for end in ends])
        return joined.moved(longest + later - joined.position)
