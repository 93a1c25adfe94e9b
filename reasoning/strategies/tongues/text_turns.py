"""Native tongues in plain text: threads that stop at texts and go on after others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from reasoning.run.thread import Thread, ThreadOptions
from reasoning.strategies.tongues.speaker import Speaker
from reasoning.values.context import Context, Segment


@dataclass(kw_only=True)
class TextSpeaker(Speaker):
    """A tongue whose strings are pieces of text and no tokens of their own.

    What a thread wrote keeps its token ids as far as its text stays; what is put in its place is
    encoded, as it would be in the authors' loops, which work on texts.
    """

    _lent: int = field(default=0, init=False)

    def options(self, stops: tuple[str, ...] = (), most: int | None = None) -> ThreadOptions:
        """A thread that stops at texts beside its own end."""
        usual = self.run.sampling
        heat = self.run.temperature
        sampling = replace(usual, temperature=heat, stop=(*usual.stop, *stops))
        return ThreadOptions(stop=self.dialect.ends, most=most, sampling=sampling)

    def go_on(self, thread: Thread, text: str) -> bool:
        """Let the trunk go on after ``text``, in place of all that it had written and been given.

        Returns False where there is no room for it.
        """
        context, tokens = thread.context, self.tokens_of(thread.segment, text)
        if not tokens:  # whoever goes on must be given something: the last token of its prompt
            seen, self._lent = context.tokens, 1
            context, tokens = Context.given(seen[:-1]), seen[-1:]
        return thread.resume(context, "", segment=Segment(context, tokens))

    def tokens_of(self, segment: Segment, text: str) -> list[int]:
        """A text in tokens: those of the trunk as far as they say the same, and new ones."""
        decoder, said, known, kept = self.dialect.decoder(), "", 0, self._lent
        for index, token in enumerate(segment.tokens[self._lent :], start=self._lent):
            said += decoder.feed(token)
            if token in self.dialect.ends or not text.startswith(said):
                break
            kept, known = index + 1, len(said)
        return [*segment.tokens[:kept], *self.dialect.encode(text[known:])]

    def given(self, text: str) -> Context:
        """A prompt of its own, with the token that begins texts."""
        return Context.given(self.dialect.begin(text))
