"""Questions with the key of a client, logins to the chat, and the authority behind both."""

from __future__ import annotations

import os
from pathlib import Path

import httpx

# The one person of the inventory, which has the password's hash.
USER = ("operator", "planted-password-of-the-operator-1")
# Made by issue_certificate.sh for prepare.yml.
AUTHORITY = Path(os.environ["TEST_SSH_KEY"]).parents[1] / "ca"
BODY = {
    "model": "smollm2-135m-instruct",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "temperature": 0,
    "max_tokens": 16,
}


def ask(api: httpx.Client, key: str) -> httpx.Response:
    """Ask for the capital of France."""
    return api.post("/v1/chat/completions", json=BODY, headers={"Authorization": f"Bearer {key}"})


def log_in(api: httpx.Client) -> None:
    """Send the form of the login page; the client keeps the cookie."""
    form = dict(zip(("username", "password"), USER, strict=True))
    assert api.post("/login", data=form).status_code == 200
