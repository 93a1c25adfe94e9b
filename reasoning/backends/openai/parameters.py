"""Which fields of a request a server takes, learnt from its refusals."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

BOUNDS = ("max_tokens", "max_completion_tokens")
"""The names under which an answer is bounded; the first that is not refused is sent."""
ASKED = (
    *("chat_template_kwargs", "reasoning_effort", "min_p", "repetition_penalty", "top_k"),
    *("logit_bias", "frequency_penalty", "presence_penalty", "top_p", "temperature"),
)
"""Fields that somebody asked for: the result says where a server refuses one."""
SPARE = (
    *("seed", "stream_options", "logprobs", "priority", "stop_token_ids", "skip_special_tokens"),
    *("stop", *ASKED, *BOUNDS),
)
"""Fields without which an answer is still one to the question; the others are never left out."""
_REFUSES = re.compile(
    r"(not|n't) (be )?(support|permitted|allowed|used|accepted|available|recogni|valid)|"
    r"unsupported|unknown|unrecogni[sz]ed|unexpected|extra (inputs|fields)|instead|no such|"
    r"deprecated|validation error|invalid (parameter|argument|field)|leave (it|this) out"
)
_FILTERS = re.compile(r"filter|policy|safety|moderat|blocked|harm")
_LIMITS = re.compile(
    r"context|too (long|large|many)|at most|less than|exceed|maximum|max_model_len|valid range|<="
)
_WITH_PROMPT = re.compile(r"context|input|prompt|messages|model_len")


AGAIN = (408, 409, 425, 429)
"""Statuses below 500 that are worth another try."""
_INVALID = re.compile(r"validation error|should be a valid|input should be")


def is_passing(status: int, message: str) -> bool:
    """Whether an answer of this status may be another one soon.

    Some servers answer 500 to a request that is malformed, which no other try mends.
    """
    if status == 500 and _INVALID.search(message.lower()):
        return False
    return status >= 500 or status in AGAIN


def words_of(error: Any) -> str:
    """A server's own words about a refusal, out of an `openai.APIStatusError`."""
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or body.get("detail") or error.message)


class Parameters:
    """What a server was found to refuse.

    Attributes:
        refused: Fields that it does not take.
        most: The longest answer that it allows, in tokens; None where it did not say.
        proven: Whether it ever took a whole request.
    """

    def __init__(self, refused: Iterable[str] = ()) -> None:
        self.refused = set(refused)
        self.most: int | None = None
        self.proven = False

    def fit(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a request as the server takes them."""
        out = {name: value for name, value in fields.items() if name not in self.refused}
        bound = fields.get("max_tokens")
        name = next((one for one in BOUNDS if one not in self.refused), None)
        if bound is not None and name is not None:
            out[name] = bound if self.most is None else min(bound, self.most)
        return out

    def learn(self, sent: Collection[str], message: str, named: str | None) -> bool:
        """Learn from a refusal which of the fields ``sent`` to leave out; False where none.

        A server that refuses its first request and names no field is asked again without those
        that are the least common.  ``named`` is what it names beside its message.
        """
        words = message.lower()
        spare = [name for name in SPARE if name in sent]
        said = [one for one in re.findall(r"\w+", words) if one in spare]
        names = [named] if named in spare else said[:1]
        if names and not _REFUSES.search(words):
            return False
        if not (names or self.proven or _FILTERS.search(words) or _LIMITS.search(words)):
            names = [one for one in spare if one not in ("temperature", *BOUNDS)]
        self.refused.update(names)
        return bool(names)


def smaller_bound(message: str, bound: int) -> tuple[int, bool] | None:
    """The longest answer that a refusal of one of ``bound`` tokens allows; None if it is no such.

    The flag says whether prompt and answer together were too long, rather than any such answer.
    """
    words = message.lower()
    if not (_LIMITS.search(words) and re.search("token|context|length", words)):
        return None
    numbers = {int(one.replace(",", "")) for one in re.findall(r"\d[\d,]*\b", words)} - {bound}
    prompts = numbers | {total - bound for total in numbers if total > bound}
    if _WITH_PROMPT.search(words):
        pairs = [limit - prompt for limit in numbers for prompt in prompts if prompt > 0]
        fitting = [room for room in pairs if 0 < room < bound]
        return max(fitting, default=bound // 4), True
    allowed = [one for one in numbers if 1 < one < bound]
    return max(allowed, default=bound // 4), False
