"""The shipped model's language: one token per integer 0..999, operators, and a few markers.

A thread's prompt is ``<bos> MODE ... :``.  The markers are shared by the demonstrations that the
model learns from and by the strategies that read what it writes:

- ``<serial> 3 10 21 23 => 50 :`` one thread searches with backtracking;
- ``<apr> 16 : 3 10 21 23 => 50 :`` the thread may spawn at most 16 children;
- ``<calc> ( 17 * 3 + 5 ) * 4 :`` step-by-step arithmetic.

A parent writes one line per child, ``7 : 10 * 3 = 30 <spawn> 21 23 30 => 50 ;``, and then
``<join>``.  The child gets the message between ``<spawn>`` and ``;`` and nothing else.  When all
have ended, ``7 : 10 * 3 = 30 , 23 - 3 = 20 , 30 + 20 = 50 ;`` (the parent's note, then the child's
answer) is appended for each that answered, then ``</join>``, and the parent goes on: another
round, or its answer.  Every thread ends with
``<answer> ... <eos>`` or ``<none> <eos>``.

The second version of the markup adds threads that share what they wrote:

- ``<each> 1 : 3 + 4 ; 2 : 5 * 6 ; :`` several expressions, one after the other in one thread;
- ``<multi> 1 : 3 + 4 ; 2 : 5 * 6 ; :`` the thread outlines what can be done apart,
  ``1 ; 2 <fork>``; each branch starts with ``<path> 2 :`` and ends with ``</path>``, and the
  conclusion, which sees all branches, starts with ``<conclude>``;
- ``<para> 3 10 21 23 => 50 :`` several paths to one answer: path 2 starts with ``<think> 2`` and
  ends with ``</think>``, and the summary, which sees all paths, starts with ``<summary>``;
- ``<group> <list> 24 : 7 :`` (24 multiples of 7), ``<group> <calc> 1 : 3 + 4 ; 2 : 5 * 6 ; :`` and
  ``<group> <graph> 1 : 0 5 9 ; 2 : 4 0 2 ; 3 : 7 1 0 ; :`` (shortest paths): workers that see each
  other's tokens as they are written.  Worker 2 of 4 starts with ``<worker> 2 / 4 :`` and waits with
  ``~``; each of its lines starts with the item that it claims and ends with ``<done>``.
"""

from __future__ import annotations

PAD, BOS, EOS, UNKNOWN = "<pad>", "<bos>", "<eos>", "<unk>"
SERIAL, APR, CALC = "<serial>", "<apr>", "<calc>"
SPAWN, JOIN, JOINED = "<spawn>", "<join>", "</join>"
ANSWER, NONE = "<answer>", "<none>"

SPECIAL = (PAD, BOS, EOS, UNKNOWN)
MARKERS = (SERIAL, APR, CALC, SPAWN, JOIN, JOINED, ANSWER, NONE)
PUNCTUATION = ("+", "-", "*", "/", "=", "(", ")", ":", ";", ",", "?", "~", "=>", ">", ">>")
NUMBERS = tuple(map(str, range(1000)))

MULTI, EACH, PARA, GROUP, LIST, GRAPH = (
    "<multi>",
    "<each>",
    "<para>",
    "<group>",
    "<list>",
    "<graph>",
)
FORK, PATH, PATH_END, CONCLUDE = "<fork>", "<path>", "</path>", "<conclude>"
THINK, THINK_END, SUMMARY = "<think>", "</think>", "<summary>"
WORKER, DONE, WAIT = "<worker>", "<done>", "~"

SHARED = (
    *(MULTI, EACH, PARA, GROUP, LIST, GRAPH, FORK, PATH, PATH_END, CONCLUDE),
    *(THINK, THINK_END, SUMMARY, WORKER, DONE),
)
"""The markers of the second version, behind the first one's tokens."""

VOCABULARY = (*NUMBERS, *SPECIAL, *MARKERS, *PUNCTUATION, *SHARED)
VOCABULARY_SIZE = 1088  # padded to a multiple of 64
LARGEST = len(NUMBERS) - 1

BUDGETS = range(1, 33)
"""How many children a thread may be allowed to spawn."""

PATHS = range(1, 9)
"""How a path of ``<para>`` may be numbered; the model has an identity vector for each."""
WORKERS = range(1, 9)
"""How many workers may share a task."""
