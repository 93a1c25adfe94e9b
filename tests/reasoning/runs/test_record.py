"""What is kept of a run, and what must not be."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning import Solution, solve_sync
from reasoning.models.loaded import LoadedModel
from reasoning.runs.record import RecordedRun

KEY = "correct-horse-battery"


@pytest.fixture(scope="module")
def spawned(shipped: LoadedModel) -> Solution:
    return solve_sync("Use 3, 10, 21 and 23 to make 50", model=shipped)


@pytest.fixture(scope="module")
def sampled(shipped: LoadedModel) -> Solution:
    return solve_sync(
        "Compute (17*3+5)*4-12", model=shipped, policy="async:k=3,n=8", temperature=1.0
    )


def kept(solution: Solution, **settings: object) -> RecordedRun:
    return RecordedRun.of(solution, command="solve", settings=settings)


def test_a_parent_writes_before_its_children_and_goes_on_behind_them(spawned: Solution) -> None:
    parent, *children = kept(spawned).branches
    (first, spawn), (goes_on, end) = parent.stretches
    assert first == 0
    assert end - goes_on + spawn == spawned.threads[0].tokens
    for child, thread in zip(children, spawned.threads[1:], strict=True):
        ((begin, finish),) = child.stretches
        assert begin == spawn
        assert finish == begin + thread.tokens <= goes_on
    assert max(one.stretches[0][1] for one in children) == goes_on
    assert {one.why for one in children} == {"ended by itself"}


def test_a_branch_knows_its_vote_and_why_it_ended(sampled: Solution) -> None:
    run = kept(sampled)
    assert run.report.steering is not None
    ended = (one.vote for one in run.branches if one.why == "ended by itself")
    assert Counter(ended) == run.report.votes
    assert [one.number for one in run.branches] == list(range(len(run.branches)))
    for branch, thread in zip(run.branches, run.report.threads, strict=True):
        assert branch.id == thread.id
        assert (thread.ending == "stopped") == branch.why.startswith("stopped")


def test_a_record_is_the_same_when_it_is_read_again(spawned: Solution) -> None:
    run = kept(spawned, n=3, stop=("a", "b"))
    assert RecordedRun.from_json(run.to_json()) == run
    assert run.settings == {"n": 3, "stop": ["a", "b"]}
    assert run.versions.keys() >= {"parallel-reason", "python", "torch"}


@pytest.mark.parametrize(
    "settings",
    [
        {"engine": (f"api_key={KEY}", "timeout=3")},
        {"engine": (f"headers={{'X-Api-Key': '{KEY}'}}",)},
        {"api_key": KEY},
        {"base_urls": (f"https://me:{KEY}@models.example/v1",)},
        {"base_urls": (f"https://models.example/v1?api-key={KEY}&a=1",)},
        {"backend": f"openai:api_key={KEY}"},
        {"extra_body": {"headers": {"Authorization": f"Bearer {KEY}"}}},
        {"token_file": f"/home/me/{KEY}"},
    ],
    ids=str,
)
def test_a_secret_among_settings_is_nowhere_in_the_record(
    spawned: Solution, settings: dict[str, object]
) -> None:
    text = kept(spawned, **settings).to_json()
    assert KEY not in text
    assert "[hidden]" in text


def test_a_secret_that_an_error_or_a_model_repeats_is_hidden(
    spawned: Solution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    first, *others = spawned.threads
    told = replace(
        spawned,
        errors=(f"401: key {KEY} is refused", "https://me:pass-word@models.example: 403"),
        threads=(replace(first, text=f"It is {KEY}, or sk-abcdefghijklmnop1234."), *others),
    )
    text = kept(told, engine=("api_key=another-secret",)).to_json()
    for secret in (KEY, "pass-word", "abcdefghijklmnop", "another-secret"):
        assert secret not in text
    assert "401: key [hidden] is refused" in text
    assert "https://[hidden]@models.example: 403" in text


def test_what_only_sounds_secret_is_kept(spawned: Solution) -> None:
    settings = {"max_tokens": 512, "engine": ["probe_tokens=3"], "model": "org/tokenizer"}
    told = replace(spawned, final_text="The key: 3 apples. A token of love, mail me@home.example.")
    run = kept(told, **settings)
    assert run.settings == settings
    assert run.report.final_text == told.final_text


@given(st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=6, max_size=40))
def test_no_given_key_is_kept_whatever_it_looks_like(spawned: Solution, key: str) -> None:
    bare = spawned.to_json()
    if key in bare or key in kept(spawned).to_json():
        return  # it stands there by chance
    text = kept(replace(spawned, errors=(f"no: {key}",)), engine=(f"api_key={key}",)).to_json()
    assert key not in text


def test_half_a_character_can_be_kept(spawned: Solution) -> None:
    first, *others = spawned.threads
    told = replace(spawned, threads=(replace(first, text="a\ud800b\x00</script>"), *others))
    run = kept(told)
    assert RecordedRun.from_json(run.to_json()).report.threads[0].text == "a?b\x00</script>"
