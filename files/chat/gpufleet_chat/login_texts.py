"""The words of the login page: added to the texts of Chainlit's page, in all of its languages."""

from __future__ import annotations

import json
from pathlib import Path

from gpufleet_chat.messages import Messages

REFUSED = "refused"
# The page looks a text up by a fixed key, so each time to wait has one of its own.
WAITS = (5, 10, 20, 30, 60, 120, 300, 600, 900)


def wait_key(seconds: int) -> str:
    """The key of the text that tells at least so many seconds, or the longest there is."""
    return f"wait{next((wait for wait in WAITS if wait >= seconds), WAITS[-1])}"


def write_translations(source: Path, target: Path, messages: Messages) -> None:
    """Copy the files of Chainlit's texts, with ours in the language of each, else in English."""
    target.mkdir()
    for path in sorted(source.glob("*.json")):
        texts = json.loads(path.read_text(encoding="utf-8"))
        login, language = texts["auth"]["login"], path.stem
        login["errors"] |= _errors(messages, language)
        if messages.has(language):
            email = login["form"]["email"]
            email["label"] = messages.text("login.name", language)
            email["required"] = messages.text("login.name_required", language)
            login["form"]["password"]["required"] = messages.text(
                "login.password_required", language
            )
            email["placeholder"] = ""
            login["title"] = messages.text("login.title", language)
        (target / path.name).write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")


def _errors(messages: Messages, language: str) -> dict[str, str]:
    waits = {wait_key(seconds): _wait_text(messages, language, seconds) for seconds in WAITS}
    return {REFUSED: messages.text("login.refused", language), **waits}


def _wait_text(messages: Messages, language: str, seconds: int) -> str:
    if seconds < 120:
        return messages.text("login.wait_seconds", language, seconds=str(seconds))
    return messages.text("login.wait_minutes", language, minutes=str(seconds // 60))
