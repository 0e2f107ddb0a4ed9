"""The history is copied and put back as docs/operations.md says."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
from chat_request import log_in
from host import Host, wait_until

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "operations.md").read_text()


def commands(after: str) -> str:
    """Return the commands that the page shows after these words."""
    shown = re.search(rf"{after}[^\n]*\n\n((?:    [^\n]*\n)+)", PAGE)
    assert shown is not None, after
    return shown[1]


def names(api: httpx.Client) -> list[str]:
    """Return the names of the conversations that the one person has."""
    return [thread["name"] for thread in threads(api)]


def threads(api: httpx.Client) -> list[dict[str, str]]:
    body = {"pagination": {"first": 50, "cursor": None}, "filter": {}}
    listed: list[dict[str, str]] = api.post("/project/threads", json=body).json()["data"]
    return listed


def test_history_comes_back_from_its_backup(api: httpx.Client, edge: Host) -> None:
    log_in(api)
    before = names(api)
    assert before, "the tests in the browser have left no conversation"
    edge.run(commands("Back up, while the chat runs"))
    copy = edge.run("ls /root/history-*.sqlite3")
    assert edge.run(f"stat --format=%a {copy}") == "600"
    for thread in threads(api):
        deleted = api.request("DELETE", "/project/thread", json={"threadId": thread["id"]})
        assert deleted.status_code == 200
    assert names(api) == []
    edge.run(re.sub(r"/root/history-[\d-]+\.sqlite3", copy, commands("Restore it:")))
    wait_until("the chat is back", lambda: api.get("/user").status_code == 200, 60)
    assert names(api) == before
    edge.run(f"rm {copy}")
