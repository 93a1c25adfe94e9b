"""Folders of published models are recognised by what is in them, and run to an end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
from click.testing import CliRunner, Result

from orchestrator.errors import InvalidValue, UnknownName
from reasoning import Reasoner, load_model
from reasoning.cli import main
from reasoning.engine.config import read_config
from reasoning.errors import ModelUnusable
from reasoning.language.loading import load_dialect
from reasoning.language.native.catalog import FAMILIES, choose_format, family, recognise_format
from reasoning.language.native.dialect import NativeDialect
from reasoning.models.loading import load_model as load
from tests.support.native_tools import loose, random_model, write_tokenizer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny random model of each family."""
    root = tmp_path_factory.mktemp("models")
    return {name: random_model(root / name, name) for name in FAMILIES}


def reason(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, list(arguments))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_is_recognised_and_ends_well(folders: dict[str, Path], name: str) -> None:
    question = "Use 3, 10, 21 and 23 to make 50" if name == "apr" else "Why?"
    done = reason("solve", question, "--model", str(folders[name]), "--max-tokens", "600", "--json")
    assert done.exit_code in (0, 1), done.stderr
    how = "by its name" if not family(name).controls else "control tokens)"
    assert f"dialect: {name} (" in done.stderr.splitlines()[0]
    assert how in done.stderr.splitlines()[0]
    report = json.loads(done.stdout)
    assert report["strategy"] == "native"
    assert report["forked"] in (True, False)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", [one for one in FAMILIES if family(one).controls])
async def test_whatever_a_model_writes_comes_to_an_end(folders: dict[str, Path], name: str) -> None:
    model = load_model(folders[name])
    dialect = NativeDialect(folders[name], model.dialect.ends, loose(family(name)), layers=2)
    forked = 0
    async with Reasoner(replace(model, dialect=dialect)) as reasoner:
        for seed in range(12):
            found = await reasoner.solve(
                "Why?", seed=seed, temperature=1.0, max_tokens=700, strategy="native:depth=3,n=6"
            )
            assert found.status == "finished"
            assert reasoner.model.backend.open_threads == 0
            forked += found.forked is True
    assert forked


def test_the_tongue_may_be_named_and_switched_off(folders: dict[str, Path]) -> None:
    folder = str(folders["multiverse"])
    plain = reason("solve", "Why?", "--model", folder, "--dialect", "none", "--max-tokens", "64")
    assert "dialect:" not in plain.stderr
    named = "multiverse:positions=engine"
    asked = reason("solve", "Why?", "--model", folder, "--dialect", named, "--max-tokens", "200")
    assert asked.stderr.startswith("dialect: multiverse (as asked)")
    wrong = reason("solve", "Why?", "--model", folder, "--dialect", "npr")
    assert wrong.exit_code == 1
    assert "the control string '<guideline>' of npr is" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
    unknown = reason("solve", "Why?", "--model", folder, "--dialect", "multivers")
    assert "did you mean 'multiverse'?" in unknown.stderr


def test_an_evaluation_counts_as_the_authors_do_and_says_who_forked(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    rows = [{"question": f"Which is number {n}?", "answer": n} for n in range(3)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = ("eval", str(tmp_path / "mine.jsonl"), "-o", str(tmp_path / "kept.jsonl"))
    asked += ("--strategy", "native:n=2")
    more = ("--model", str(folders["ssft"]), "--max-tokens", "120")
    done = reason(*asked, *more, "--json")
    assert done.exit_code == 0, done.stderr
    (row,) = json.loads(done.stdout)["results"]
    runs = row["runs"]
    assert (row["policy"], runs["forked"], runs["threads"]) == ("native:n=2", 1.0, 2.0)
    counted = runs["parallel"]
    assert counted["degree"] >= 1
    assert counted["longest_thread"] <= counted["tokens"]
    assert 0 <= counted["acceleration"] <= counted["parallel_ratio"] <= 1
    told = reason(*asked, *more).stdout
    assert "forked in 100.0% ·" in told
    assert "longest thread" in told


def test_a_name_is_read_in_hugging_faces_cache(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "models--stepfun-ai--PaCoRe-8B" / "snapshots" / "0a1b"
    copytree(folders["pacore"], folder)
    found = load_dialect(folder, read_config(folder))
    assert isinstance(found, NativeDialect)
    assert found.recognised == "dialect: pacore (by its name)"


def test_a_family_of_ones_own_is_a_file(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("""
name = "own"
controls = [{ text = "<Path>" }, { text = "</Path>" }]
[fork.plan]
width = "caller"
count = 3
[branch]
header = "<Path>"
ends = ["</Path>"]
[join]
after = "</Parallel>"
""")
    own, folder = str(tmp_path / "own.toml"), str(folders["multiverse"])
    more = ("--max-tokens", "300", "--json", "--temperature", "1")
    done = reason("solve", "Why?", "--model", folder, "--dialect", own, *more)
    assert done.stderr.startswith("dialect: own (as asked)")
    report = json.loads(done.stdout)
    assert report["forked"] is True
    assert [one["name"] for one in report["threads"] if "." in one["id"]] == [
        *("branch 1", "branch 2", "branch 3")
    ]


def test_missing_vectors_are_refused_by_name(tmp_path: Path) -> None:
    folder = random_model(tmp_path, "parathinker", vectors=False)
    with pytest.raises(ModelUnusable, match=r"model\.layers\.0\.self_attn\.seg_embeddings\.weight"):
        load(folder)


def test_a_broken_tokenizer_of_a_family_is_no_chat_model(tmp_path: Path) -> None:
    strings = [one.text for one in family("threadweaver").controls if one.text != "</Thread>"]
    write_tokenizer(tmp_path, strings)
    found = recognise_format(strings, "some/model")
    assert found is family("threadweaver")
    with pytest.raises(ModelUnusable, match="'</Thread>' of threadweaver is 9 tokens"):
        NativeDialect(tmp_path, frozenset(), found)


def test_other_numbers_are_refused_where_they_were_read(tmp_path: Path) -> None:
    controls = '[{ text = "<fork>", id = 7 }, { text = "</fork>" }]'
    words = f'name = "own"\ncontrols = {controls}\n[join]\nafter = "x"\n'
    (tmp_path / "own.toml").write_text(words)
    write_tokenizer(tmp_path, ["<fork>", "</fork>"])
    format = choose_format(str(tmp_path / "own.toml"))
    with pytest.raises(ModelUnusable, match=r"'<fork>' is token 26\d, and own has 7"):
        NativeDialect(tmp_path, frozenset(), format)
    derived = format.model_copy(update={"derived": True})
    assert "and own has 7 (derived" in NativeDialect(tmp_path, frozenset(), derived).recognised


@pytest.mark.parametrize(
    ("added", "name", "expected"),
    [
        ([*(c.text for c in family("multiverse").controls)], "a/b", "multiverse"),
        ([*(c.text for c in family("parathinker").controls)], "a/b", "parathinker"),
        ([*(c.text for c in family("ssft").controls)], "a/b", "ssft"),
        ([*(c.text for c in family("parallel-r1-seen").controls)], "a/b", "parallel-r1-unseen"),
        ([*(c.text for c in family("npr").controls), "<think>", "</think>"], "a/b", "npr"),
        (["<think>", "</think>", "<tool_call>"], "Qwen/Qwen3-8B", None),
        (["<|im_end|>"], "stepfun-ai/PaCoRe-8B", "pacore"),
        ([], "models--x/snapshots", None),
    ],
)
def test_families_are_told_apart(added: list[str], name: str, expected: str | None) -> None:
    found = recognise_format(added, name)
    assert (found and found.name) == expected


def test_the_name_tells_families_with_equal_strings_apart() -> None:
    strings = [control.text for control in family("parallel-r1-seen").controls]
    assert recognise_format(strings, "x/Parallel-R1-Seen").name == "parallel-r1-seen"
    assert recognise_format(strings, "x/Parallel-R1-Unseen").name == "parallel-r1-unseen"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name = 3", "name: Input should be a valid string"),
        ('name = "a"\n[fork]\nat = ["<x>"]', "fork.at: '<x>' is not among the controls"),
        ('name = "a"\n[fork.plan]\nwidth = "plan"', "a width from the plan needs item"),
        ('name = "a"\n[fork.plan]\nopener = "x"\nitem = "("', "is no regular expression"),
        ('name = "a"\n[answer]\npattern = "(a)(b)"', "has 2 groups"),
        ('name = "a"\ncolour = 1', "colour: Extra inputs are not permitted"),
        ('name = "a"', "own.toml: join.after: a model goes on behind some words alone"),
        ('name = "a"\n[fork.plan]\nopener = "x"\nitem = "a{9999999999}"', "number is too large"),
        ('name = "a"\ncontrols = [{ text = "x", id = true }]', "controls.0.id: Input should be"),
        ('name = "a"\ncontrols = [{ text = "x" }, { text = "x" }]', "'x' stands there twice"),
        ('name = "a"\n[prompt]\nuser = "Think."', "prompt: user lacks {question}"),
        ('name = "a"\n[prompt]\nraw = "{bos}"', "prompt: raw lacks {question}"),
        ('name = "a"\n[prompt]\ndomain = "chess"', "prompt.domain: Input should be"),
        ('name = "a"\n[sampling]\nheat = 1', "sampling: 'heat' is unknown; give temperature"),
        ('name = "a"\n[sampling]\ntemperature = nan', "sampling: temperature: nan is out of range"),
        ('name = "a"\n[sampling]\ntop_k = 2.5', "sampling: top-k: 2.5"),
        ('name = "a"\n[branch]\ntemperature = inf', "branch.temperature: Input should be"),
        ('name = "a"\n[branch]\ncut = "end"\n[join]\nfirst = 1\nafter = "x"', "join.first cuts"),
        ('name = "a"\nwidths = [4, 1]\n[join]\nafter = "x"', "widths and function"),
        ('name = "a"\nfunction = "references"\nwidths = [4]', "let the last number be 1"),
        ('name = "a"\nfunction = "references"\nwidths = [4, 1]', "rounds but the first, lacks"),
        ("a = " + "[" * 5000, "is no TOML"),
        (" ", "own.toml is empty"),
        ("#" * (1 << 20) + "#", "own.toml is larger than 1 MiB"),
        ('name = "a"\n[branch]\ncloser = "x"\ntail = 1', "with a tail it can't"),
        ('name = "a"\n[branch]\nrewritten = ["x"]', "rewritten needs rewritten_to"),
        ('name = "a"\n[trained]\nbranch = -9', "trained.branch: Input should be greater"),
        ('name = "a"\nwidths = [4, 0]', "widths.1: Input should be greater"),
        ("name =", "is no TOML"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_its_field(
    tmp_path: Path, text: str, why: str
) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(InvalidValue, match="dialect: ") as refusal:
        choose_format(str(tmp_path / "own.toml"))
    assert why in str(refusal.value)


def test_a_python_file_may_make_a_tongue(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from reasoning.language.native.catalog import family\n"
        "def mine(most: int = 2):\n"
        "    return family('ssft').model_copy(update={'name': f'mine{most}'})\n"
    )
    assert choose_format(f"{tmp_path / 'own.py'}:mine:most=3").name == "mine3"
    with pytest.raises(InvalidValue, match=r"no-such\.toml can't be read"):
        choose_format("no-such.toml")
    with pytest.raises(UnknownName, match=r"'nothing' does not exist.* none, FILE\.toml"):
        choose_format("nothing")


@pytest.mark.parametrize("body", ["raise RuntimeError('boom')", "raise SystemExit(3)"])
def test_what_a_function_of_ones_own_raises_is_told_as_its_own(tmp_path: Path, body: str) -> None:
    (tmp_path / "own.py").write_text(f"def mine():\n    {body}\n")
    with pytest.raises(InvalidValue, match=r"own.py:mine made nothing \((Runtime|System)E"):
        choose_format(f"{tmp_path / 'own.py'}:mine")


def test_a_setting_that_a_prompt_has_no_place_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("\ufeffDo {question} by {references}.\n")
    words = f"instruction={tmp_path / 'words.txt'}"
    with pytest.raises(InvalidValue, match="instruction: the prompt of threadweaver has none"):
        choose_format(f"threadweaver:{words}")
    with pytest.raises(InvalidValue, match="opening: the prompt of parathinker has none"):
        choose_format("parathinker:opening=Well")
    assert choose_format(f"pacore:{words}").prompt.instruction.startswith("Do {question}")
    (tmp_path / "words.txt").write_text("Do {question}.")
    with pytest.raises(InvalidValue, match=r"pacore: prompt.instruction.* lacks \{references\}"):
        choose_format(f"pacore:{words}")
    with pytest.raises(InvalidValue, match="instruction: /dev/null is empty"):
        choose_format("npr:instruction=/dev/null")
