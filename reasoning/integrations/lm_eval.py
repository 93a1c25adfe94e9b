"""Our strategies as the model ``reason`` of lm-eval (the Evaluation Harness)::

    lm_eval run --model reason --model_args base_url=URL,strategy=self-consistency:n=8 --tasks …

Later versions than 0.4.13 find it by its entry point; for others, ``python -m
reasoning.integrations.lm_eval run …`` is the same program.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from orchestrator.errors import InvalidValue
from reasoning.integrations.strategy_model import Chat, StrategyArguments, StrategyModel

if TYPE_CHECKING:
    from concurrent.futures import Future

    from lm_eval.api.instance import Instance

_HARNESS = ("batch_size", "max_batch_size", "device")
"""What the harness says to every model, and no strategy reads."""
_PASSED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
_READ = ("until", "do_sample", "max_gen_toks", "max_tokens", "max_new_tokens", *_PASSED)
_LOG = logging.getLogger(__name__)


@register_model("reason")
class StrategyLM(LM):
    """A strategy on any model that `reason` can load; it generates, and scores nothing."""

    def __init__(self, num_concurrent: int = 8, until: bool = True, **arguments: Any) -> None:
        """The arguments are those of `StrategyArguments.of`.

        Args:
            num_concurrent: How many requests are answered at once.
            until: Whether a task's ``until`` stops what the model writes, its thoughts too; else
                what it says is cut there.

        Raises:
            ReasonError: by its leaf, what can't be loaded or does not exist.
        """
        super().__init__()
        given = {name: value for name, value in arguments.items() if name not in _HARNESS}
        self._model = StrategyModel(StrategyArguments.of(given))
        self._concurrent = max(1, int(num_concurrent))
        self._until = bool(until)
        self._chats = False

    @property
    def tokenizer_name(self) -> str:
        """What the harness's cache of requests is kept by."""
        return f"reason-{self._model.name}".replace("/", "__")

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The messages as JSON: the model's own template, or its server's, is applied later.

        Raises:
            InvalidValue: the answer's beginning is given, which no strategy can go on from.
        """
        if not add_generation_prompt:
            raise InvalidValue("gen_prefix: a strategy can't go on with an answer; leave it out")
        self._chats = True
        return json.dumps(chat_history, ensure_ascii=False)

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the chosen branch of each run says, up to a text of ``until``.

        Raises:
            ReasonError: a request can't be answered.
        """
        answers: list[str] = []
        for request, said in self._said(requests):
            answers.append(_cut(said, _ends(request.args[1])))
            self.cache_hook.add_partial("generate_until", request.args, answers[-1])
        return answers

    def _said(self, requests: Sequence[Instance]) -> Iterator[tuple[Instance, str]]:
        """What is said to each request in order, some at once."""
        pending, running = iter(requests), deque[tuple["Instance", "Future[Chat]"]]()
        while True:
            running += [
                (one, self._model.chat(self._body(*one.args)))
                for one in islice(pending, self._concurrent - len(running))
            ]
            if not running:
                return
            request, future = running.popleft()
            yield request, future.result()["choices"][0]["message"]["content"] or ""

    def _body(self, context: str, wanted: Mapping[str, Any]) -> Chat:
        unread = [name for name in wanted if name not in _READ]
        if unread:
            raise InvalidValue(f"gen_kwargs: {', '.join(unread)}: not known; leave it out")
        body: Chat = {name: wanted[name] for name in _PASSED if wanted.get(name) is not None}
        ends = _ends(wanted) if self._until else []
        body |= {"stop": ends} if ends else {}
        greedy = not wanted.get("do_sample") or not body.get("temperature")
        if greedy:  # a task's usual setting, under which all samples would be one
            body.pop("temperature", None)
            body |= {"temperature": 0.0} if self._model.alone else {}
        most = (wanted.get(name) for name in ("max_gen_toks", "max_tokens", "max_new_tokens"))
        length = next(filter(None, most), None)
        talk = json.loads(context) if self._chats else [{"role": "user", "content": context}]
        return body | {"messages": talk} | ({"max_tokens": int(length)} if length else {})

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Refused: a strategy answers, and has no probability of an answer.

        Raises:
            InvalidValue: always.
        """
        raise InvalidValue(
            "output_type: a strategy has no log-likelihoods; choose tasks of generate_until, such "
            "as gsm8k in place of a multiple_choice one"
        )

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """Refused, as `loglikelihood`.

        Raises:
            InvalidValue: always.
        """
        self.loglikelihood(requests)
        return []


def _ends(wanted: Mapping[str, Any]) -> list[str]:
    """What ends an answer."""
    ends = wanted.get("until") or []
    return [end for end in ([ends] if isinstance(ends, str) else ends) if end]


def _cut(text: str, ends: Sequence[str]) -> str:
    """The text before what ends it."""
    for end in ends:
        text = text.partition(end)[0]
    return text


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
