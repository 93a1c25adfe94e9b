"""The native models' byte-level tokenizer.

Digits are tokens of their own, and so are line breaks and marks of punctuation, so that a text
gives the same tokens whether it is encoded whole or at the borders of threads.
"""

from __future__ import annotations

from functools import cache

from tokenizers import Tokenizer

from reasoning.models.catalog import find

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
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
    """The shipped model's tokenizer, which was trained on such problems; new models have it, too.

    It is kept with the model, so that what is taught may change and the tokens stay.
    """
    return Tokenizer.from_file(str(find("native-2m") / "tokenizer.json"))


def encode(text: str) -> list[int]:
    """A text as tokens."""
    ids: list[int] = tokenizer().encode(text, add_special_tokens=False).ids
    return ids
