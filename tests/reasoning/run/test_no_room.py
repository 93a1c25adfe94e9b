"""Where a context has no room, a thread is cut, and a run ends with what its threads have."""

from __future__ import annotations

import pytest

from orchestrator.errors import InvalidValue
from reasoning import Context, Reasoner, Run, Thread, ThreadOptions
from tests.support.sharing_tools import (
    QUESTION,
    Letters,
    Paths,
    Script,
    Share,
    letter_model,
    scripted_run,
)

pytestmark = pytest.mark.anyio

LONG = "x" * 40


async def cut_by(run: Run, way: str) -> tuple[bool, str, str]:
    """What a thread comes to that has no room after an append, a resume or in a join."""
    found: list[tuple[bool, str, str]] = []

    async def body(thread: Thread) -> None:
        await thread.write()
        context = thread.end.then([ord(letter) for letter in LONG])
        if way == "go_on":
            with run.go_on(context) as joined:
                written = await joined.write()
                found.append((joined.cut, *written))
            return
        room = thread.append(LONG) if way == "append" else thread.resume(context, "more")
        assert not room
        found.append((thread.cut, *await thread.write()))

    async with run.graph:
        options = ThreadOptions(stop=frozenset({ord(".")}))
        run.spawn(body, Context.given([1, 2, 3]), options=options)
    return found[0]


@pytest.mark.parametrize("way", ["append", "resume", "go_on"])
async def test_append_resume_and_go_on_agree(way: str) -> None:
    run = scripted_run(Script(lambda seen, own: "ab."), max_tokens=20)
    assert await cut_by(run, way) == (True, "", "length")


async def test_a_prompt_that_is_too_long_is_an_error(shipped: object) -> None:
    with pytest.raises(InvalidValue, match=r"the prompt has \d+ tokens and the context is 16"):
        async with Reasoner(shipped) as reasoner:  # type: ignore[arg-type]
            await reasoner.solve(
                "Compute each: 3+4*5; (7-2)*6; 12*8-5", strategy="single", max_tokens=16
            )


@pytest.mark.parametrize("capabilities", [(), ("kv-join",)])
async def test_paths_vote_where_their_summary_has_no_room(capabilities: tuple[str, ...]) -> None:
    dialect = Letters(path_form=Paths(summary=LONG))
    script = Script(lambda seen, own: f"={own[0]}.", *capabilities)
    async with Reasoner(letter_model(dialect=dialect, script=script, context=30)) as reasoner:
        solution = await reasoner.solve(QUESTION, strategy="parathinker:need=3", n=None)
    assert "join-skipped" in solution.emulated
    assert sum(solution.votes.values()) >= 3
    assert solution.answer is not None


async def test_workers_answer_where_their_finisher_has_no_room() -> None:
    class Half(Share):
        def merged(self, texts: object) -> str | None:
            return None

    dialect = Letters(share_form=Half(most=1, finisher=LONG))
    script = Script(lambda seen, own: "ab.")
    async with Reasoner(letter_model(dialect=dialect, script=script, context=48)) as reasoner:
        solution = await reasoner.solve(QUESTION, strategy="hogwild:n=2")
    assert "join-skipped" in solution.emulated
    assert solution.status == "finished"
    assert all(thread.text for thread in solution.threads if thread.parent)
