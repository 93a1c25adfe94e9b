"""``reason serve --ui``: who may look, and what they see."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.support.serving_tools import Server, serving

FIRST, SECOND = "first-key-0123456789", "second-key-0123456789"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    (keys := tmp_path_factory.mktemp("keys") / "keys").write_text(f"{FIRST}\n{SECOND}\n")
    with serving("--ui", "--api-key-file", str(keys)) as server:
        yield server


def asked(server: Server, path: str, key: str = FIRST) -> httpx.Response:
    """What a browser gets that was told the key as a password."""
    told = base64.b64encode(f"me:{key}".encode()).decode()
    return httpx.get(f"{server.url}{path}", headers={"Authorization": f"Basic {told}"}, timeout=60)


def listed(server: Server) -> list[dict[str, str]]:
    with httpx.stream(
        "GET", f"{server.url}/ui/events", headers={"Authorization": f"Bearer {FIRST}"}
    ) as found:
        line = next(one for one in found.iter_lines() if one.startswith("data: "))
    runs: list[dict[str, str]] = json.loads(line.removeprefix("data: "))
    return runs


def test_a_browser_is_asked_for_the_first_key_and_gets_the_pages(server: Server) -> None:
    refused = httpx.get(f"{server.url}/ui")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic ")
    assert asked(server, "/ui", SECOND).status_code == 403
    page = asked(server, "/ui")
    assert page.status_code == 200
    assert "connect-src 'self'" in page.text
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["cache-control"] == "no-store"


def test_a_password_opens_nothing_but_pages(server: Server) -> None:
    assert asked(server, "/v1/models").status_code == 401
    assert asked(server, "/uid").status_code == 401


def test_a_run_that_has_ended_is_shown_though_none_is_kept(server: Server) -> None:
    question = {"role": "user", "content": "Compute (17*3+5)*4-12"}
    request = {"model": "reason-5m/self-consistency", "messages": [question], "seed": 7}
    done = httpx.post(
        f"{server.url}/v1/chat/completions",
        json=request,
        timeout=60,
        headers={"Authorization": f"Bearer {SECOND}"},
    )
    assert done.status_code == 200
    (run,) = listed(server)
    assert run["question"].rstrip(".") == "Compute (17*3+5)*4-12"
    page = asked(server, f"/ui/runs/{run['id']}")
    assert f'"live":"/ui/runs/{run["id"]}/events"' in page.text
    events = asked(server, f"/ui/runs/{run['id']}/events").text
    assert '"212"' in events
    assert asked(server, "/ui/runs/00000000").status_code == 404
    assert FIRST not in page.text + events


def test_there_are_no_pages_where_none_are_asked_for() -> None:
    with serving() as server:
        assert httpx.get(f"{server.url}/ui").status_code == 404
