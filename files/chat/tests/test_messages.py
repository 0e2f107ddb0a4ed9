"""The texts exist in every language, with the same keys and placeholders."""

from __future__ import annotations

import re

import pytest
from gpufleet_chat.messages import Messages
from gpufleet_chat.turn import Failure, Waiting

MESSAGES = Messages()


@pytest.mark.parametrize("language", MESSAGES.languages)
def test_languages_have_equal_keys_and_placeholders(language: str) -> None:
    assert MESSAGES.keys(language) == MESSAGES.keys("en")
    for key in MESSAGES.keys("en"):
        found = [set(re.findall(r"{\w+}", MESSAGES._texts[tag][key])) for tag in ("en", language)]
        assert found[0] == found[1], key


def test_every_reason_has_a_text() -> None:
    wanted = {reason.value for reason in (*Waiting, *Failure)}
    assert wanted <= MESSAGES.keys("en")


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("en-US", "en"),
        ("zh-CN", "zh-CN"),
        ("zh", "zh-CN"),
        ("zh-TW", "zh-CN"),
        ("de-DE", "en"),
        (None, "en"),
    ],
)
def test_language_follows_the_browser(tag: str | None, language: str) -> None:
    assert MESSAGES.choose(tag) == language


def test_reference_is_filled_in() -> None:
    assert "0a1b" in MESSAGES.text("failed.cut", "zh-CN", reference="0a1b")
