"""Scorers by name: a function in a file or module, or a server that scores answers."""

from __future__ import annotations

import http.client
import inspect
import json
import math
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urldefrag, urlsplit

from orchestrator.errors import InvalidValue, ReasonError
from pruning import Scorer
from reasoning.errors import BackendLost
from reasoning.problems.answers import after_thoughts
from reasoning.registry import KindRegistry

KEY = "SCORER_API_KEY"
"""The environment variable with the key of a server that scores."""
TIMEOUT_S = 120.0
TRIES = 4
BACKOFF_S = 0.5

_SCORERS: KindRegistry[Any] = KindRegistry("scorer", group="parallel_reason.scorers", kinds={})


@cache
def load_scorer(name: str) -> Scorer:
    """A scorer by its name; one name is loaded once.

    It is an address with ``http://`` or ``https://`` (see `ServedScorer`), or a function
    ``(question, text, answer) -> float``, or a class of such objects, by ``path.py:Name``,
    ``module:Name`` or the name of an installed package's entry point.

    Raises:
        UnknownName: there is no such function, file or module.
        InvalidValue: it can't be called, or the address is of no endpoint that scores.
    """
    if name.startswith(("http://", "https://")):
        return ServedScorer.at(name)
    choice = _SCORERS.choose(name)
    made = choice.make(_SCORERS.noun) if inspect.isclass(choice.kind) else choice.kind
    if not callable(made):
        raise InvalidValue(f"scorer: {name} makes what can't be called; give it __call__")
    if inspect.iscoroutinefunction(made) or inspect.iscoroutinefunction(type(made).__call__):
        raise InvalidValue(f"scorer: {name} is asynchronous; give a plain function")
    return NamedScorer(name, made)


def number_of(name: str, value: Any) -> float:
    """What a scorer returned, as a number.

    Raises:
        InvalidValue: it is none, or not finite.
    """
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise InvalidValue(f"scorer: {name} gave {str(value)[:40]!r}; return a finite number")
    return score


@dataclass(frozen=True)
class NamedScorer:
    """Somebody's function, asked one question at a time, whose errors are told in one line."""

    name: str
    function: Callable[[str, str, str], Any]
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __call__(self, question: str, text: str, answer: str) -> float:
        """
        Raises:
            InvalidValue: the function failed, or gave no finite number.
        """
        try:
            with self._lock:
                value = self.function(question, text, answer)
        except ReasonError:
            raise
        except Exception as error:  # whatever somebody else's code does
            said = f"{type(error).__name__}: {error}"
            raise InvalidValue(f"scorer: {self.name}: {said}; mend it") from error
        return number_of(self.name, value)


def _pair(question: str, text: str) -> dict[str, Any]:
    return {"text_1": question, "text_2": text}


def _documents(question: str, text: str) -> dict[str, Any]:
    return {"query": question, "documents": [text]}


def _chat(question: str, text: str) -> dict[str, Any]:
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": text}]
    return {"messages": said}


def _only(values: Any) -> Any:
    """The one number in a list, or the last one of a list of such lists: the last token's."""
    last = values[-1] if isinstance(values[-1], list) else values
    if len(last) != 1:
        raise ValueError(f"{len(last)} numbers where one is a score")
    return last[0]


_ENDPOINTS: dict[str, tuple[Callable[[str, str], dict[str, Any]], Callable[[Any], Any]]] = {
    "score": (_pair, lambda said: said["data"][0]["score"]),
    "rerank": (_documents, lambda said: said["results"][0]["relevance_score"]),
    "classify": (_chat, lambda said: _only(said["data"][0]["probs"])),
    "pooling": (_chat, lambda said: _only(said["data"][0]["data"])),
}


@dataclass(frozen=True, kw_only=True)
class ServedScorer:
    """A model behind an HTTP endpoint that scores, as vLLM serves them.

    By the address's last word:

    - ``score``: ``text_1`` is the question, ``text_2`` the text; ``data[0].score`` the score;
    - ``rerank``: ``query`` and ``documents``; ``results[0].relevance_score`` (also Jina's and
      Cohere's form);
    - ``classify``: ``messages``, the answer as the assistant's; ``data[0].probs``, of one class:
      sequence classifiers with one label, as most reward models are;
    - ``pooling``: ``messages``; ``data[0].data``, one number, or one for each token, of which the
      last counts.

    A server's own activation is applied (vLLM's is a sigmoid for one label).  Process reward
    models with two classes a step are not read.  What stands behind ``#`` in the address is the
    model's name there.  The text is what follows the thoughts.  `SCORER_API_KEY` has the key.
    """

    name: str
    url: str
    endpoint: str
    model: str | None = None

    @classmethod
    def at(cls, address: str) -> ServedScorer:
        """The scorer at an address.

        Raises:
            InvalidValue: its endpoint is none of those.
        """
        url, model = urldefrag(address)
        endpoint = urlsplit(url).path.rstrip("/").rpartition("/")[2]
        if endpoint not in _ENDPOINTS or not urlsplit(url).hostname:
            raise InvalidValue(
                f"scorer: {address} is no endpoint that scores; give an address that ends in "
                f"/{', /'.join(_ENDPOINTS)}"
            )
        return cls(name=address, url=url, endpoint=endpoint, model=model or None)

    def __call__(self, question: str, text: str, answer: str) -> float:
        """
        Raises:
            BackendLost: the server can't be reached, or refuses.
            InvalidValue: its answer has no score in the place where this endpoint has it.
        """
        write, read = _ENDPOINTS[self.endpoint]
        body = write(question, after_thoughts(text).strip() or text)
        said = self._asked(body if self.model is None else {"model": self.model, **body})
        try:
            value = read(said)
        except (LookupError, TypeError, ValueError) as error:
            why = str(error) if isinstance(error, ValueError) else str(said)[:80]
            raise InvalidValue(
                f"scorer: {self.name} gave no score where /{self.endpoint} has it ({why}); name "
                "another endpoint"
            ) from error
        return number_of(self.name, value)

    def _asked(self, body: dict[str, Any]) -> Any:
        """What the server says; it is asked again where it is busy or fails."""
        why: Exception | None = None
        for attempt in range(TRIES):
            if attempt:
                time.sleep(BACKOFF_S * 2 ** (attempt - 1))
            try:
                return self._post(body)
            except urllib.error.HTTPError as error:
                said = error.read(200).decode("utf-8", "replace")
                why = BackendLost(f"scorer: {self.name} refuses: {error.code} {said}")
                if error.code != 429 and error.code < 500:
                    break
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = getattr(error, "reason", error)
                why = BackendLost(f"scorer: {self.name} can't be asked ({reason}); start it")
        assert why is not None
        raise why

    def _post(self, body: dict[str, Any]) -> Any:
        key = os.environ.get(KEY, "").strip()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        with _opener(self.url).open(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)


def _opener(url: str) -> urllib.request.OpenerDirector:
    """What opens an address: this machine's own directly, others as the environment says."""
    local = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))
