"""The gateway's API as a client uses it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx

QUESTION = "What is the capital of France?"


def ask(url: str, model: str, question: str = QUESTION, timeout: float = 60) -> str:
    """Return the whole answer to `question`; raises httpx.HTTPError when there is none."""
    response = httpx.post(
        f"{url}/v1/chat/completions", json=_body(model, question), timeout=timeout
    )
    response.raise_for_status()
    return str(response.json()["choices"][0]["message"]["content"])


def stream(url: str, model: str, question: str = QUESTION) -> Iterator[str]:
    """Yield the answer to `question` as it comes; the last event must be `[DONE]`."""
    body = {**_body(model, question), "stream": True}
    last = ""
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: "):
                last = line.removeprefix("data: ")
                if last != "[DONE]":
                    yield json.loads(last)["choices"][0]["delta"].get("content") or ""
    assert last == "[DONE]", f"the stream ended with {last}"


def answers(url: str, model: str) -> bool:
    """Return whether a question is answered now."""
    try:
        return "Paris" in ask(url, model, timeout=20)
    except httpx.HTTPError:
        return False


def _body(model: str, question: str) -> dict[str, object]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 32,
    }
