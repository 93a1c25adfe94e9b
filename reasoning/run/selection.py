"""One of several texts, where their question is open, so that hardly two answers are equal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import anyio.to_thread

from orchestrator import current_task
from orchestrator.errors import ReasonError
from reasoning.errors import ProblemRefused
from reasoning.language.steps import final_part
from reasoning.run.election import has_embeddings
from reasoning.run.run import Run
from reasoning.run.thread import Thread, ThreadOptions


def is_open(run: Run, threads: Sequence[Thread]) -> bool:
    """Whether most answers are texts, and none was given more often than all others."""
    voting = [thread for thread in threads if thread.answer is not None]
    texts = [thread for thread in voting if thread.answer_source == "text"]
    return 2 * len(texts) > len(voting) and run.vote(voting).tied


async def select(run: Run, threads: Sequence[Thread]) -> None:
    """Choose between texts, inside a run's graph, and note the key of the one that is chosen.

    Nothing happens where votes decide.
    """
    if not is_open(run, threads):
        return
    texts: dict[str, str] = {}
    for thread in threads:
        key = run.key(thread.answer)
        if key is not None and thread.answer is not None:
            texts.setdefault(key, thread.answer)
    keys, how = list(texts), run.election.select
    if how in ("auto", "usc"):
        chosen = await _by_model(run, threads, list(texts.values()))
        if chosen is not None:
            run.selected = keys[chosen], "usc"
            return
    if how != "first" and has_embeddings():
        votes = run.vote(threads).votes
        weights = [votes[key] for key in keys]
        chosen = await anyio.to_thread.run_sync(medoid, list(texts.values()), weights)
        run.selected = keys[chosen], "medoid"
        return
    run.selected = keys[0], "first"


CHOOSING = "choose"
"""The name of the thread that chooses."""
CHOOSE = """\
{count} answers to one question stand below.  Each was given without knowing the others.

The question:
{question}

{answers}

Which of these answers agrees most with the other answers in what it says?  Write only its number, \
as: Answer <number>"""


async def _by_model(run: Run, threads: Sequence[Thread], texts: Sequence[str]) -> int | None:
    """Universal Self-Consistency (arXiv 2311.17311): the index of the text that the model chooses.

    None where it can't be asked, or its choice can't be read.
    """
    question = run.problem.question
    empty = CHOOSE.format(count=len(texts), question=question, answers="")
    try:
        room = run.max_tokens - max(run.reserve, _ROOM) - len(run.dialect.ask(empty))
        if room < len(texts) * _ROOM:
            run.emulated.add("usc-no-room")
            return None
        fitted = run.fitting_texts(texts, room - 8 * len(texts))
        answers = "\n\n".join(f"Answer {n}:\n{text}" for n, text in enumerate(fitted, 1))
        prompt = run.dialect.ask(
            CHOOSE.format(count=len(texts), question=question, answers=answers)
        )
    except ProblemRefused:
        return None

    async def choose() -> str:
        own = current_task()
        assert own is not None
        for thread in threads:
            own.follow(thread.task)
        plain = replace(run.sampling, temperature=0.0, constraint=None, stop=())
        options = ThreadOptions(sampling=plain, most=max(run.reserve, _ROOM))
        with suppress(ReasonError), run.go_on(prompt, options) as thread:
            await thread.write()
            return thread.own_text
        return ""

    task = run.graph.add(choose, name=CHOOSING)
    task.on_end(run.changes.tell)
    await run.changes.until(lambda: task.ended)
    chosen = read_choice(task.value, len(texts)) if task.state == "succeeded" else None
    if chosen is None:
        run.emulated.add("usc-unread")
    return chosen


_ROOM = 64
"""Tokens for a choice, and at least for each text."""
_NAMED = r"(?:answers?|responses?|options?|choice|numbers?|no\.|nr\.|#)(?:\s+(?:is|number|no\.)\b)*"
_STATED = re.compile(
    rf"(?:most consistent|agrees most|best|final|correct|chosen?|choice|choose|select(?:ed)?)\b"
    rf"[^\d.\n]{{0,60}}?{_NAMED}?[\s*#:(\[]*(\d{{1,4}})\b",
    re.I,
)
_BOX = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_ALONE = re.compile(rf"\W*(?:{_NAMED}\W*)?(\d{{1,4}})\W*", re.I)
_BEGINS = re.compile(
    rf"\A\W*{_NAMED}[\s*#:(\[]*(\d{{1,4}})\b(?!\W*(?:and|or|to|&)?\W*(?:{_NAMED}\W*)?\d)", re.I
)
_MENTIONED = re.compile(rf"{_NAMED}[\s*#:(\[]*(\d{{1,4}})\b", re.I)


def read_choice(text: str, count: int) -> int | None:
    """The index of the one of ``count`` answers that a model names; None where it names none."""
    said = _BOX.sub(r"\1", final_part(text)).strip()
    alone = _ALONE.fullmatch(said.partition("\n")[0])
    numbers = [alone[1]] if alone is not None else _STATED.findall(said)[-1:]
    if not numbers:
        numbers = _BEGINS.findall(said) or _MENTIONED.findall(said)
    chosen = int(numbers[0]) if len(set(numbers)) == 1 else 0
    return chosen - 1 if 1 <= chosen <= count else None


@cache
def _encoder() -> Any:
    from sentence_transformers import SentenceTransformer

    from reasoning.judging.base_encoders import MINILM, find_encoder, silence

    with silence():
        return SentenceTransformer(str(find_encoder(MINILM, Path())), device="cpu")


def medoid(texts: Sequence[str], weights: Sequence[int]) -> int:
    """The index of the text whose embedding is nearest to all others', each as often as given.

    The first among equals; an embedding is of a text's first 256 tokens.
    """
    vectors = _encoder().encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    middle = sum(vector * weight for vector, weight in zip(vectors, weights, strict=True))
    near = [round(float(vector @ middle), 6) for vector in vectors]
    return near.index(max(near))
