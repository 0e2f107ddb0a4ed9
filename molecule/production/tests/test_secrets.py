"""The planted secrets are nowhere but in the files that are made for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ansible_playbook
import pytest
from chat_request import USER
from host import Host

SEARCH = (Path(__file__).parent / "find_planted.sh").read_text()


def words(keys: dict[str, Any]) -> list[str]:
    """Return every planted secret."""
    clients = [client["key"] for client in keys["nginx_api_clients"]]
    people = [person["hash"] for person in keys["chainlit_users"]]
    ours = [keys[name] for name in ("vllm_api_key", "nginx_vllm_api_key", "chainlit_auth_secret")]
    return sorted({*ours, *clients, *people, USER[1]})


def search(host: Host) -> list[str]:
    return host.run(SEARCH).splitlines()


@pytest.fixture(autouse=True)
def planted(edge: Host, llm: Host, keys: dict[str, Any]) -> None:
    lines = "\n".join(words(keys))
    for host in (edge, llm):
        host.run(f"umask 077; cat >/root/.planted <<'END'\n{lines}\nEND")


@pytest.mark.parametrize("place", ["edge", "llm"])
def test_hosts(place: str, edge: Host, llm: Host) -> None:
    assert search({"edge": edge, "llm": llm}[place]) == []


def test_the_search_finds_what_is_there(llm: Host) -> None:
    llm.run("umask 022; head -1 /root/.planted >/var/lib/planted")
    llm.run("systemd-run --quiet --unit=planted sh -c 'sleep 60; : '$(head -1 /root/.planted)")
    try:
        seen = {line.split(":")[0] for line in search(llm)}
    finally:
        llm.run("rm -f /var/lib/planted; systemctl stop planted")
        llm.run("journalctl --rotate --quiet; journalctl --vacuum-time=1s --quiet")
    assert {"argv", "world-readable", "journal"} <= seen, seen


@pytest.mark.parametrize("options", [("--check", "--diff"), ("--diff",)])
def test_output_of_a_change(options: tuple[str, ...], keys: dict[str, Any], tmp_path: Path) -> None:
    """One key changes, so that the file that holds it is written before our eyes."""
    changed = [dict(client) for client in keys["nginx_api_clients"]]
    changed[1]["key"] = "planted-key-of-the-client-billing-2"
    variables = tmp_path / "keys.json"
    variables.write_text(json.dumps({"nginx_api_clients": changed}))
    options = ("-vvv", f"--extra-vars=@{variables}", *options)
    done = ansible_playbook.run("playbooks/gateway.yml", options=options)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Write the API keys" in done.stdout
    for word in [*words(keys), "planted-key-of-the-client-billing-2"]:
        assert word not in done.stdout, context(done.stdout, word)


def test_output_of_a_whole_run(keys: dict[str, Any]) -> None:
    done = ansible_playbook.run("site.yml", options=["-vvv", "--diff"])
    assert done.returncode == 0, done.stdout[-3000:]
    for word in words(keys):
        assert word not in done.stdout, context(done.stdout, word)


def context(output: str, word: str) -> str:
    """Return what stands around the first place where `word` stands."""
    place = output.index(word)
    return output[max(0, place - 1000) : place + 200]
