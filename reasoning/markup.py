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

VOCABULARY = (*NUMBERS, *SPECIAL, *MARKERS, *PUNCTUATION)
VOCABULARY_SIZE = 1088  # padded to a multiple of 64
LARGEST = len(NUMBERS) - 1

BUDGETS = range(1, 33)
"""How many children a thread may be allowed to spawn."""
