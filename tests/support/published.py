"""Runs of published families as threads and joins, and what their authors compute, laid out flat.

A run is made of contexts and of the placements of our descriptions, as the strategy makes it.  A
layout is written from the published rules alone: where each span begins and which others it sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from reasoning.language.native.catalog import family
from reasoning.language.native.description import Placement
from reasoning.language.native.placing import BranchEnd, ForkPlace
from reasoning.values.context import Context, Segment
from reasoning.values.layout import Flat

Write = Callable[[Sequence[Segment], Sequence[int]], None]
"""Lets threads write so many tokens to segments, side by side."""

LINE, TAG, END, JOIN, PAD, COLON, DIGIT = 10, 11, 12, 13, 14, 15, 20
PROMPT = [31, 77, 45, 52, 90, 38, 61, 73, 84, 29, 56]


class Span(NamedTuple):
    """Tokens one after the other from position ``at`` on, which see others whole and themselves."""

    tokens: list[int]
    at: int
    sees: tuple[str, ...]
    path: int = 0


@dataclass
class Writing:
    """One run: its segments by name, in the order of their beginning."""

    write: Write
    segments: dict[str, Segment] = field(default_factory=dict)

    def given(self, name: str, context: Context, tokens: Sequence[int], path: int = 0) -> Context:
        """A context followed by given tokens."""
        self.segments[name] = Segment(context, tokens, path=path)
        return context.after(self.segments[name])

    def place(
        self, name: str, base: Context, rule: Placement, lead: Sequence[int] = ()
    ) -> ForkPlace:
        """A fork where a published description wants it; its lead is a segment of this name."""
        place = ForkPlace(base=base, lead=lead, placement=rule, prompt=len(PROMPT))
        if lead:
            self.segments[name] = place.start.entries[-1].segment
        return place

    def threads(
        self, names: Sequence[str], begun: Sequence[Segment], counts: Sequence[int]
    ) -> None:
        self.segments |= zip(names, begun, strict=True)
        self.write(begun, counts)

    def thread(self, name: str, context: Context, opening: Sequence[int], count: int) -> Context:
        """A context followed by a thread that was given an opening and wrote so many tokens."""
        own = Segment(context, opening)
        self.threads([name], [own], [count])
        return context.after(own)


@dataclass
class Laid:
    """The spans of a run, from its tokens alone."""

    tokens: dict[str, list[int]]
    spans: dict[str, Span] = field(default_factory=dict)

    def put(self, name: str, at: int, sees: Sequence[str] = (), path: int = 0) -> int:
        """Place a span; returns the position behind its last token."""
        self.spans[name] = Span(self.tokens[name], at, tuple(sees), path)
        return at + len(self.tokens[name])


def flat(spans: Mapping[str, Span]) -> tuple[Flat, list[int], dict[str, int]]:
    """A layout with its mask and positions, each token's path, and where each span begins."""
    starts, tokens, positions, paths = dict[str, int](), list[int](), list[int](), list[int]()
    for name, span in spans.items():
        starts[name] = len(tokens)
        tokens += span.tokens
        positions += range(span.at, span.at + len(span.tokens))
        paths += [span.path] * len(span.tokens)
    mask = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
    for name, span in spans.items():
        rows = slice(starts[name], starts[name] + len(span.tokens))
        mask[rows, rows] = torch.ones(len(span.tokens), len(span.tokens)).tril().bool()
        for seen in span.sees:
            mask[rows, starts[seen] : starts[seen] + len(spans[seen].tokens)] = True
    nowhere = torch.zeros_like(mask, dtype=torch.long)
    return Flat(torch.tensor(tokens), torch.tensor(positions), mask, nowhere), paths, starts


# Multiverse and NPR: a line break, numbered branches, each with its closer and one token more


def _block(
    w: Writing, at: str, context: Context, counts: Sequence[int], rule: Placement
) -> Context:
    place = w.place(f"{at} line", context, rule, [LINE])
    names = [f"{at} branch {index}" for index in range(len(counts))]
    begun = [Segment(place.start, [TAG, LINE, DIGIT + one, COLON]) for one in range(len(counts))]
    w.threads(names, begun, counts)
    ends = [BranchEnd(place.start.after(one), one.tokens, tail=1) for one in begun]
    return w.thread(f"{at} join", place.joined(ends), [JOIN, LINE], 7)


def blocks(rule: Placement) -> Callable[[Writing], None]:
    """Two blocks of unequal branches, the second after the first one's conclusion (NPR)."""

    def run(w: Writing) -> None:
        context = w.thread("plan", w.given("prompt", Context(), PROMPT), [], 9)
        context = _block(w, "1", context, (6, 11, 3), rule)
        _block(w, "2", context, (4, 2), rule)

    return run


def nested(rule: Placement) -> Callable[[Writing], None]:
    """A branch of a block forks again before it ends (Multiverse)."""

    def run(w: Writing) -> None:
        context = w.thread("plan", w.given("prompt", Context(), PROMPT), [], 9)
        place = w.place("0 line", context, rule, [LINE])
        begun = [Segment(place.start, [TAG, LINE, DIGIT + index, COLON]) for index in range(2)]
        w.threads(["0 branch 0", "0 branch 1"], begun, (5, 8))
        inner = _block(w, "1", place.start.after(begun[0]), (6, 3), rule)
        contexts = inner, place.start.after(begun[1])
        ends = [BranchEnd(context, [], tail=1) for context in contexts]
        w.thread("0 join", place.joined(ends), [JOIN, LINE], 7)

    return run


def _laid_block(
    laid: Laid, at: str, end: int, sees: list[str], width: int, trained: bool
) -> tuple[int, list[str]]:
    """Positions by the published rules, ``end`` being that of the token that closes the plan."""
    names = [f"{at} branch {index}" for index in range(width)]
    longest = max(len(laid.tokens[name]) - 1 for name in names)  # the token after a closer is apart
    laid.put(f"{at} line", end + 1, sees)
    sees = [*sees, f"{at} line"]
    for name in names:
        laid.put(name, end + (1 if trained else 2), sees)
    sees = [*sees, *names]
    behind = laid.put(f"{at} join", end + longest + (1 if trained else 3), sees)
    return behind, [*sees, f"{at} join"]


def blocks_layout(trained: bool) -> Callable[[Laid], None]:
    def lay(laid: Laid) -> None:
        behind = laid.put("plan", laid.put("prompt", 0), ["prompt"])
        behind, sees = _laid_block(laid, "1", behind - 1, ["prompt", "plan"], 3, trained)
        _laid_block(laid, "2", behind - 1, sees, 2, trained)

    return lay


def nested_layout(trained: bool) -> Callable[[Laid], None]:
    def lay(laid: Laid) -> None:
        end = laid.put("plan", laid.put("prompt", 0), ["prompt"]) - 1
        laid.put("0 line", end + 1, ["prompt", "plan"])
        sees, first = ["prompt", "plan", "0 line"], end + (1 if trained else 2)
        inner = laid.put("0 branch 0", first, sees) - 1
        after = laid.put("0 branch 1", first, sees)
        behind, deep = _laid_block(laid, "1", inner, [*sees, "0 branch 0"], 2, trained)
        # Each branch ends with one token more, which is no part of its length.
        longest = max(behind - 1, after - 1) - first
        at = end + longest + (1 if trained else 3)
        laid.put("0 join", at, [*deep, "0 branch 1"])

    return lay


# ParaThinker: paths from the prompt's end, each with its vector, and a summary over all


def paths(rule: Placement) -> Callable[[Writing], None]:
    def run(w: Writing) -> None:
        prompt = w.given("prompt", Context(), PROMPT)
        begun = [Segment(prompt, [TAG + index], path=index) for index in (1, 2, 3)]
        w.threads(["path 1", "path 2", "path 3"], begun, (5, 12, 9))
        contexts = [prompt.after(one) for one in begun]
        contexts[0] = w.given("pads", contexts[0], [PAD] * 4, path=1)
        ends = [BranchEnd(context, []) for context in contexts]
        w.thread("summary", w.place("", prompt, rule).joined(ends), [JOIN, LINE], 8)

    return run


def paths_layout(engine: bool) -> Callable[[Laid], None]:
    def lay(laid: Laid) -> None:
        end = laid.put("prompt", 0)
        ends = [laid.put(f"path {index}", end, ["prompt"], index) for index in (1, 2, 3)]
        ends.append(laid.put("pads", ends[0], ["prompt", "path 1"], 1))
        every = ["prompt", "path 1", "path 2", "path 3", "pads"]
        laid.put("summary", max(ends) + (end if engine else 0), every)

    return lay


# Parallel-R1: as its Unseen models were trained; as all are rolled out, and Seen were trained


def unseen(w: Writing) -> None:
    base = w.thread("plan", w.given("prompt", Context(), PROMPT), [], 9)
    place = w.place("", base, family("parallel-r1-unseen").placement("trained"))
    begun = [Segment(place.start, [TAG]) for _ in range(2)]
    w.threads(["path 1", "path 2"], begun, (5, 8))
    ends = [BranchEnd(place.start.after(one), one.tokens) for one in begun]
    w.thread("summary", place.joined(ends), [END, LINE, JOIN], 7)


def unseen_layout(laid: Laid) -> None:
    opened = laid.put("plan", laid.put("prompt", 0), ["prompt"]) - 1
    sees = ["prompt", "plan"]
    ends = [laid.put(f"path {index}", opened + 1, sees) for index in (1, 2)]
    longest = max(ends) - opened - 1
    laid.put("summary", opened + longest + 1, [*sees, "path 1", "path 2"])


def reread(rule: Placement, lead: Sequence[int], numbered: bool) -> Callable[[Writing], None]:
    """Branches, then all of their text as one (Parallel-R1's rollouts, ThreadWeaver)."""

    def run(w: Writing) -> None:
        base = w.thread("plan", w.given("prompt", Context(), PROMPT), [], 9)
        place = w.place("line", base, rule, lead)
        heads = [[TAG, *([LINE, DIGIT + one, COLON] if numbered else [])] for one in (1, 2, 3)]
        begun = [Segment(place.start, head) for head in heads]
        w.threads(["path 1", "path 2", "path 3"], begun, (5, 8, 2))
        joined = place.joined([BranchEnd(place.start.after(one), one.tokens) for one in begun])
        w.segments["text"] = joined.entries[-1].segment
        w.thread("goes on", joined, [END, LINE], 7)

    return run


def reread_layout(laid: Laid) -> None:
    """All branches behind the plan; their text, one after the other, as if nobody had forked."""
    end, sees = laid.put("plan", laid.put("prompt", 0), ["prompt"]), ["prompt", "plan"]
    if "line" in laid.tokens:
        end = laid.put("line", end, sees)
        sees = [*sees, "line"]
    for name in ("path 1", "path 2", "path 3"):
        laid.put(name, end, sees)
    assert laid.tokens["text"] == [
        token for one in (1, 2, 3) for token in laid.tokens[f"path {one}"]
    ]
    laid.put("goes on", laid.put("text", end, sees), [*sees, "text"])


def _branches_unmoved(laid: Laid) -> None:
    """What `reread_layout` is not: the text is made of what the branches computed."""
    reread_layout(laid)
    span = laid.spans["goes on"]
    paths = tuple(f"path {one}" for one in (1, 2, 3))
    laid.spans["goes on"] = span._replace(sees=(*span.sees[:-1], *paths))


# APR and SPRINT: plain texts, each read on its own; the joined text replaces what asked for it


def texts(w: Writing) -> None:
    prompt = w.given("prompt", Context(), PROMPT)
    w.thread("asks", prompt, [], 9)
    asked = w.segments["asks"].tokens
    tasks = [Context.given([JOIN, *asked[at : at + 3]]) for at in (2, 5)]
    for index, task in enumerate(tasks):
        w.segments[f"task {index}"] = task.entries[0].segment
        w.thread(f"child {index}", task, [], 6)
    answers = [token for index in range(2) for token in w.segments[f"child {index}"].tokens[-2:]]
    w.thread("goes on", prompt, [*asked[:2], TAG, *answers, END], 7)


def texts_layout(laid: Laid) -> None:
    end = laid.put("prompt", 0)
    laid.put("asks", end, ["prompt"])
    for index in range(2):
        laid.put(f"child {index}", laid.put(f"task {index}", 0), [f"task {index}"])
    laid.put("goes on", end, ["prompt"])


class Family(NamedTuple):
    """A family's run, and what its authors compute.

    Attributes:
        wrong: Other computations, by name, which must not be taken for it.
        vectors: Whether its model marks paths.
    """

    run: Callable[[Writing], None]
    layout: Callable[[Laid], None]
    wrong: Mapping[str, Callable[[Laid], None]]
    vectors: bool = False


def showing(layout: Callable[[Laid], None], viewer: str, seen: str) -> Callable[[Laid], None]:
    """A layout in which one span sees another one as well."""

    def lay(laid: Laid) -> None:
        layout(laid)
        span = laid.spans[viewer]
        laid.spans[viewer] = span._replace(sees=(*span.sees, seen))

    return lay


def _serial(laid: Laid) -> None:
    """All spans in ordinary positions, and each sees what stands before it."""
    before, at = list[str](), 0
    for name in laid.tokens:
        at = laid.put(name, at, before)
        before.append(name)


_SIBLING = "1 branch 1", "1 branch 0"
_KEPT = {"the keys of branches kept": _branches_unmoved}
FAMILIES: dict[str, Family] = {
    "ThreadWeaver": Family(
        reread(family("threadweaver").placement(), [LINE], True),
        reread_layout,
        {"a sibling seen": showing(reread_layout, "path 2", "path 1"), **_KEPT},
    ),
    "Multiverse, as trained": Family(
        nested(family("multiverse").placement("trained")),
        nested_layout(True),
        {
            "as in its engine": nested_layout(False),
            "a sibling seen": showing(nested_layout(True), *_SIBLING),
            "serial": _serial,
        },
    ),
    "Multiverse, in its engine": Family(
        nested(family("multiverse").placement("engine")),
        nested_layout(False),
        {"as trained": nested_layout(True)},
    ),
    "NPR, as trained": Family(
        blocks(family("npr").placement("trained")),
        blocks_layout(True),
        {
            "as in its engine": blocks_layout(False),
            "a sibling seen": showing(blocks_layout(True), *_SIBLING),
        },
    ),
    "NPR, in its engine": Family(
        blocks(family("npr").placement("engine")),
        blocks_layout(False),
        {"as trained": blocks_layout(True)},
    ),
    "Parallel-R1 Unseen, as trained": Family(
        unseen,
        unseen_layout,
        {"as rolled out": _serial, "a sibling seen": showing(unseen_layout, "path 2", "path 1")},
    ),
    "Parallel-R1 Unseen, rolled out": Family(
        reread(family("parallel-r1-unseen").placement("engine"), [], False), reread_layout, _KEPT
    ),
    "Parallel-R1 Seen": Family(
        reread(family("parallel-r1-seen").placement(), [], False),
        reread_layout,
        {"a sibling seen": showing(reread_layout, "path 2", "path 1")},
    ),
    "ParaThinker, as trained": Family(
        paths(family("parathinker").placement("trained")),
        paths_layout(False),
        {
            "as in its engine": paths_layout(True),
            "a sibling seen": showing(paths_layout(False), "path 2", "path 1"),
        },
        vectors=True,
    ),
    "ParaThinker, in its engine": Family(
        paths(family("parathinker").placement("engine")),
        paths_layout(True),
        {"as trained": paths_layout(False)},
        vectors=True,
    ),
    "APR and SPRINT": Family(
        texts, texts_layout, {"a child sees its parent": showing(texts_layout, "child 0", "asks")}
    ),
}
