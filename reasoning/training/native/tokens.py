"""A byte-level tokenizer for the native models, trained on their own problems.

Digits are tokens of their own, and so are line breaks and marks of punctuation, so that a text
gives the same tokens whether it is encoded whole or at the borders of threads.
"""

from __future__ import annotations

import random
from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from reasoning.training.native.problems import draw_problem

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
THINK, THINK_END = "<think>", "</think>"
CONTROL = tuple(
    f"<{mark}{name}>"
    for name in (
        *("Think", "Parallel", "Outlines", "Outline", "Thread", "Conclusion"),  # ThreadWeaver's
        *("Goal", "Path"),  # what Multiverse has beside
    )
    for mark in ("", "/")
)
VOCABULARY_SIZE = 1024
MERGED_SIZE = 960
"""Bytes and merges, at most; what is left up to `VOCABULARY_SIZE` is for control tokens."""
PIECES = r" ?\p{L}+| ?[^\s\p{L}\p{N}]|\p{N}|\s"

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

SUFFIXES = {
    "threadweaver": "Let's think step by step and output the final answer within \\boxed{}.",
    "multiverse": "Think step by step and in parallel before answering.",
    "serial": "Think step by step before answering.",
}
"""What stands behind a question, by mode: the published prompts of ThreadWeaver and Multiverse, and
the latter's serial one."""


@cache
def tokenizer() -> Tokenizer:
    """The tokenizer; the same one whenever it is trained."""
    result = Tokenizer(models.BPE())
    result.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    result.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=MERGED_SIZE, initial_alphabet=alphabet, show_progress=False
    )
    rng = random.Random("tokenizer")
    problems = [draw_problem(rng, held_out=False) for _ in range(2000)]
    said = "user\nassistant\nsystem\nLet's think in parallel. The answer is Answer: Done."
    texts = [*(f"{one.question} {one.answer}" for one in problems), *SUFFIXES.values(), said]
    result.train_from_iterator([*texts, *[*SUFFIXES.values(), said] * 20], trainer)
    result.add_special_tokens([END_OF_TEXT, START, END])
    result.add_tokens([AddedToken(one, normalized=False) for one in (THINK, THINK_END)])
    result.add_special_tokens(list(CONTROL))
    return result


def encode(text: str) -> list[int]:
    """A text as tokens."""
    ids: list[int] = tokenizer().encode(text, add_special_tokens=False).ids
    return ids
