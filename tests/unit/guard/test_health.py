"""What the guard tells the gateway: true to what the watch sees, and nothing else is served."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from .conftest import Release, until


def ask(release: Release, path: str = "/health") -> tuple[int, str]:
    """Return status and state."""
    url = f"http://127.0.0.1:{release.settings['health_port']}{path}"
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, str(json.load(response)["state"])
    except urllib.error.HTTPError as error:
        body = error.read().decode()
        return error.code, str(json.loads(body)["state"]) if body.startswith("{") else ""
    except OSError:
        return 0, ""


def test_ready_once_a_token_was_generated(release: Release) -> None:
    release.behave(delay=1.0)
    release.command("run", "qwen")
    until(lambda: ask(release) == (503, "starting"))
    assert release.ask("wait", "qwen")[0] == 0
    until(lambda: ask(release) == (200, "ready"))


@pytest.mark.parametrize(
    ("behaviour", "answer"),
    [
        ({"completions": "hang"}, (503, "hung")),
        ({"completions": "503"}, (503, "hung")),
        ({"completions": "503", "heartbeat": "probed"}, (200, "busy")),
        ({"completions": "hang", "heartbeat": "moving"}, (200, "ready")),
    ],
)
def test_follows_the_watch(
    release: Release, behaviour: dict[str, str], answer: tuple[int, str]
) -> None:
    release.settings["watch"]["failures"] = 100
    release.started()
    assert ask(release) == (200, "ready")
    release.change(**behaviour)
    if answer != (200, "ready"):
        until(lambda: ask(release) == answer)
    assert ask(release) == answer


def test_not_healthy_while_it_stops(release: Release) -> None:
    release.behave(on_term="ignore")
    process = release.started()
    process.terminate()
    until(lambda: ask(release) == (503, "dead"))


def test_serves_one_path(release: Release) -> None:
    release.started()
    assert ask(release, "/metrics") == (404, "")


def test_taken_port_is_told(release: Release) -> None:
    with socket.create_server(("127.0.0.1", release.settings["health_port"])):
        status, output = release.ask("run", "qwen")
    assert status == 78
    assert "health_port" in output
    assert "give the instance another health_port" in output


def test_a_dns_that_does_not_answer_delays_no_start(release: Release, tmp_path: Path) -> None:
    # The fake vLLM may ask; the guard must not.
    (tmp_path / "dns").mkdir()
    (tmp_path / "dns/sitecustomize.py").write_text(
        "import socket, sys, time\n"
        "socket.getfqdn = lambda name='': time.sleep(60 if 'llm_guard' in sys.argv[0] else 0)\n"
    )
    release.command("run", "qwen", PYTHONPATH=str(tmp_path / "dns"))
    until(lambda: ask(release)[0] in (200, 503))
