"""What every strategy does on real servers, beside what the table of what runs where says of it.

    python benchmarks/servers.py benchmarks/results/servers.json vllm=http://127.0.0.1:8000/v1 ...

Each server is asked one question under each strategy, and gets a row in place of its older one.
Threads write 32 tokens at most: this is about what strategies do on a server, not about answers.
It fails where a strategy does not do what ``reason doctor`` says.  ``scripts/test-servers`` starts
the servers and calls this.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import anyio

from reasoning import Reasoner, Solution
from reasoning.cli.diagnosis import diagnose
from reasoning.errors import CapabilityMissing
from reasoning.models.server import ServerSource
from reasoning.strategies import STRATEGIES
from reasoning.strategies.support import StrategySupport

QUESTION = "What are the capitals of France, of Spain and of Italy?"
SMALL: dict[str, Any] = {
    "max_tokens": 1024,
    "max_new_tokens": 32,
    "timeout": 240.0,
    "scorer": lambda question, text, answer: 0.5,  # for strategies that need one
}
NAMED = {one for name in STRATEGIES.names for one in STRATEGIES.make(name).emulates.values()}


async def survey(url: str, **settings: Any) -> dict[str, Any]:
    """What the doctor says of a server, and what each strategy then does."""
    source = ServerSource(base_urls=(url,), **settings)
    report = await diagnose(source)
    facts = report.facts[0]
    rows = [await _row(said, source) for said in report.strategies]
    if facts.scoring and report.mode == "chat":  # the only way in which two models fit there
        rows = [row for row in rows if "--draft" not in row["said"]]
        in_text = source.model_copy(update={"mode": "text"})
        drafted = [said for said in report.strategies if said.draft_missing]
        rows += [{**await _row(said, in_text), "mode": "text"} for said in drafted]
    known = {"server": facts.server, "version": facts.version, "context": facts.context}
    return {**known, "mode": report.mode, "facts": facts.facts, "strategies": rows}


async def _row(said: StrategySupport, source: ServerSource) -> dict[str, Any]:
    """One strategy, with two threads; a draft is the same model once more."""
    name, started = said.strategy, time.monotonic()
    strategy = name if name == "single" else f"{name}:n=2"
    model = await source.connect()
    draft = await source.connect() if STRATEGIES.make(name).drafted else None
    try:
        async with Reasoner(model, draft=draft) as reasoner:
            solution = await reasoner.solve(QUESTION, strategy=strategy, **SMALL)
    except CapabilityMissing as error:
        why = str(error).replace(model.name, Path(model.name).name)  # some servers name a folder
        return {"strategy": name, "did": "refused", "why": why, "said": said.word}
    return {
        "strategy": name,
        "did": "emulated" if NAMED & set(solution.emulated) else "runs",
        "said": said.word,
        **_told(solution),
        "seconds": round(time.monotonic() - started, 1),
    }


def _told(solution: Solution) -> dict[str, Any]:
    return {
        "status": solution.status,
        "emulated": list(solution.emulated),
        "threads": len(solution.threads),
        "lost": sum(thread.lost is not None for thread in solution.threads),
        "errors": list(solution.errors),
        "fork_refused": solution.fork_refused,
        "tokens": solution.usage.completion_tokens,
        "answer_source": solution.answer_source,
        "answer": solution.answer,
    }


def differing(found: dict[str, Any]) -> list[str]:
    """The strategies that did something else than was said of them."""
    wrong = []
    for row in found["strategies"]:
        refused = row["did"] == "refused"
        drafted = "--draft" in row["said"]  # what the pair can do is known when both are there
        if refused != row["said"].startswith("refused") and not drafted:
            wrong.append(f"{row['strategy']}: {row['said']}, but {row['did']}")
        unsaid = [one for one in NAMED & set(row.get("emulated", ())) if one not in row["said"]]
        if unsaid and not drafted:
            wrong.append(f"{row['strategy']}: did {', '.join(unsaid)}, unsaid")
    return wrong


def main(path: Path, servers: dict[str, str]) -> list[str]:
    results = json.loads(path.read_text()) if path.exists() else {}
    wrong = []
    for name, url in servers.items():
        found = anyio.run(survey, url)
        results[name] = found
        wrong += [f"{name}: {one}" for one in differing(found)]
        for row in found["strategies"]:
            print(name, *(f"{key}={value}" for key, value in row.items()), flush=True)
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return wrong


if __name__ == "__main__":
    asked = dict(one.split("=", 1) for one in sys.argv[2:])
    sys.exit("\n".join(main(Path(sys.argv[1]), asked)) or None)
