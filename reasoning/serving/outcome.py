"""What a solution comes to as a server's result: whose words are the answer, and what all cost."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

from protocol.http import ChosenAnswer, FunctionCall, ReasoningRequest, ReasoningResult
from protocol.http.errors import Refusal
from reasoning.run.selection import CHOOSING
from reasoning.run.solution import Solution, ThreadRecord
from reasoning.serving.observer import RunObserver
from reasoning.serving.splitting import ThoughtSplitter, closes_first
from reasoning.serving.structured import canonical_json, json_in, merged


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A solution of a request.

    Attributes:
        solution: What came of it.
        observer: What watched the run.
        prose: Whether branches say something after their thoughts.
        inside: Whether the prompt opens their thoughts.
        seed: The seed that was used.
        width: How many branches were to run.
    """

    request: ReasoningRequest
    solution: Solution
    observer: RunObserver
    prose: bool
    inside: bool
    seed: int
    width: int
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def result(self) -> ReasoningResult:
        """The server's result.

        Raises:
            Refusal: every branch was lost, or none wrote JSON that fits the form.
        """
        solution, usage = self.solution, self.solution.usage
        answers, notes = self._answers(), list(self.notes)
        steering = solution.steering
        return ReasoningResult(
            answers=answers,
            status=solution.status,
            cut=self.observer.cut,
            verified=solution.verified,
            confidence=solution.confidence,
            strategy=solution.strategy,
            policy=steering.policy if steering else None,
            selected_by=solution.selected_by,
            branches=len(solution.threads),
            width=self.width,
            prompt_tokens=usage.prompt_tokens,
            sent_tokens=usage.sent_tokens,
            cached_tokens=usage.cached_tokens or 0,
            completion_tokens=usage.completion_tokens,
            span_tokens=usage.span_tokens,
            saved_tokens=self._saved,
            leaked_tokens=usage.leaked_tokens,
            wall_s=solution.wall_s,
            votes=solution.votes,
            notes=(*notes, *solution.emulated),
            errors=solution.errors,
            unread=(*self.unread, *solution.ignored),
            seed=self.seed,
        )

    def cost(self) -> ReasoningResult:
        """The result of a run for which nobody waits any more, whatever it found."""
        nothing = replace(self.request, form=None)
        return replace(self, request=nothing).result()

    @property
    def _saved(self) -> int:
        """What samples that were stopped would have written, by the mean of those that ended."""
        threads = self._branches
        ended = [t.tokens for t in threads if t.state == "succeeded"]
        stopped = [t.tokens for t in threads if t.state == "cancelled"]
        left = self.width - len(ended)
        if self.solution.status != "finished" or not ended or left <= 0:
            return 0
        return max(0, round(left * sum(ended) / len(ended)) - sum(stopped))

    @property
    def _branches(self) -> list[ThreadRecord]:
        """The threads that answer; one that chooses between texts does not."""
        return [thread for thread in self.solution.threads if thread.name != CHOOSING]

    def _key(self, answer: str | None) -> str | None:
        """What an answer votes as."""
        key = answer and self.solution.problem.canonical(answer)
        return self.solution.merged.get(key, key) if key else None

    # ---- whose words ----------------------------------------------------------------------------

    def _answers(self) -> tuple[ChosenAnswer, ...]:
        wanted = self.request.options.answers
        chosen = self._assembled() if self.request.options.vote == "fields" else None
        if chosen is not None:
            return (chosen,)
        found = [self._said(thread) for thread in self._ranked()[:wanted]]
        if not found:
            self._lost()
            return (ChosenAnswer(text="", cut=True),)
        if self.request.form is not None:
            found = [self._formed(one) for one in found]
        return tuple(found)

    def _ranked(self) -> list[ThreadRecord]:
        """One thread for each answer, the best answer first; of none where nothing was written.

        Where no answer was read, each thread that came to its own end has one, and the first of
        these is the best.
        """
        solution = self.solution
        written = [thread for thread in self._branches if thread.text or thread.tool_calls]
        spoken = [thread for thread in written if thread.lost is None] or written
        groups: dict[str, list[ThreadRecord]] = {}
        for thread in spoken:
            key = self._key(thread.answer)
            groups.setdefault(f"={key}" if key else thread.id, []).append(thread)
        best = f"={self._key(solution.answer)}"

        def rank(key: str) -> tuple[bool, bool, int, int]:
            group = groups[key]
            return key != best, key[0] != "=", min(map(_unfinished, group)), -len(group)

        return [min(groups[key], key=_unfinished) for key in sorted(groups, key=rank)]

    def _said(self, thread: ThreadRecord) -> ChosenAnswer:
        """What a thread says: its text after its thoughts; of a shipped model, its answer."""
        cut = thread.cut or thread.state != "succeeded"
        if not self.prose:
            text = thread.answer or thread.said.strip()
            source = "unsolved" if thread.answer is None else thread.answer_source
            return ChosenAnswer(
                text=text, branch=thread.id, answer=thread.answer, source=source, cut=cut
            )
        thoughts, text = split(thread.said, inside=self.inside)
        calls = tuple(
            FunctionCall(name=one.name, arguments=one.arguments, id=_call_id(one.id))
            for one in (thread.tool_calls if self.request.offer is not None else ())
        )
        if calls and text.lstrip()[:1] in ("{", "["):
            text = ""  # the calls themselves, as some templates have them
        if not text.strip() and not calls and thread.answer is not None:
            text = thread.answer  # it was asked for in the middle of its thoughts
        return ChosenAnswer(
            text=text,
            thoughts=thoughts,
            calls=calls,
            branch=thread.id,
            answer=None if calls or thread.answer_source == "text" else thread.answer,
            source=thread.answer_source,
            cut=cut if not calls else not all(one.whole for one in thread.tool_calls),
            tokens=self.observer.spoken.get(thread.id, 0) if thoughts else thread.tokens,
        )

    def _formed(self, said: ChosenAnswer) -> ChosenAnswer:
        """What was said as JSON of the form.

        Raises:
            Refusal: it does not fit.
        """
        form = self.request.form
        assert form is not None
        found = said.answer or json_in(said.text)
        verdict = None if found is None else self.solution.problem.verify(found)
        if said.calls or (said.cut and not (verdict and verdict.ok)):
            return said
        if found is None or not (verdict and verdict.ok):
            why = "it is no JSON" if verdict is None else verdict.reason
            raise Refusal(
                502,
                "output_not_valid",
                f"{form.field}: none of {len(self.solution.threads)} branches wrote JSON that fits "
                f"the schema ({why}); ask again, or give more branches",
                param=form.field,
            )
        return replace(said, text=found, answer=canonical_json(json.loads(found)))

    def _assembled(self) -> ChosenAnswer | None:
        """The object that the branches vote for field by field; None where there is none."""
        form = self.request.form
        if form is None:
            return None
        fits = [a for a in self._candidates() if self.solution.problem.canonical(a) is not None]
        found = merged(fits, form)
        if found is None:
            return None
        return ChosenAnswer(text=found[0], answer=canonical_json(json.loads(found[0])))

    def _candidates(self) -> Iterator[str]:
        for thread in self.solution.threads:
            if thread.answer is not None:
                yield thread.answer

    def _lost(self) -> None:
        """Tell why no branch wrote anything.

        Raises:
            Refusal: the branches were lost.
        """
        if self.solution.errors:
            message = f"every branch was lost: {self.solution.errors[0]}"
            raise Refusal(502, "branches_lost", message)


def _call_id(id: str) -> str:
    """A call's id; one that only counts, as a template's calls have, becomes unique."""
    return id if len(id) > 8 else f"call_{uuid.uuid4().hex[:24]}"


def _unfinished(thread: ThreadRecord) -> int:
    """How far a thread is from an end of its own: 0 where it came to it."""
    broken = not all(call.whole for call in thread.tool_calls)
    return (thread.state != "succeeded") + 2 * (thread.cut or broken)


def split(text: str, *, inside: bool) -> tuple[str, str]:
    """The thoughts in a whole text, and what is said after them."""
    splitter = ThoughtSplitter(inside=inside or closes_first(text))
    pieces = [*splitter.feed(text), *splitter.end()]
    thoughts, said = ("".join(t for said, t in pieces if said is kind) for kind in (False, True))
    return thoughts, said
