"""Native tongues in plain text: threads that stop at texts and go on after others."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reasoning.run.thread import Thread, ThreadOptions
from reasoning.strategies.tongues.speaker import Speaker
from reasoning.values.context import Context, Segment


@dataclass(kw_only=True)
class TextSpeaker(Speaker):
    """A tongue whose strings are pieces of text and no tokens of their own.

    What a thread wrote keeps its token ids as far as its text stays; what is put in its place is
    encoded, as it would be in the authors' loops, which work on texts.
    """

    def options(self, stops: tuple[str, ...] = (), most: int | None = None) -> ThreadOptions:
        """A thread that stops at texts beside its own end."""
        usual = self.run.sampling
        heat = self.run.temperature
        sampling = replace(usual, temperature=heat, stop=(*usual.stop, *stops))
        chain = self.bounds.chain
        return ThreadOptions(stop=self.dialect.ends, most=most, chain=chain, sampling=sampling)

    def go_on(self, thread: Thread, text: str) -> bool:
        """Let the trunk go on after ``text``, in place of all that it had written and been given.

        Returns False where there is no room for it.
        """
        kept, new = self.split(thread, text)
        if not new:  # whoever goes on must be given something: the last token before it
            kept, new = kept - 1, thread.end.tokens[kept - 1 : kept]
        context = self.kept(thread, kept)
        return thread.resume(context, "", segment=Segment(context, new))

    def behind(self, thread: Thread, text: str) -> Context:
        """What a thread sees that starts where the trunk is, with ``text`` behind its prompt."""
        kept, new = self.split(thread, text)
        context = self.kept(thread, kept)
        return context.then(new) if new else context

    def split(self, thread: Thread, text: str) -> tuple[int, list[int]]:
        """How many tokens of the trunk say its prompt and ``text``, and the tokens of the rest."""
        seen, decoder = thread.end.tokens, self.dialect.decoder()
        said, known, kept = "", 0, len(self.prompt)
        for index, token in enumerate(seen[kept:], start=kept):
            said += decoder.feed(token)
            if token in self.dialect.ends or not text.startswith(said):
                break
            if len(said) > known:  # the first bytes of a letter say nothing yet
                kept, known = index + 1, len(said)
        return kept, self.dialect.encode(text[known:])

    def given(self, text: str) -> Context:
        """A prompt of its own, with the token that begins texts."""
        return Context.given(self.dialect.begin(text))
