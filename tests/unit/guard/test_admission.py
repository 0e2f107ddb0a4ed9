"""Whom an instance answers: nobody but the guard before its gate, nobody new while it stops."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from .conftest import Release, until
from .test_health import ask as ask_health


def others_get(release: Release, header: str | None = None) -> tuple[int, str]:
    """Ask for an answer as a gateway would; return status and text."""
    url = f"http://127.0.0.1:{release.port}"
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as metrics:
        assert metrics.status == 200
    headers = {} if header is None else {"X-LLM-Guard": header}
    try:
        request = urllib.request.Request(f"{url}/v1/completions", b"{}", headers)
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def serves(release: Release) -> bool:
    try:
        others_get(release)
    except OSError:
        return False
    return True


def test_others_are_answered_from_the_gate_until_the_stop(release: Release) -> None:
    release.behave(on_term="ignore")
    closed = release.path / "closed"
    # What a guard that was killed left behind.
    closed.touch()
    process = release.command("run", "qwen")
    until(lambda: serves(release))
    assert closed.stat().st_mode & 0o777 == 0o600
    status, text = others_get(release)
    assert (status, "starts or stops" in text) == (503, True)
    assert ask_health(release) == (503, "starting")
    assert release.ask("wait", "qwen")[0] == 0
    assert others_get(release)[0] == 200
    until(lambda: ask_health(release) == (200, "ready"))
    process.terminate()
    until(closed.exists)
    assert others_get(release)[0] == 503


def test_a_release_that_answers_wrong_answers_nobody(release: Release) -> None:
    release.settings["gate"] = {"level": "canary", "deadline_seconds": 20}
    release.behave(answer="Lyon")
    release.command("run", "qwen")
    status, output = release.ask("wait", "qwen")
    assert (status, "wrong_answer" in output) == (1, True), output
    assert others_get(release)[0] == 503


@pytest.mark.parametrize("header", ["", "guessed"])
def test_no_header_lets_anybody_in_while_it_stops(release: Release, header: str) -> None:
    release.behave(on_term="ignore")
    process = release.started()
    process.terminate()
    until((release.path / "closed").exists)
    assert others_get(release, header)[0] == 503
