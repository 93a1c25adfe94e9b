"""What the holder of one key may ask for: tokens a minute, width, and policies."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields

from orchestrator.errors import InvalidValue
from protocol.http.errors import Refusal

_LIMIT = re.compile(r"\s+([a-z-]+)=(\S+)\Z")
WINDOW_S = 60.0


@dataclass(frozen=True, kw_only=True)
class KeyLimits:
    """The limits of one key; None is no limit.

    Attributes:
        tokens_per_minute: Prompt and completion tokens of all branches.
        width: Branches of one request; more are asked for in vain, and that is said.
        policies: Which may be asked for, by name.
    """

    tokens_per_minute: int | None = None
    width: int | None = None
    policies: frozenset[str] | None = None

    @classmethod
    def parse(cls, line: str) -> tuple[str, KeyLimits]:
        """A key and its limits out of ``KEY width=8 tokens-per-minute=60000 policies=async,sc``.

        Raises:
            InvalidValue: a limit does not exist, or its value does not fit.
        """
        given: dict[str, str] = {}
        names = {one.name.replace("_", "-"): one.name for one in fields(cls)}
        while (found := _LIMIT.search(line)) and found[1] in names:
            line = line[: found.start()]
            given[names[found[1]]] = found[2]
        numbers = {name: _number(name, text) for name, text in given.items() if name != "policies"}
        policies = frozenset(given["policies"].split(",")) if "policies" in given else None
        return line, cls(policies=policies, **numbers)


def _number(name: str, text: str) -> int:
    if not text.isdecimal() or not 0 < len(text) < 13 or int(text) < 1:
        field = name.replace("_", "-")
        raise InvalidValue(f"api-key-file: {field}={text} is no limit; give a number above 0")
    return int(text)


UNLIMITED = KeyLimits()


class Quota:
    """What one key has left to spend: a bucket of a minute's tokens, which refills all the time.

    A run is let in while anything is left, and charged when its cost is known, so that the next
    one may have to wait for longer.
    """

    def __init__(self, limits: KeyLimits) -> None:
        self.limits = limits
        self._left = float(limits.tokens_per_minute or 0)
        self._at = time.monotonic()

    def check(self) -> None:
        """Let a run in.

        Raises:
            Refusal: nothing is left.
        """
        most = self.limits.tokens_per_minute
        if most is None:
            return
        self._refill(most)
        if self._left <= 0:
            wait = max(1, math.ceil((1 - self._left) * WINDOW_S / most))
            raise Refusal(
                429,
                "token_limit_reached",
                f"this key may use {most} tokens a minute, and has; come back in {wait} s",
                headers={"Retry-After": str(wait)},
            )

    def charge(self, tokens: int) -> None:
        """Note what a run cost."""
        if self.limits.tokens_per_minute is not None:
            self._refill(self.limits.tokens_per_minute)
            self._left -= tokens

    def _refill(self, most: int) -> None:
        now = time.monotonic()
        self._left = min(most, self._left + (now - self._at) * most / WINDOW_S)
        self._at = now


class Quotas:
    """The quotas of all keys, by their names; who has no key has no limits."""

    def __init__(self, limits: Mapping[str, KeyLimits]) -> None:
        self._quotas = {name: Quota(one) for name, one in limits.items()}
        self._free = Quota(UNLIMITED)

    def of(self, caller: str) -> Quota:
        return self._quotas.get(caller, self._free)
