"""What a run's branches cost and save, as papers count it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class BlockTags(NamedTuple):
    """The tokens that open and close a parallel block, and a branch in it."""

    opens: int
    closes: int
    branch: int
    branch_end: int


class BlockTokens(NamedTuple):
    """A response of merged branches, counted by its tags.

    Attributes:
        tokens: All of it.
        longest_thread: What stands outside of branches, and of each block's branches the longest.
        parallel_tokens: What stands inside of blocks.
    """

    tokens: int
    longest_thread: int
    parallel_tokens: int

    @classmethod
    def of(cls, response: Iterable[int], tags: BlockTags) -> BlockTokens:
        """Count as ThreadWeaver's rewards do (arXiv 2512.07843, ``get_parallel_stats``).

        A block's own tags stand outside of it, those of its branches inside and beside the
        branches.  Blocks and branches do not nest: an inner tag is a token like others.  What is
        not closed ends with the response.
        """
        total = saved = inside = 0
        in_block, branch = False, None
        lengths: list[int] = []
        for token in response:
            total += 1
            if not in_block:
                in_block = token == tags.opens
            elif branch is not None and token == tags.branch_end:
                lengths.append(branch)
                branch = None
                inside += 1
            elif branch is not None:
                branch += 1
                inside += 1
            elif token == tags.closes:
                saved += sum(lengths) - max(lengths, default=0)
                in_block, lengths = False, []
            else:
                inside += 1
                branch = 0 if token == tags.branch else None
        lengths += [] if branch is None else [branch]
        saved += sum(lengths) - max(lengths, default=0)
        return cls(total, total - saved, inside)


@dataclass(frozen=True, kw_only=True)
class ParallelStats:
    """Tokens of a run by who wrote beside whom; prompts are left out.

    Attributes:
        tokens: Written by all threads or given to them on the way.
        longest_thread: The longest chain of these: what is no branch's, and of branches that ran
            side by side the longest.
        parallel_tokens: Those in blocks of branches.
        written: Those that a model wrote.
        critical_path: The longest chain of these.
    """

    tokens: int
    longest_thread: int
    parallel_tokens: int
    written: int
    critical_path: int

    @property
    def acceleration(self) -> float:
        """The share of tokens that nobody waits for (ThreadWeaver's acceleration ratio)."""
        return 1 - self.longest_thread / self.tokens if self.tokens else 0.0

    @property
    def parallel_ratio(self) -> float:
        """The share of tokens in blocks of branches (ThreadWeaver's parallel ratio)."""
        return self.parallel_tokens / self.tokens if self.tokens else 0.0

    @property
    def degree(self) -> float:
        """Tokens written for each of the critical path (Multiverse's #parallel, 2506.09991)."""
        return self.written / self.critical_path if self.critical_path else 1.0
