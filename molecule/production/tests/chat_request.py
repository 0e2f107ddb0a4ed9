"""One question to the gateway with a client's key."""

from __future__ import annotations

import httpx

BODY = {
    "model": "smollm2-135m-instruct",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "temperature": 0,
    "max_tokens": 16,
}


def ask(api: httpx.Client, key: str) -> httpx.Response:
    """Ask for the capital of France."""
    return api.post("/v1/chat/completions", json=BODY, headers={"Authorization": f"Bearer {key}"})
