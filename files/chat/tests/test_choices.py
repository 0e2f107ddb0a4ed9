"""What a person may choose, and what a forged page may not."""

from __future__ import annotations

import pytest
from gpufleet_chat.choices import ChoiceError, Choices
from gpufleet_chat.settings import Settings

SETTINGS = Settings(
    upstream_url="", state_directory="/tmp", system_prompt="Be brief.", max_tokens=100
)
DEFAULT = Choices.default(SETTINGS)


def test_without_a_choice_it_is_as_the_operator_has_set() -> None:
    assert Choices("Be brief.", None, 100, True) == DEFAULT


@pytest.mark.parametrize(
    ("values", "chosen"),
    [
        ({}, DEFAULT),
        ({"system_prompt": " Rhyme. "}, Choices("Rhyme.", None, 100)),
        ({"system_prompt": None}, Choices("", None, 100)),
        ({"temperature": "0,7"}, Choices("Be brief.", 0.7, 100)),
        ({"temperature": "0"}, Choices("Be brief.", 0.0, 100)),
        ({"temperature": "", "max_tokens": 1}, Choices("Be brief.", None, 1)),
        ({"max_tokens": 100.0, "think": False}, Choices("Be brief.", None, 100, False)),
        ({"unknown": object()}, DEFAULT),
    ],
)
def test_choices_are_taken(values: dict[str, object], chosen: Choices) -> None:
    assert DEFAULT.changed(values, SETTINGS) == chosen


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"system_prompt": "x" * 20_001}, "settings.refused.system_prompt"),
        ({"system_prompt": ["x"]}, "settings.refused.system_prompt"),
        ({"temperature": "warm"}, "settings.refused.temperature"),
        ({"temperature": "2.1"}, "settings.refused.temperature"),
        ({"temperature": "nan"}, "settings.refused.temperature"),
        ({"max_tokens": 101}, "settings.refused.max_tokens"),
        ({"max_tokens": 0}, "settings.refused.max_tokens"),
        ({"max_tokens": "many"}, "settings.refused.max_tokens"),
        ({"max_tokens": float("nan")}, "settings.refused.max_tokens"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, object], key: str) -> None:
    with pytest.raises(ChoiceError, match=f"^{key}$"):
        DEFAULT.changed(values, SETTINGS)
